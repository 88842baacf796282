"""What readers of an open session follow, each at its own pace.

Readers share one list: a slow one holds nothing back and costs no memory. Recorded events stay as long as the session
is open. Events that stand in no log (deltas, progress, what helpers do) stay within a bound; a reader that falls behind
it misses pieces of an answer, and finds the whole answer in `message_done`.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence

from variet.agent.events import (
    EventBase,
    MessageDone,
    MessageDropped,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolEnded,
    ToolOutput,
    ToolRunning,
    TurnEnded,
)

_MOST_BYTES = 4_000_000  # of events that stand in no log
_ENVELOPE_BYTES = 400


class Feed:
    """`recorded`: the session's log in memory, which its journal appends to before it publishes."""

    def __init__(self, recorded: Sequence[EventBase], most_bytes: int = _MOST_BYTES) -> None:
        self._recorded = recorded
        self._most_bytes = most_bytes
        self._passing: deque[tuple[EventBase, int]] = deque()  # with their sizes
        self._bytes = 0
        self._under_way: dict[str, None] = {}  # messages and calls that have begun and not ended
        self._news = asyncio.Event()
        self._closed = False

    def publish(self, event: EventBase) -> None:
        """An event that has its place. Its readers wake."""
        if not self._is_recorded(event):
            size = _ENVELOPE_BYTES + _text_bytes(event)
            self._passing.append((event, size))
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= self._passing.popleft()[1]
            if work := _work_of(event):
                self._under_way[work] = None
        elif isinstance(event, MessageDone | MessageDropped):
            self._under_way.pop(event.message_id, None)
        elif isinstance(event, ToolEnded):
            self._under_way.pop(event.call_id, None)
        elif isinstance(event, TurnEnded):
            self._under_way.clear()
        self._wake()

    def close(self) -> None:
        """Readers end once they have read what is there."""
        self._closed = True
        self._wake()

    async def read(self, after: int = 0, *, again: bool = False) -> AsyncGenerator[EventBase, None]:
        """Events behind the place `after`, as they come, until the session is closed. `again`: the reader has seen all
        up to there; else pieces of answers and calls that have ended are left out."""
        fresh = not again
        while True:
            news, closed = self._news, self._closed
            for event in self._since(after, fresh=fresh):
                yield event
                after = event.seq
            fresh = False
            if closed:
                return
            await news.wait()

    def _since(self, after: int, *, fresh: bool) -> Iterator[EventBase]:
        recorded = self._recorded[bisect_right(self._recorded, after, key=_place) :]
        passing: deque[EventBase] = deque()
        for event, _ in reversed(self._passing):
            if event.seq <= after:
                break
            if not fresh or self._counts(event):
                passing.appendleft(event)
        return heapq.merge(recorded, passing, key=_place)

    def _counts(self, event: EventBase) -> bool:
        """Whether an event still tells something to a reader who comes only now."""
        if work := _work_of(event):
            return work in self._under_way
        newest = self._passing[-1][0] is event
        return newest and (not self._recorded or self._recorded[-1].seq < event.seq)

    def _is_recorded(self, event: EventBase) -> bool:
        return bool(self._recorded) and self._recorded[-1] is event

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _place(event: EventBase) -> int:
    return event.seq


def _work_of(event: EventBase) -> str:
    """The message or call that an event is a piece of; empty for progress."""
    if event.parent_id is not None:  # of a helper: its agent is named by role and call
        return event.agent_id.partition("-")[2]
    if isinstance(event, TextDelta | ReasoningDelta):
        return event.message_id
    return event.call_id if isinstance(event, ToolOutput | ToolRunning) else ""


def _text_bytes(event: EventBase) -> int:
    if isinstance(event, TextDelta | ReasoningDelta):
        return len(event.text)
    if isinstance(event, ToolOutput):
        return len(event.chunk)
    return 0 if isinstance(event, Progress | ToolRunning) else len(event.model_dump_json())
