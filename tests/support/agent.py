"""A coding agent on a scripted model, over real HTTP: for tests that must know every answer beforehand."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from variet.agent import opening
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import ApprovalRequested, EventBase
from variet.agent.guards import Limits
from variet.agent.model import EngineModel
from variet.agent.opening import Wishes
from variet.agent.permissions import Permissions
from variet.approval import Decision
from variet.connection import Connection
from variet.dev.scripted_model import Script, ScriptedModel
from variet.policy.action import Facts, Mode, Rule

ANY_COMMAND = (Rule("test", "shell", "", "allow"),)


@dataclass
class Server:
    """A scripted model that listens."""

    url: str
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False))

    async def bodies(self) -> list[str]:
        """Every request that came, byte by byte."""
        return list((await self._http.get(f"{self.url}/requests")).json())

    async def open(self) -> int:
        return int((await self._http.get(f"{self.url}/open")).json()["open"])

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def scripted(folder: Path, script: Any) -> AsyncIterator[Server]:
    """`script`: answers, or a whole script."""
    file = folder / "script.json"
    file.write_text(json.dumps({"answers": script} if isinstance(script, list) else script))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(ScriptedModel(Script(file)), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    shown = Server(f"http://127.0.0.1:{listening.getsockname()[1]}")
    try:
        yield shown
    finally:
        await shown.close()
        server.should_exit = server.force_exit = True
        await task


async def open_session(
    url: str, root: Path, *, mode: Mode = "auto-edit", rules: tuple[Rule, ...] = ANY_COMMAND, present: bool = True,
    limits: Limits | None = None, resume: str | None = None, trusted: bool = True,
    check: str = "", profile: str = "native",
) -> Conversation:  # fmt: skip
    model = EngineModel(Connection(url))
    permissions = Permissions(mode, Facts(rules, person_present=present, trusted=trusted))
    if resume:
        return await opening.again(resume, model, permissions, limits or Limits())
    return await opening.new(root, model, permissions, Wishes("balanced", profile, limits or Limits(), check=check))


async def turn(
    opened: Conversation, text: str, decide: Callable[[ApprovalRequested], Decision] | None = None
) -> list[EventBase]:
    """All events of one turn."""
    events: list[EventBase] = []
    async for event in run_prompt(opened, text):
        events.append(event)
        if isinstance(event, ApprovalRequested) and decide is not None:
            opened.decide(decide(event))
    return events


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """An answer of a script that calls a tool."""
    return {"calls": [{"name": tool, "arguments": arguments}]}


def decision(event: ApprovalRequested, choice: str, scope: str = "once", feedback: str | None = None) -> Decision:
    return Decision.model_validate(
        {"approval_id": event.approval.id, "payload_sha256": event.approval.payload_sha256, "choice": choice,
         "scope": scope, "feedback": feedback, "surface": "test"}
    )  # fmt: skip


def of(events: list[EventBase], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def assert_prefixes_grow(bodies: list[str]) -> None:
    """Each request repeats the one before byte by byte, up to the end of its messages."""
    ends = '],"stream":true'
    for earlier, later in itertools.pairwise(bodies):
        begin, end = earlier.rpartition(ends)[0], later.rpartition(ends)[0]
        assert end.startswith(begin), f"\n{begin[-300:]}\n---\n{end[max(0, len(begin) - 300) : len(begin) + 100]}"
