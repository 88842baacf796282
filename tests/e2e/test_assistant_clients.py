"""Somebody else's coding CLI, as it is published, with all three of Variet's servers of tools: a real engine whose
model is scripted, a broker, a strict Google, a real SearXNG.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import broker, person, waiting
from tests.support.google import google, message
from tests.support.other_clients import environment
from tests.support.scripted_engine import asked, scripted_engine
from tests.support.searxng import pages, searxng
from variet.approval import Decision
from variet.assistant.answers import STRANGERS
from variet.assistant.hands import hands

pytestmark = [pytest.mark.models, pytest.mark.clients, pytest.mark.timeout(300)]
_TOOLS = ("search__search", "mail__search", "calendar__agenda", "mail__send")
_LUNCH = {"to": ["ada@example.com"], "subject": "Lunch", "body": "Noon it is!"}


def _call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"name": f"mcp__{tool}", "arguments": arguments}


_SCRIPT = {
    "context_length": 65536,
    "conversations": [
        {"when": "look at my day", "by_turn": True, "repeat": True, "answers": [
            {"calls": [{"name": "WaitForMcpServers", "arguments": {}}], "first_ms": 8_000},  # else it does not wait
            {"calls": [_call("search__search", query="weather"), _call("mail__search", query="in:inbox"),
                       _call("calendar__agenda", begin="2026-12-01")]},
            {"calls": [_call("mail__send", **_LUNCH)]},
            {"say": "All is done."},
        ]},
        {"repeat": True, "answers": [{"say": "Yes."}]},
    ],
}  # fmt: skip


async def test_claude_code_looks_at_web_mail_and_calendar_and_sends_after_the_persons_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    async with (
        google() as strict, pages() as web, searxng(tmp_path / "searxng", web) as instance,
        scripted_engine(tmp_path, _SCRIPT) as engine,
    ):  # fmt: skip
        monkeypatch.setenv("VARIET_GOOGLE_URL", strict.url)
        web.hits = [{"url": "https://weather.example/", "title": "Sunny", "content": "all day"}]
        await strict.mail(message("Lunch?", "Are you free?"))
        await strict.event({"summary": "Dentist", "start": {"date": "2026-12-01"}, "end": {"date": "2026-12-02"}})
        desk = tmp_path / "desk"
        (desk / "config").mkdir(parents=True)
        (desk / "config" / "assistant.json").write_text(json.dumps({"search": {"url": instance}}))
        own = {"VARIET_HOME": str(desk), "VARIET_GOOGLE_URL": strict.url}
        servers = {name: {"command": sys.executable, "args": ["-m", "variet", "mcp", name], "env": own}
                   for name in ("search", "mail", "calendar")}  # fmt: skip
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
        env: dict[str, Any] = environment("claude-code", tmp_path / "home")
        assert (await engine.variet("connect", "claude-code", **env))[0] == 0
        async with broker(desk, hands=hands), person(desk) as owner:
            await strict.sign_in(owner)
            allowed = ",".join(f"mcp__{tool}" for tool in _TOOLS)
            process = await asyncio.create_subprocess_exec(
                "claude", "-p", "look at my day", "--output-format", "stream-json", "--verbose", "--strict-mcp-config",
                "--mcp-config", str(tmp_path / "mcp.json"), "--allowedTools", allowed, cwd=desk,
                env={**os.environ, **env, "VARIET_HOME": str(engine.home)}, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            ending = asyncio.create_task(process.communicate())
            asking = asyncio.create_task(waiting(owner))
            await asyncio.wait([ending, asking], timeout=200, return_when=asyncio.FIRST_COMPLETED)
            assert asking.done(), (await ending)[0].decode()[-3000:]
            approval = asking.result()
            assert approval.client.startswith("claude-code") and approval.tool == "mail.send"
            await owner.decide(
                Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice="approve")
            )
            out = (await ending)[0]
        assert process.returncode == 0 and "All is done." in out.decode(), out.decode()[-3000:]
        assert [one["Subject"] for one in await strict.sent()] == ["Lunch"]
    told = json.dumps(asked(tmp_path)[-1]["messages"])
    assert "Sunny" in told and "Lunch?" in told and "Dentist" in told and "sent, as message" in told
    assert told.count(STRANGERS) == 3, "whichever way a client hands an answer on"
