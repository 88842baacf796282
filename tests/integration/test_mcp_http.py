"""The servers of tools over HTTP: whose key it is counts, and nobody without one, nor a page of a browser, gets in."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

from tests.support.broker import broker, here, person, waiting
from tests.support.google import Google, message
from variet.approval import Decision
from variet.assistant.audit.log import lines
from variet.assistant.hands import hands
from variet.assistant.keys import Keys

pytestmark = pytest.mark.usefixtures("home")
HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}  # fmt: skip
TAKES = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", "mcp", "serve", "--port", str(port),
        env={**os.environ, "VARIET_HOME": str(home)}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        told = (await process.stderr.readline()).decode()
        assert "serving" in told, told + (await process.stderr.read()).decode()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def client(url: str, key: str, mode: str = "auto") -> AsyncIterator[Client]:
    me = Implementation(name="somebody-else", version="1")
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), client_info=me, mode=mode) as made,
    ):
        yield made


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_is_who_its_key_says_in_both_eras_of_the_protocol(strict: Google, home: Path, mode: str) -> None:
    key = Keys().add("chat-app")
    await strict.mail(message("Tea?", "At five?"))
    async with broker(home, hands=hands), person(home) as owner, serving(home) as url:
        await strict.sign_in(owner)
        async with client(f"{url}/mail", key, mode) as mail, client(f"{url}/calendar", key, mode) as calendar:
            found: Any = await mail.call_tool("search", {"query": "tea"})
            assert found.structured_content["hits"][0]["subject"] == "Tea?"
            assert not (await calendar.call_tool("agenda", {})).is_error
            sending = asyncio.create_task(
                mail.call_tool("archive", {"thread": found.structured_content["hits"][0]["thread"]})
            )
            approval = await waiting(owner)
            assert approval.client == "chat-app"
            await owner.decide(
                Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice="approve")
            )
            assert not (await sending).is_error
        assert [one["client"] for one in await owner.call("readers.list")] == ["chat-app"]
        assert {line["client"] for line in lines(here(home).audit) if "client" in line} == {"chat-app"}


async def test_nobody_gets_in_without_a_key_nor_from_a_page(home: Path) -> None:
    key = Keys().add("chat-app")
    good = {**TAKES, "authorization": f"Bearer {key}"}
    wrong = [
        (401, {**TAKES}), (401, {**TAKES, "authorization": "Bearer wrong"}), (401, {**TAKES, "authorization": key}),
        (421, {**good, "host": "evil.example"}), (403, {**good, "origin": "https://evil.example"}),
        (403, {**good, "origin": "null"}),
    ]  # fmt: skip
    async with serving(home) as url, httpx.AsyncClient(trust_env=False) as http:
        for status, headers in wrong:
            answer = await http.post(f"{url}/search", json=HELLO, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        assert "variet mcp key add" in (await http.get(f"{url}/search")).json()["error"]
        assert (await http.post(f"{url}/search", json=HELLO, headers=good)).status_code == 200
        assert Keys().drop("chat-app")
        assert (await http.post(f"{url}/search", json=HELLO, headers=good)).status_code == 401, "out at once"


async def test_a_session_is_its_clients_alone(home: Path) -> None:
    first, second = ({**TAKES, "authorization": f"Bearer {Keys().add(name)}"} for name in ("one", "two"))
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    async with serving(home) as url, httpx.AsyncClient(trust_env=False) as http:
        opened = await http.post(f"{url}/search", json=HELLO, headers=first)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        theirs = await http.post(f"{url}/search", json=listing, headers={**second, **session})
        own = await http.post(f"{url}/search", json=listing, headers={**first, **session})
        assert (theirs.status_code, own.status_code) == (404, 200)


async def test_keys_are_kept_as_hashes_and_none_is_the_agents(home: Path) -> None:
    first, second = Keys().add("chat-app"), Keys().add("chat-app")
    assert Keys().client_of(first) == "" and Keys().client_of(second) == "chat-app" and Keys().client_of("") == ""
    file = home / "state" / "mcp_keys.json"
    assert file.stat().st_mode & 0o777 == 0o600 and second not in file.read_text()
    for name in ("variet", "", "a\nb", "x" * 100):
        with pytest.raises(Exception, match="is no name"):
            Keys().add(name)
    file.write_text("{")
    with pytest.raises(Exception, match="cannot be read"):
        Keys().client_of(second)


async def test_what_cannot_be_served_is_told(home: Path) -> None:
    async def serve(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "mcp", "serve", *words, env={**os.environ, "VARIET_HOME": str(home)},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return (await process.communicate())[1].decode()

    assert "variet mcp key add NAME" in await serve()
    Keys().add("chat-app")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot be had" in await serve("--port", str(taken.getsockname()[1]))
