"""Records events: each gets its place, is written down, becomes part of what the model reads, and goes to readers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from variet.agent.events import DELTAS, EventBase
from variet.agent.runtime import Runtime
from variet.agent.sessions import writable

E = TypeVar("E", bound=EventBase)


class Journal:
    """Of one agent. `publish` hears each event once it is recorded. `turn_id`: of the turn under way."""

    def __init__(self, runtime: Runtime, publish: Callable[[EventBase], None]) -> None:
        self._runtime = runtime
        self._publish = publish
        self.turn_id = ""

    def begin_turn(self) -> None:
        self.turn_id = f"t{self._runtime.session.next_seq}"

    def record(self, event: E) -> E:
        """The event with its envelope. Raises SessionError where the log cannot be written."""
        session = self._runtime.session
        recorded = writable(self._in_its_place(event))
        if not isinstance(recorded, DELTAS):
            session.append(recorded)
            self._runtime.rendering.add(recorded)
        self._publish(recorded)
        return recorded

    def announce(self, event: EventBase) -> None:
        """Publish an event that the log does not get."""
        self._publish(self._in_its_place(event))

    def relay(self, event: EventBase) -> None:
        """Publish an event of a helper, which stands in the helper's own log; its place is of this session."""
        self._publish(event.model_copy(update={"seq": self._runtime.session.take_seq()}))

    def _in_its_place(self, event: E) -> E:
        session = self._runtime.session
        envelope = {
            "seq": session.take_seq(), "ts_ms": time.time_ns() // 1_000_000, "turn_id": self.turn_id,
            "session_id": session.header.id, "agent_id": self._runtime.agent_id, "parent_id": self._runtime.parent_id,
        }  # fmt: skip
        return event.model_copy(update=envelope)
