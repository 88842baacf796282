"""Runs what a model calls: judged first, between two checkpoints where it may change files, told at every step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    CallPart,
    CheckpointMade,
    Notice,
    PlanChanged,
    ToolEnded,
    ToolOutput,
    ToolRunning,
    ToolStarted,
    ToolStatus,
)  # fmt: skip
from variet.agent.journal import Journal
from variet.agent.runtime import Runtime
from variet.agent.tools.base import AnyTool, Place, Previews, Result
from variet.agent.tools.plan import PlanArgs
from variet.errors import AnswerFailed, CheckpointFailed, SessionError, ToolFailed
from variet.policy.action import Sink
from variet.policy.decide import only_looks

log = logging.getLogger("variet.agent")

_MOST_CONTENT = 32_000  # characters of a result that the model reads


class Calls:
    """Of one agent. `written`: files of this turn, in order; `fruitless`: those that were written as they are, since
    the last that was not; `strayed`: a file was refused since then."""

    def __init__(self, runtime: Runtime, journal: Journal) -> None:
        self._runtime = runtime
        self._journal = journal
        self._tell = journal.record
        self.written: dict[str, None] = {}
        self.fruitless: list[str] = []
        self.strayed = False
        self._no_undo = ""

    async def run(self, calls: Sequence[CallPart]) -> list[tuple[CallPart, ToolEnded]]:
        """Neighbours that change nothing run side by side, the others in order."""
        ends: list[tuple[CallPart, ToolEnded]] = []
        batch: list[CallPart] = []
        for call in calls:
            if self._looks(call):
                batch.append(call)
                continue
            ends += await self._side_by_side(batch)
            batch = []
            ends += await self._side_by_side([call])
        return ends + await self._side_by_side(batch)

    def _looks(self, call: CallPart) -> bool:
        """Whether a call changes nothing."""
        tool = self._runtime.tools.find(call.tool)
        if tool is None or not tool.changes:
            return tool is not None
        try:
            return tool.sink(tool.args.model_validate(call.args), self._runtime.workspace).looks
        except (ValidationError, ToolFailed):
            return False

    async def _side_by_side(self, calls: Sequence[CallPart]) -> list[tuple[CallPart, ToolEnded]]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.call(call)) for call in calls]
        except* (SessionError, AnswerFailed) as several:
            raise several.exceptions[0] from None
        return [(call, task.result()) for call, task in zip(calls, tasks, strict=True)]

    async def call(self, call: CallPart, *, by_person: bool = False) -> ToolEnded:
        """One call, from its arguments to its end. What goes wrong in it is told to the model. `by_person`: it is what
        the person themselves said is to be run."""
        tool = self._runtime.tools.find(call.tool)
        if tool is None:
            known = ", ".join(sorted(self._runtime.tools.tools))
            return self._refuse(call, f"There is no tool {call.tool!r}. There are: {known}")
        if call.broken:
            return self._refuse(call, "The arguments are not valid JSON. Nothing was run. Call it again.", tool)
        try:
            args = tool.args.model_validate(call.args)
            sink = tool.sink(args, self._runtime.workspace)
        except ValidationError as error:
            return self._refuse(call, _wrong_arguments(tool, error), tool)
        except (ToolFailed, OSError, ValueError) as error:
            return self._refuse(call, str(error), tool)
        paths = sink.targets if sink.kind in ("read", "write") else ()
        self._tell(
            ToolStarted(
                call_id=call.call_id, tool=tool.name, kind=tool.kind, args=call.args, paths=paths,
                summary=tool.summary(args),
            )
        )  # fmt: skip
        try:
            refusal = "" if by_person else await self._permit(call, tool, sink, args)
        except ToolFailed as error:
            return self._ended(call, "error", str(error))
        if refusal:
            self.strayed = self.strayed or sink.kind == "write"
            return self._ended(call, "denied", refusal)
        self._tell(ToolRunning(call_id=call.call_id))
        result = await self._carry_out(call, tool, args, sink, by_person=by_person)
        if sink.kind == "write" and not result.failed:
            self.written.update(dict.fromkeys(sink.targets))
            self.fruitless = [] if result.diffs else [*self.fruitless, *sink.targets]
            self.strayed = self.strayed and not result.diffs
        if isinstance(args, PlanArgs):
            self._tell(PlanChanged(entries=args.entries()))
        return self._ended(call, "error" if result.failed else "ok", result.content, result)

    async def _permit(self, call: CallPart, tool: AnyTool, sink: Sink, args: Any) -> str:
        """Why not, or nothing. Raises ToolFailed for what could not be done anyway."""
        permissions = self._runtime.permissions
        name = sink.targets[0] if sink.kind == "tool" else tool.name  # the one behind call_tool
        verdict = permissions.judge(name, sink)
        if verdict.answer == "allow":
            return ""
        if verdict.answer == "deny":
            return f"Not allowed: {verdict.reason}. Do it another way, or tell the user what you need."
        preview = tool.preview(args, self._runtime.workspace) if isinstance(tool, Previews) else ""
        approval = permissions.ask(
            self._runtime.session.header.id, call.call_id, name, sink, call.args, verdict, tool.summary(args), preview
        )
        self._tell(ApprovalRequested(approval=approval))
        try:
            decision = await permissions.decision(approval)
        except asyncio.CancelledError:  # other surfaces that show the question take its buttons away
            self._tell(ApprovalResolved(approval_id=approval.id, state="expired", by="cancelled"))
            raise
        yes = decision.choice == "approve"
        state = "approved" if yes else "rejected"
        self._tell(ApprovalResolved(approval_id=approval.id, state=state, by=decision.surface or "person"))
        if yes:
            if decision.scope != "once":
                permissions.learn(name, sink, always=decision.scope == "always")
            return ""
        return "The user refused this." + (f" They say: {decision.feedback}" if decision.feedback else "")

    async def _carry_out(self, call: CallPart, tool: AnyTool, args: Any, sink: Sink, *, by_person: bool) -> Result:
        """Between two checkpoints, where it may change files."""
        if tool.sink(args, self._runtime.workspace) != sink:  # somebody moved a link meanwhile
            return Result("it leads elsewhere than when it was judged; nothing was done", failed=True)
        kept = self._runtime.checkpoints
        if kept is None or sink.kind not in ("write", "shell") or only_looks(sink):
            return await self._run_tool(call, tool, args, by_person=by_person)
        only = [self._runtime.workspace.resolve(one) for one in sink.targets] if sink.kind == "write" else None
        try:
            step = await kept.before(call.call_id, self._journal.turn_id, tool.summary(args), only)
        except CheckpointFailed as error:
            if self._no_undo != error.what:  # once; edits, which are kept file by file, can still be taken back
                self._no_undo = error.what
                told = f"what commands change here cannot be undone: {error.what}"
                self._tell(Notice(level="warning", code="no_undo", text=told, next=error.next_step))
            return await self._run_tool(call, tool, args, by_person=by_person)
        self._tell(CheckpointMade(id=step.id))
        try:
            return await self._run_tool(call, tool, args, by_person=by_person)
        finally:
            try:
                await kept.after(step)
            except CheckpointFailed as error:
                told = f"this step cannot be undone: {error.what}"
                self._tell(Notice(level="warning", code="no_undo", text=told, next=error.next_step))

    async def _run_tool(self, call: CallPart, tool: AnyTool, args: Any, *, by_person: bool) -> Result:
        def say(chunk: str) -> None:
            self._tell(ToolOutput(call_id=call.call_id, chunk=chunk))

        refused = None if by_person else self._runtime.permissions.refused_paths
        place = Place(self._runtime.workspace, say, call.call_id, self._journal.relay, refused)
        try:
            return await tool.run(args, place)
        except ToolFailed as error:
            return Result(str(error), failed=True)
        except Exception as error:
            log.exception("tool %s failed", tool.name)  # a defect: the model hears of it, and the turn goes on
            return Result(f"{tool.name} failed: {type(error).__name__}: {error}", failed=True)

    def _refuse(self, call: CallPart, words: str, tool: AnyTool | None = None) -> ToolEnded:
        kind = tool.kind if tool else "other"
        self._tell(ToolStarted(call_id=call.call_id, tool=call.tool, kind=kind, args=call.args, summary=call.tool))
        return self._ended(call, "error", words)

    def _ended(self, call: CallPart, status: ToolStatus, content: str, result: Result | None = None) -> ToolEnded:
        if len(content) > _MOST_CONTENT:
            content = f"{content[: _MOST_CONTENT // 2]}\n… (left out) …\n{content[-_MOST_CONTENT // 2 :]}"
        diffs = result.diffs if result else ()
        return self._tell(ToolEnded(call_id=call.call_id, status=status, content=content or "(nothing)", diffs=diffs))


def _wrong_arguments(tool: AnyTool, error: ValidationError) -> str:
    wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors())
    needed = ", ".join(tool.args.model_json_schema(by_alias=False).get("properties", {}))
    return f"Wrong arguments for {tool.name}: {wrong}. It takes: {needed}. Nothing was run."
