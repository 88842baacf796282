"""A session's events as the messages one model reads. It only grows: what was sent once is never written differently.

The same events give the same bytes, whether they come one by one or from a log on disk; hence a session that is resumed
finds its prefix again. Only a compaction begins anew, behind the same system message and tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from variet.agent.events import (
    CallPart,
    Compacted,
    EventBase,
    InputAdded,
    MessageDone,
    ToolEnded,
    TurnEnded,
    TurnStarted,
)
from variet.agent.formats.base import Format, Message

_INTERRUPTED = "(interrupted)"


@dataclass(frozen=True, slots=True)
class Prefix:
    """What every request of a session begins with. `request`: its fields beside model and messages."""

    system: str
    request: dict[str, Any]


class Rendering:
    def __init__(self, prefix: Prefix, form: Format) -> None:
        self._prefix = prefix
        self._form = form
        self._first: list[Message] = [{"role": "system", "content": prefix.system}]
        self.messages: list[Message] = list(self._first)
        self._calls: list[CallPart] = []
        self._ended: dict[str, ToolEnded] = {}

    @property
    def open_calls(self) -> Sequence[CallPart]:
        """Calls of the last answer that have no result yet."""
        return [call for call in self._calls if call.call_id not in self._ended]

    @property
    def last_role(self) -> str:
        return str(self.messages[-1]["role"])

    def body(self, model: str) -> dict[str, Any]:
        """A request for the next answer."""
        asked = {"model": model, **self._prefix.request, "messages": self.messages}
        return {**asked, "stream": True, "stream_options": {"include_usage": True}}

    def add(self, event: EventBase) -> None:
        if isinstance(event, TurnStarted):
            self._user(f"{event.context}\n\n{event.input}" if event.context else event.input)
        elif isinstance(event, InputAdded):
            self._user(event.text)
        elif isinstance(event, MessageDone):
            self._calls, self._ended = [part for part in event.content if isinstance(part, CallPart)], {}
            self.messages.append(self._form.answer(event))
        elif isinstance(event, ToolEnded) and any(call.call_id == event.call_id for call in self._calls):
            self._ended[event.call_id] = event
            if not self.open_calls:
                self.messages += self._form.results([(call, self._ended[call.call_id]) for call in self._calls])
                self._calls = []
        elif isinstance(event, TurnEnded) and self.last_role != "assistant":
            # Two turns of a person in a row: many templates refuse that.
            self.messages.append({"role": "assistant", "content": _INTERRUPTED})
        elif isinstance(event, Compacted):
            self.messages = [*self._first, {"role": "user", "content": event.summary}]
            self._calls, self._ended = [], {}

    def _user(self, text: str) -> None:
        if self.last_role == "user":  # a result told as a person's turn, not sent yet
            text = f"{self.messages.pop()['content']}\n\n{text}"
        self.messages.append({"role": "user", "content": text})
