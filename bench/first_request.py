"""What a model must read before a coding agent's first word: ours beside OpenCode and Qwen Code, the same prompt in the
same small repository. A scripted model records each request; a real tokenizer counts it.

The clients come from npm (bench/clients) and have homes of their own. OpenCode is kept to loopback by a proxy that is
not there; Qwen Code asks a proxy for loopback, too, so that its statistics are switched off instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import other_clients
from tests.support.agent import scripted
from tests.support.engine import EngineProcess, embedded_config
from tests.support.small_tasks import TASKS

from bench.results import Results
from variet import paths

_PROMPT = "The tests of stats.py fail. Make them pass."
_MOST_S = 120
_TOKENIZER = "balanced"  # a tier of the embedded engine; its model is Qwen2.5-Coder


@dataclass(frozen=True, slots=True)
class Client:
    """`key`: as tests/support/other_clients.py knows it; `files`: what it wants in its home, by path; `<url>` in words
    and files is the model server's."""

    name: str
    key: str
    words: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]


def _clients() -> list[Client]:
    pinned = json.loads((other_clients.FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    opencode_name, qwen_name = f"OpenCode {pinned['opencode-ai']}", f"Qwen Code {pinned['@qwen-code/qwen-code']}"
    opencode = {
        "provider": {
            "local": {
                "npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "<url>/v1", "apiKey": "none"},
                "models": {"balanced": {"limit": {"context": 32768, "output": 4096}}},
            }
        },
        "autoupdate": False, "share": "disabled",
    }  # fmt: skip
    return [
        Client("variet code", "", (sys.executable, "-m", "variet", "code", "--tier", "balanced", _PROMPT),
               {"VARIET_ENGINE_URL": "<url>", "VARIET_HOME": "<home>/variet"}, {}),
        Client(opencode_name, "opencode", ("opencode", "run", "--format", "json", "-m", "local/balanced", _PROMPT),
               {}, {".config/opencode/opencode.json": json.dumps(opencode)}),
        Client(qwen_name, "qwen-code", ("qwen", "-p", _PROMPT, "--auth-type", "openai", "--yolo",
               "--output-format", "stream-json"),
               {"OPENAI_BASE_URL": "<url>/v1", "OPENAI_API_KEY": "none",
                "OPENAI_MODEL": "balanced"},
               {".qwen/settings.json": json.dumps({"privacy": {"usageStatisticsEnabled": False}})}),
    ]  # fmt: skip


def _install() -> None:
    """Raises SystemExit."""
    if subprocess.run(["make", "clients"], cwd=other_clients.ROOT).returncode != 0:
        raise SystemExit("first_request needs the clients beside it: `make clients` failed, its own message is above")


async def _first_request(client: Client, folder: Path) -> dict[str, Any]:
    """Of the requests that a client sends for one prompt, the first that offers tools, or the first."""
    home, work = folder / "home", folder / "work"
    shutil.copytree(TASKS / "totals", work, ignore=shutil.ignore_patterns("task.json"))
    async with scripted(folder, {"answers": [{"say": "Done."}], "repeat": True}) as server:

        def filled(text: str) -> str:
            return text.replace("<url>", server.url).replace("<home>", str(home))

        env = {
            **other_clients.environment(client.key, home),
            **{name: filled(value) for name, value in client.env.items()},
        }
        for name, text in client.files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(filled(text))
        words = [shutil.which(client.words[0], path=env["PATH"]) or client.words[0], *map(filled, client.words[1:])]
        process = await asyncio.create_subprocess_exec(
            *words, cwd=work, env=env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _MOST_S)
        except TimeoutError:
            os.killpg(process.pid, 9)
            said, _ = await process.communicate()
        bodies = [json.loads(body) for body in await server.bodies()]
    if not bodies:
        raise RuntimeError(f"{client.name} sent no request:\n{said.decode(errors='replace')[-2000:]}")
    return next((body for body in bodies if body.get("tools")), bodies[0])


async def _tokens(engine: EngineProcess, body: dict[str, Any]) -> int:
    """By the template and tokenizer of a real model."""
    messages = [{**one, "content": _text(one.get("content"))} for one in body["messages"]]
    asked = {"model": _TOKENIZER, "messages": messages, "tools": body.get("tools") or []}
    status, rendered = await engine.post("/apply-template", asked)
    if status != 200:
        raise RuntimeError(f"the template refused it: {rendered}")
    _, counted = await engine.post("/tokenize", {"model": _TOKENIZER, "content": rendered["prompt"]})
    return len(counted["tokens"])


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "".join(str(part.get("text", "")) for part in parts)


async def run(results: Results, rounds: int) -> None:
    """One case a client; its size hardly varies, so `rounds` are not needed."""
    lacking = [client for client in _clients() if not results.have("first request", client.name)]
    if not lacking:
        return
    _install()
    with tempfile.TemporaryDirectory(prefix="variet-bench-") as name:
        engine = EngineProcess(Path(name) / "engine", paths.models_dir())
        try:
            await engine.start(embedded_config())
            for number, client in enumerate(lacking):
                folder = Path(name) / str(number)
                folder.mkdir()
                body = await _first_request(client, folder)
                results.add(
                    "first request", client.name, "tokens",
                    median={
                        "whole": await _tokens(engine, body),
                        "system": await _tokens(engine, {"messages": body["messages"][:1]}),
                        "tools": len(body.get("tools") or []),
                    },
                )  # fmt: skip
        finally:
            engine.kill()
