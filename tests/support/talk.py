"""A conversation with the assistant in this process, on its real servers, with a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from variet.agent import opening
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import CallPart, EventBase, MessageDone, ToolEnded
from variet.agent.model import EngineModel
from variet.connection import Connection
from variet.surfaces import assistant


@dataclass
class Talk:
    opened: Conversation
    side: assistant.BrokeredConversation

    async def turn(self, text: str, seen: Callable[[EventBase], Awaitable[None]] | None = None) -> list[EventBase]:
        """All events of one turn; `seen` is told of each as it comes."""
        await self.side.said(text)
        events: list[EventBase] = []
        async for event in run_prompt(self.opened, text):
            events.append(event)
            if seen is not None:
                await seen(event)
        return events


@asynccontextmanager
async def talk(url: str, folder: Path, *, present: bool = False, name: str | None = None) -> AsyncIterator[Talk]:
    """As `variet ask --assistant` does it. `name`: of a session that is taken up again."""
    async with assistant.brokered(name) as side:
        opened = await opening.start(
            folder, EngineModel(Connection(url)), opening.Wishes("balanced", "native", kind="assistant"), "ask",
            present=present, name=name, brokered=side.servers(present=present),
        )  # fmt: skip
        try:
            side.keep(opened)
            async with assistant.followed(side, opened):
                yield Talk(opened, side)
        finally:
            await opened.close()


def ends(events: list[EventBase]) -> list[tuple[str, str]]:
    """(status, what the model read) of each call, in the order in which it was called."""
    told = {event.call_id: (event.status, event.content) for event in events if isinstance(event, ToolEnded)}
    return [told[one] for one in called(events)]


def called(events: list[EventBase]) -> list[str]:
    """The calls' ids, in the model's order."""
    answers = [event for event in events if isinstance(event, MessageDone)]
    return [part.call_id for event in answers for part in event.content if isinstance(part, CallPart)]


def calls(*wanted: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """An answer of a script that calls several tools at once."""
    return {"calls": [{"name": name, "arguments": args} for name, args in wanted]}
