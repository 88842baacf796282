"""Tells events: each gets its place, is written down, becomes part of what the model reads, goes to who listens."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from pydantic_core import PydanticSerializationError

from variet.agent.events import DELTAS, EventBase
from variet.agent.formats.repair import sound
from variet.agent.kit import Kit

E = TypeVar("E", bound=EventBase)


class Teller:
    """`events`: of the turn under way, None behind the last one."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.events: asyncio.Queue[EventBase | None] = asyncio.Queue()
        self.turn_id = ""

    def begin(self) -> asyncio.Queue[EventBase | None]:
        """A turn's events, from here on."""
        self.turn_id = f"t{self._kit.session.next_seq}"
        self.events = asyncio.Queue()
        return self.events

    def emit(self, event: E) -> E:
        """As it was told."""
        session = self._kit.session
        stamped = event.model_copy(
            update={
                "seq": session.next_seq, "ts_ms": time.time_ns() // 1_000_000, "turn_id": self.turn_id,
                "session_id": session.header.id, "agent_id": self._kit.agent_id,
                "parent_id": self._kit.parent_id,
            }
        )  # fmt: skip
        stamped = _writable(stamped)
        session.next_seq += 1
        if not isinstance(stamped, DELTAS):
            session.append(stamped)
            self._kit.rendering.add(stamped)
        self.events.put_nowait(stamped)
        return stamped


def _writable(event: E) -> E:
    """With halves of surrogate pairs replaced, as names of files have them: neither log nor request can hold any."""
    try:
        event.model_dump_json()
    except PydanticSerializationError:
        return type(event).model_validate(sound(event.model_dump()))
    return event
