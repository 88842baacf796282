"""What happened in the engine, for whoever listens: a bounded list that listeners read at their own pace.

A listener that is too slow loses the oldest and is told so; it never holds up the engine or another listener.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["request", "moment", "swap", "context"]


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    kind: Kind
    tell: Callable[[], Mapping[str, Any]]  # made only for those who listen


class Feed:
    """Used from the engine's event loop only."""

    def __init__(self, keep: int = 1000) -> None:
        self.closed = False
        self.last = 0  # the number of the newest item
        self._items: deque[Item] = deque(maxlen=keep)
        self._waiting: set[asyncio.Future[None]] = set()

    def publish(self, kind: Kind, tell: Callable[[], Mapping[str, Any]]) -> None:
        """`tell` may be called at any time later, and more than once."""
        self.last += 1
        self._items.append(Item(self.last, kind, tell))
        self._wake()

    def after(self, number: int) -> tuple[list[Item], int]:
        """Items younger than one, and how many of these are lost already."""
        items = [one for one in self._items if one.number > number]
        first = items[0].number if items else self.last + 1
        return items, max(0, first - number - 1)

    async def news(self, number: int, timeout_s: float) -> None:
        """Wait until there is something younger, at most so long; returns at once when closed."""
        if self.closed or self.last > number:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait([waiting], timeout=timeout_s)
        finally:
            self._waiting.discard(waiting)

    def close(self) -> None:
        """Nothing more will happen: listeners may go."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
