"""Pure: a session as Markdown, for people to read and keep."""

from __future__ import annotations

import time
from collections.abc import Sequence

from variet.agent.events import (
    Compacted,
    EventBase,
    InputAdded,
    MessageDone,
    TextPart,
    ToolEnded,
    ToolStarted,
    TurnStarted,
)  # fmt: skip
from variet.agent.sessions import Header

_MOST_RESULT = 2_000  # characters of a result


def markdown(header: Header, events: Sequence[EventBase]) -> str:
    """Who said what, which tools ran, and what they changed."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(header.created_ms / 1000))
    parts = [f"# Session {header.id}", f"{when} UTC, tier {header.tier}, profile {header.profile}"]
    for event in events:
        if isinstance(event, TurnStarted):
            parts.append(f"## {_line(event.input)}\n\n{event.input}")
        elif isinstance(event, InputAdded):
            parts.append(f"*{event.origin}:* {event.text}")
        elif isinstance(event, MessageDone):
            parts.append("".join(part.text for part in event.content if isinstance(part, TextPart)).strip())
        elif isinstance(event, ToolStarted):
            parts.append(f"**{event.tool}** {_line(event.summary)}")
        elif isinstance(event, ToolEnded):
            shown = "".join(diff.patch for diff in event.diffs) or event.content
            parts.append(_fenced(shown[:_MOST_RESULT], "diff" if event.diffs else ""))
        elif isinstance(event, Compacted):
            parts.append(f"*what is read from here on:*\n\n{event.summary}")
    return "\n\n".join(part for part in parts if part)


def _line(text: str) -> str:
    return " ".join(text.split())[:80]


def _fenced(text: str, language: str) -> str:
    """In a fence longer than any within."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"
