"""Lines that anybody can cause keep to a measure: else whoever knocks all day fills the disk."""

from __future__ import annotations

from collections.abc import Callable

_MINUTE_MS = 60_000


class Flood:
    """Of each event so many a minute; the others are counted."""

    def __init__(self, most: int, now_ms: Callable[[], int]) -> None:
        self._most = most
        self._now_ms = now_ms
        self._since_ms: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def lets(self, event: str) -> tuple[bool, int]:
        """(whether this one may be written, how many were not in the minute that is over)."""
        left_out = 0
        if not 0 <= self._now_ms() - self._since_ms.get(event, -_MINUTE_MS) < _MINUTE_MS:
            left_out = max(0, self._seen.get(event, 0) - self._most)
            self._since_ms[event], self._seen[event] = self._now_ms(), 0
        self._seen[event] += 1
        return self._seen[event] <= self._most, left_out
