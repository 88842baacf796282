"""Events of a session as updates of the protocol: words, thoughts, tool cards with diffs, the plan, usage.

What the protocol has no word for is a card, too (a model that loads), or text (a notice); programs find the event
itself under `_meta`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acp import helpers, schema

from variet.agent.events import (
    CallPart,
    Compacted,
    Diff,
    EventBase,
    InputAdded,
    MessageDone,
    Notice,
    PlanChanged,
    Progress,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    TierChanged,
    ToolEnded,
    ToolKind,
    ToolOutput,
    ToolRunning,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UsageTold,
)  # fmt: skip

_KINDS: dict[ToolKind, Any] = {
    "read": "read", "search": "search", "edit": "edit", "execute": "execute", "fetch": "fetch", "think": "think",
    "delegate": "other", "other": "other",
}  # fmt: skip
_STATES: dict[str, Any] = {"pending": "pending", "active": "in_progress", "done": "completed"}
_STAGES = {
    "queue": "Waiting for",
    "pull": "Fetching",
    "load": "Loading",
    "restore": "Bringing back",
    "prefill": "Reading on",
}
_SOON_S = 1.0  # reading that takes no longer is not worth a card
_OUTPUT_GAP_S = 0.2  # between two updates of a command's output
_MOST_OUTPUT = 20_000  # characters of output that are shown while it runs
_HUNK = re.compile(r"^@@ .*$", re.MULTILINE)


class Updates:
    """Of one session. Feed it every event in order."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._outputs: dict[str, str] = {}
        self._told_at: dict[str, float] = {}
        self._asked_at = 0.0
        self._waits = 0  # cards of waiting so far
        self._waiting = ""  # the card that is open

    def of(self, event: EventBase) -> Iterator[Any]:
        """What an editor is told of an event."""
        if event.parent_id is not None:
            yield from self._of_helper(event)
            return
        if isinstance(event, Progress):
            yield from self._wait(event)
            return
        yield from self._arrived()
        if isinstance(event, TextDelta):
            yield helpers.update_agent_message_text(event.text)
        elif isinstance(event, ReasoningDelta):
            yield helpers.update_agent_thought_text(event.text)
        elif isinstance(event, ToolStarted):
            yield self._started(event)
        elif isinstance(event, ToolRunning):
            yield helpers.update_tool_call(event.call_id, status="in_progress")
        elif isinstance(event, ToolOutput):
            yield from self._output(event.call_id, event.chunk)
        elif isinstance(event, ToolEnded):
            yield self._ended(event)
        elif isinstance(event, PlanChanged):
            entries = [helpers.plan_entry(one.text, status=_STATES[one.state]) for one in event.entries]
            yield helpers.update_plan(entries)
        elif isinstance(event, UsageTold):
            yield schema.UsageUpdate(
                session_update="usage_update", used=event.prompt + event.output, size=event.limit,
                field_meta={"variet": event.model_dump()},
            )  # fmt: skip
        elif isinstance(event, TierChanged):
            yield helpers.update_agent_message_text(f"\n*{event.words}.*\n\n")
        elif isinstance(event, Notice):
            way_out = f" {event.next}" if event.next else ""
            yield helpers.update_agent_message_text(f"\n*{event.level}: {event.text}.{way_out}*\n\n")
        elif isinstance(event, TurnStarted | InputAdded | Compacted | TurnEnded):
            self._asked_at = time.monotonic()

    def replay(self, event: EventBase) -> Iterator[Any]:
        """What an editor is told of an event of the past."""
        if isinstance(event, TurnStarted):
            yield helpers.update_user_message_text(event.input)
        elif isinstance(event, InputAdded) and event.origin == "steer":
            yield helpers.update_user_message_text(event.text)
        elif isinstance(event, MessageDone):
            for part in event.content:
                if isinstance(part, TextPart):
                    yield helpers.update_agent_message_text(part.text)
                elif isinstance(part, ReasoningPart):
                    yield helpers.update_agent_thought_text(part.text)
                else:
                    assert isinstance(part, CallPart)
        elif isinstance(event, ToolStarted | ToolEnded | PlanChanged | UsageTold):
            yield from self.of(event)

    # --- tool cards ---

    def _started(self, event: ToolStarted) -> schema.ToolCallStart:
        self._outputs[event.call_id] = ""
        return helpers.start_tool_call(
            event.call_id, event.summary or event.tool, kind=_KINDS[event.kind], status="pending",
            locations=[schema.ToolCallLocation(path=str(self._root / path)) for path in event.paths],
            raw_input=event.args,
        )  # fmt: skip

    def _output(self, call_id: str, chunk: str) -> Iterator[Any]:
        told = self._outputs[call_id] = (self._outputs.get(call_id, "") + chunk)[-_MOST_OUTPUT:]
        now = time.monotonic()
        if now - self._told_at.get(call_id, 0.0) >= _OUTPUT_GAP_S:
            self._told_at[call_id] = now
            yield helpers.update_tool_call(call_id, content=[_text(told)])

    def _ended(self, event: ToolEnded) -> schema.ToolCallProgress:
        self._outputs.pop(event.call_id, None)
        self._told_at.pop(event.call_id, None)
        diffs = [part for diff in event.diffs for part in diffs_of(diff, self._root)]
        return helpers.update_tool_call(
            event.call_id, status="completed" if event.status == "ok" else "failed",
            content=diffs or [_text(event.content)], raw_output={"status": event.status, "content": event.content},
        )  # fmt: skip

    def _of_helper(self, event: EventBase) -> Iterator[Any]:
        """What a helper does stands in the card of the call that sent it."""
        if isinstance(event, ToolStarted):
            yield from self._output(event.agent_id.partition("-")[2], f"{event.summary or event.tool}\n")

    # --- waiting ---

    def _wait(self, event: Progress) -> Iterator[Any]:
        if not self._waiting:
            if event.stage in ("restore", "prefill") and time.monotonic() - self._asked_at < _SOON_S:
                return
            self._waits += 1
            self._waiting = f"wait-{event.seq}-{self._waits}"
            yield helpers.start_tool_call(self._waiting, _waiting(event), kind="other", status="in_progress")
            return
        yield helpers.update_tool_call(self._waiting, title=_waiting(event))

    def _arrived(self) -> Iterator[Any]:
        if self._waiting:
            name, self._waiting = self._waiting, ""
            yield helpers.update_tool_call(name, status="completed")


def diffs_of(diff: Diff, root: Path) -> list[Any]:
    """The changed pieces of a file, each as it was and as it is."""
    pieces = []
    for hunk in _HUNK.split(diff.patch)[1:]:
        lines = [line for line in hunk.split("\n")[1:] if line and not line.startswith("\\")]
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        old = before if diff.before_sha256 is not None else None
        pieces.append(helpers.tool_diff_content(str(root / diff.path), after, old))
    return pieces


def _text(text: str) -> Any:
    return helpers.tool_content(helpers.text_block(text))


def _waiting(event: Progress) -> str:
    place = f", place {event.position}" if event.position else ""
    share = f" {event.percent:.0f}%" if event.percent is not None else ""
    left = f", {event.left_ms / 1000:.0f} s left" if event.left_ms else ""
    return f"{_STAGES[event.stage]} {event.tier}{share}{place}{left}"
