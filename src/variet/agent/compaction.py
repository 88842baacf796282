"""Pure: when a conversation must be made shorter, what the model is asked for that, and what it reads afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from variet.agent.events import Compacted, EventBase, InputAdded, TurnStarted

ASK = (
    "The conversation is about to exceed your context. Call no tool. Write a summary that you can go on from, in this "
    "order: what the user wants; what was done and which files changed; what was learnt (names, paths, commands, "
    "errors, word for word where it matters); what is left to do, the next step first."
)
_MOST_WORDS = 6_000  # characters of what a person said that stay word for word


def due(used_tokens: int, limit_tokens: int) -> bool:
    """Whether the next answer may no longer fit. A fifth of the context is kept free for it, 8,192 tokens at most."""
    return limit_tokens > 0 and used_tokens > limit_tokens - min(8192, limit_tokens // 5)


def summary_of(events: Sequence[EventBase], said: str) -> str:
    """What the model reads instead: the person's own words, the newest whole, and its own summary."""
    last = next((at for at in range(len(events) - 1, -1, -1) if isinstance(events[at], Compacted)), None)
    before = events[last] if last is not None else None
    earlier = before.summary if isinstance(before, Compacted) else ""
    kept: list[str] = []
    room = _MOST_WORDS
    context = ""
    for event in reversed(events[0 if last is None else last + 1 :]):
        if isinstance(event, TurnStarted):
            context = event.context or context
        words = event.input if isinstance(event, TurnStarted) else ""
        if isinstance(event, InputAdded) and event.origin == "steer":
            words = event.text
        if words and room > 0:
            kept.append(words if len(words) <= room else f"{words[:room]} …")
            room -= len(words)
    if last is not None:
        kept += [_words_in(earlier)]
    lines = "\n".join(f"- {words}" for words in reversed(kept) if words)
    return "\n\n".join(
        part for part in (context, f"What the user said so far:\n{lines}", _MARK + (said.strip() or _NONE)) if part
    )


_NONE = "(none was written: look at the files and at git to see how far the work is)"
_MARK = "Summary of the work so far:\n"


def _words_in(summary: str) -> str:
    """What an earlier compaction kept of the person's words."""
    begin = summary.find("What the user said so far:\n")
    end = summary.find(_MARK)
    return (
        summary[begin:end].removeprefix("What the user said so far:\n").strip().removeprefix("- ") if begin >= 0 else ""
    )
