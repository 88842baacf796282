"""Pure: what a session is called."""

from __future__ import annotations

_MOST = 80  # characters


def title_of(words: str) -> str:
    """As long as nobody names it, a session is called by its first words; empty for none."""
    return " ".join(words.split())[:_MOST]
