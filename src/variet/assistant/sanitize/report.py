"""What was taken out of a text before a model read it."""

from __future__ import annotations

from collections import Counter

_NAMES = {
    "hidden": ("hidden passage", "hidden passages"),
    "image": ("remote image", "remote images"),
    "pixel": ("tracking pixel", "tracking pixels"),
    "link": ("link whose text named another site", "links whose text named another site"),
    "late": ("part that took too long to look at", "parts that took too long to look at"),
    "unseen": ("invisible character", "invisible characters"),
}


class Removed(Counter[str]):
    """Counts by kind: hidden, image, pixel, link, late, unseen."""

    def told(self) -> str:
        """In words; empty where nothing was removed."""
        parts = [f"{n} {_NAMES[kind][n != 1]}" for kind, n in self.items() if n]
        return f"removed: {', '.join(parts)}" if parts else ""
