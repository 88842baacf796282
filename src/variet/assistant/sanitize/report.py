"""What was taken out of a text before a model read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_NAMES = {
    "hidden": ("hidden passage", "hidden passages"),
    "image": ("remote image", "remote images"),
    "pixel": ("tracking pixel", "tracking pixels"),
    "link": ("link whose text named another site", "links whose text named another site"),
    "unseen": ("invisible character", "invisible characters"),
}


class Removed(Counter[str]):
    """Counts by kind: hidden, image, pixel, link, unseen."""

    def told(self) -> str:
        """In words; empty where nothing was removed."""
        return told(self)


def told(counts: Mapping[str, int]) -> str:
    parts = [f"{n} {_NAMES[kind][n != 1]}" for kind, n in counts.items() if n]
    return f"removed: {', '.join(parts)}" if parts else ""
