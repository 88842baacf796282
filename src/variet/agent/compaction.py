"""Pure: when a conversation must be made shorter, what the model is asked for that, and what it reads afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from variet.agent.events import EventBase, InputAdded, TurnStarted

ASK = (
    "The conversation is about to exceed your context. Call no tool. Write a summary that you can go on from, in this "
    "order: what the user wants; what was done and which files changed; what was learnt (names, paths, commands, "
    "errors, word for word where it matters); what is left to do, the next step first."
)
_MOST_WORDS = 6_000  # characters of what a person said that stay word for word


def due(used_tokens: int, limit_tokens: int) -> bool:
    """Whether the next answer may no longer fit. A fifth of the context is kept free for it, 8,192 tokens at most."""
    return limit_tokens > 0 and used_tokens > limit_tokens - min(8192, limit_tokens // 5)


def summary_of(events: Sequence[EventBase], said: str, context: str = "") -> str:
    """What the model reads instead: the context as it stands now, else the last that was told, the person's own words,
    the newest whole, and its own summary. Words come from the whole log: an earlier compaction loses none of them."""
    kept: list[str] = []
    room = _MOST_WORDS
    for event in reversed(events):
        if isinstance(event, TurnStarted):
            context = context or event.context
        words = event.input if isinstance(event, TurnStarted) else ""
        if isinstance(event, InputAdded) and event.origin == "steer":
            words = event.text
        if words and room > 0:
            kept.append(words if len(words) <= room else f"{words[:room]} …")
            room -= len(words)
    lines = "\n".join(f"- {words}" for words in reversed(kept))
    summary = f"Summary of the work so far:\n{said.strip() or _NONE}"
    return "\n\n".join(part for part in (context, f"What the user said so far:\n{lines}", summary) if part)


_NONE = "(none was written: look at the files and at git to see how far the work is)"
