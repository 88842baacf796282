"""Pure: the last turns of a session, for a person who comes back to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from variet.agent.events import EventBase, InputAdded, MessageDone, TextPart, ToolEnded, ToolStarted, TurnStarted

_MOST_WORDS = 2_000  # characters of an answer


@dataclass
class Turn:
    """`words`: the person's; `answer`: the model's last; `calls`: what it did, a line each; `failed`: how many of them
    did not succeed."""

    words: str
    answer: str = ""
    calls: list[str] = field(default_factory=list)
    failed: int = 0


def last_turns(events: Sequence[EventBase], most: int = 2) -> tuple[list[Turn], int]:
    """(the last turns, how many came before them)."""
    turns: list[Turn] = []
    for event in events:
        if event.parent_id is not None:
            continue
        if isinstance(event, TurnStarted):
            turns.append(Turn(event.input))
        elif not turns:
            continue
        elif isinstance(event, InputAdded) and event.origin == "steer":
            turns[-1].words += f"\n{event.text}"
        elif isinstance(event, MessageDone):
            text = "".join(part.text for part in event.content if isinstance(part, TextPart)).strip()
            turns[-1].answer = text or turns[-1].answer
        elif isinstance(event, ToolStarted):
            turns[-1].calls.append(event.summary or event.tool)
        elif isinstance(event, ToolEnded):
            turns[-1].failed += event.status != "ok"
    return turns[-most:], max(0, len(turns) - most)


def shortened(answer: str) -> str:
    """The end of a long answer: what it came to stands there."""
    return answer if len(answer) <= _MOST_WORDS else f"… {answer[-_MOST_WORDS:]}"
