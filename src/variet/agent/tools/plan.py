"""`plan`: the list of what is to be done, seen by the person; the model sends it whole each time."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from variet.agent.events import PlanEntry, ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Workspace
from variet.policy.action import Sink

_STATES: dict[str, Literal["pending", "active", "done"]] = {
    "in_progress": "active", "in-progress": "active", "doing": "active", "active": "active",
    "completed": "done", "complete": "done", "done": "done",
}  # fmt: skip


class PlanArgs(Args):
    steps: list[str] = Field(
        description='All steps; "[x] " before done ones, "[>] " before the current one',
        validation_alias=AliasChoices("steps", "entries", "todos", "plan", "items"),
    )

    @field_validator("steps", mode="before")
    @classmethod
    def _as_lines(cls, value: Any) -> Any:
        """Models also write {"content": ..., "status": ...}, or one string."""
        if isinstance(value, str):
            return [line for line in value.splitlines() if line.strip()]
        if not isinstance(value, list):
            return value
        return [_line(one) if isinstance(one, dict) else one for one in value]

    def entries(self) -> tuple[PlanEntry, ...]:
        return tuple(_entry(step) for step in self.steps)


class Plan:
    name = "plan"
    description = "Show the user your plan for work of three steps and more."
    kind: ToolKind = "think"
    changes = True  # in order with the rest
    args = PlanArgs

    def sink(self, args: PlanArgs, workspace: Workspace) -> Sink:
        return Sink("think")

    def summary(self, args: PlanArgs) -> str:
        done = sum(one.state == "done" for one in args.entries())
        return f"plan: {done} of {len(args.steps)} done"

    async def run(self, args: PlanArgs, place: Place) -> Result:
        return Result("shown")


def _line(step: dict[str, Any]) -> str:
    text = next((str(step[key]) for key in ("content", "text", "step", "title", "description") if step.get(key)), "")
    state = _STATES.get(str(step.get("status") or step.get("state") or ""), "pending")
    return {"done": "[x] ", "active": "[>] ", "pending": ""}[state] + text


def _entry(step: str) -> PlanEntry:
    text = step.strip().removeprefix("- ")
    for mark, state in (("[x]", "done"), ("[X]", "done"), ("[>]", "active"), ("[ ]", "pending")):
        if text.startswith(mark):
            return PlanEntry(text=text[len(mark) :].strip(), state=state)
    return PlanEntry(text=text)
