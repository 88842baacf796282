"""`task`: a helper with a context of its own that looks into something and reports; several run side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from variet.agent.events import ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Workspace
from variet.policy.action import Sink

HelperRole = Literal["explore", "plan", "review"]
Send = Callable[[HelperRole, str, Place], Awaitable[Result]]


class TaskArgs(Args):
    prompt: str = Field(
        description="All it needs to know, and what to report",
        validation_alias=AliasChoices("prompt", "task", "description", "instructions"),
    )
    role: HelperRole = Field("explore", validation_alias=AliasChoices("role", "agent", "subagent_type"))

    @field_validator("role", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        """Other agents have other names for their helpers; most of them look around."""
        return value if value in ("explore", "plan", "review") else "explore"


class Task:
    name = "task"
    description = "Send a helper to read and report; it changes nothing. Several in one answer run side by side."
    kind: ToolKind = "delegate"
    changes = False
    args = TaskArgs

    def __init__(self, send: Send | None = None) -> None:
        self._send = send

    def sink(self, args: TaskArgs, workspace: Workspace) -> Sink:
        return Sink("think")  # what the helper does is judged call by call

    def summary(self, args: TaskArgs) -> str:
        return f"{args.role}: {' '.join(args.prompt.split())[:100]}"

    async def run(self, args: TaskArgs, place: Place) -> Result:
        if self._send is None:
            return Result("there are no helpers here", failed=True)
        return await self._send(args.role, args.prompt, place)
