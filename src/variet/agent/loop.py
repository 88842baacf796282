"""The loop between a model and tools: ask, understand, judge, run, tell; an event at every step. It knows no surface.

A turn is one task; `run` hands its events on. Cancelling it closes the connection to the model and ends what tools run.
What counts is written to the session's log before it happens (a call) or as soon as it did (everything else).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from variet.agent import compaction
from variet.agent.attempts import Attempts, LimitMet
from variet.agent.checkpoints import Checkpoints
from variet.agent.events import (
    DELTAS,
    ApprovalRequested,
    ApprovalResolved,
    CallPart,
    CheckpointMade,
    Compacted,
    Decision,
    EventBase,
    InputAdded,
    MessageDone,
    MessageDropped,
    Notice,
    PlanChanged,
    Progress,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    TierChanged,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    ToolStatus,
    TurnEnded,
    TurnStarted,
    Usage,
    UsageTold,
)  # fmt: skip
from variet.agent.formats.base import Draft, Format, Understood
from variet.agent.formats.guide import guide
from variet.agent.formats.repair import sound
from variet.agent.guards import Limits, Nudge, nudge_for
from variet.agent.model import CallPiece, Finished, Model, ModelFacts, Piece, ReasoningPiece, TextPiece, Waiting
from variet.agent.permissions import Permissions
from variet.agent.prompt.preface import code_files
from variet.agent.rendering import Prefix, Rendering
from variet.agent.sessions import Session
from variet.agent.tools import lint
from variet.agent.tools.base import AnyTool, Place, Previews, Result, Toolbox
from variet.agent.tools.plan import PlanArgs
from variet.agent.workspace import Workspace
from variet.errors import AnswerFailed, CheckpointFailed, ContextFull, SessionError, StreamBroken, ToolFailed
from variet.policy.action import Sink

log = logging.getLogger("variet.agent")

_MOST_CONTENT = 32_000  # characters of a result that the model reads
_UNKNOWN = (400, 404, 422, 500, 501)  # how servers refuse a field that they do not know
_FENCED = re.compile(r"^```\w", re.MULTILINE)
_MOST_NAMED = 3  # files that may be at fault
_TAKE_OVER = (
    "The model before you got stuck here. You go on with the same task: look at how far the work is, and do not "
    "repeat what failed."
)
_PAUSES_S = (0.5, 2.0, 5.0, 10.0)  # before an answer that broke off is asked for again
E = TypeVar("E", bound=EventBase)


@dataclass
class Kit:
    """What an agent works with, all of it handed in. `check`: a person's command that tells whether work is done: it is
    run before the model is asked, and again when it says that it is done. `context_now`: what is told with a person's
    words, as it stands now. `take_over`: who goes on where this model does not get on, for the limit it met; None:
    nobody."""

    session: Session
    model: Model
    facts: ModelFacts
    form: Format
    tools: Toolbox
    workspace: Workspace
    permissions: Permissions
    rendering: Rendering
    limits: Limits = field(default_factory=Limits)
    sampling: dict[str, Any] = field(default_factory=dict)
    checkpoints: Checkpoints | None = None
    check: str = ""
    context_now: Callable[[], str] = lambda: ""
    profile: str = "native"
    agent_id: str = "main"
    parent_id: str | None = None
    take_over: Callable[[str], Awaitable[Seat | None]] | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """Another model at the same session: what its requests begin with, and how it is spoken to."""

    facts: ModelFacts
    profile: str
    form: Format
    prefix: Prefix


class Agent:
    """One conversation. One turn at a time: `run` while another runs raises RuntimeError."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._session = kit.session
        self._events: asyncio.Queue[EventBase | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._turn_id = ""
        self._steering: list[str] = []
        self._total = Usage()
        self._partial = Draft()
        self._input = ""
        self._failure = ""  # what the check said last
        self._written: dict[str, None] = {}  # files of this turn, in order
        self._sampling: dict[str, Any] = {}  # of the next answer, beside that of the kit
        self._unguided = False  # the server takes no schema, or no answer that was begun
        self._fruitless: list[str] = []  # files that were written as they are, since the last that was not
        self._used_tokens = 0  # of the context, as of the last answer
        for event in kit.session.events:
            kit.rendering.add(event)
            if isinstance(event, UsageTold):
                self._used_tokens = event.prompt + event.output

    # --- for surfaces ---

    def run(self, text: str, context: str = "") -> AsyncGenerator[EventBase, None]:
        """A person's words and all that follows. Closing the iterator cancels the turn."""
        return self._told(self._turn(text, context))

    def compact(self) -> AsyncGenerator[EventBase, None]:
        """Make the conversation shorter now."""
        return self._told(self._compact_now())

    async def _told(self, work: Coroutine[Any, Any, None]) -> AsyncGenerator[EventBase, None]:
        """The events of a piece of work, as they come."""
        if self._task is not None:
            work.close()
            raise RuntimeError("a turn is under way")
        self._turn_id = f"t{self._session.next_seq}"
        self._total = Usage()
        events: asyncio.Queue[EventBase | None] = asyncio.Queue()
        self._events = events
        self._task = task = asyncio.create_task(work)
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.gather(task, return_exceptions=True))
            self._task = None

    def cancel(self) -> None:
        """End the turn: `turn_ended` with reason `cancelled` is its last event."""
        if self._task is not None:
            self._task.cancel()

    def steer(self, text: str) -> None:
        """Words for the model as soon as the tools that run now are done."""
        self._steering.append(text)

    def sit(self, seat: Seat, reason: str) -> TierChanged:
        """Another model goes on from here; it reads the whole log. Raises RuntimeError while a turn is under way."""
        if self._task is not None:
            raise RuntimeError("a turn is under way")
        return self._sit(seat, reason)

    def answer(self, decision: Decision) -> str:
        """`ok`, `already_decided` or `payload_changed`."""
        return self._kit.permissions.answer(decision)

    # --- a turn ---

    async def _turn(self, text: str, context: str) -> None:
        self._input, self._failure = text, ""
        self._written, self._fruitless, self._sampling = {}, [], {}
        self._emit(TurnStarted(input=text, context=context))
        try:
            await self._work_on()
            self._end("done")
        except asyncio.CancelledError:
            self._keep_partial()
            self._end("cancelled")
        except LimitMet as limit:
            self._end("limit", str(limit))
        except (AnswerFailed, SessionError) as error:
            code = error.code if isinstance(error, AnswerFailed) else "session"
            self._emit(Notice(level="error", code=code or "failed", text=error.what, next=error.next_step))
            self._end("error", code or "failed")
        except Exception:
            self._end("error", "defect")
            raise

    async def _compact_now(self) -> None:
        """Outside a turn. Where it fails the question for a summary is told as interrupted, and the rest stays."""
        try:
            await self._compact()
        except asyncio.CancelledError:
            self._end("cancelled")
        except AnswerFailed as error:
            self._emit(Notice(level="error", code=error.code or "failed", text=error.what, next=error.next_step))
            self._end("error", error.code or "failed")

    async def _work_on(self) -> None:
        """Work, and where a model does not get on, hand over to the next. Raises LimitMet."""
        while True:
            try:
                return await self._work()
            except LimitMet as limit:
                seat = await self._kit.take_over(str(limit)) if self._kit.take_over and limit.weak else None
                if seat is None:
                    raise
                before = self._kit.facts.name
                self._sit(seat, f"{before} met a limit: {limit}")
                told = f"{before} does not get on ({limit}); {seat.facts.name} goes on"
                self._emit(Notice(level="warning", code="escalated", text=told))
                self._emit(InputAdded(origin="nudge", code="escalated", text=_TAKE_OVER))

    def _sit(self, seat: Seat, reason: str) -> TierChanged:
        kit = self._kit
        kit.facts, kit.profile, kit.form = seat.facts, seat.profile, seat.form
        kit.rendering = Rendering(seat.prefix, seat.form)
        for event in self._session.events:
            kit.rendering.add(event)
        return self._emit(
            TierChanged(tier=seat.facts.name, model=seat.facts.model, profile=seat.profile, reason=reason)
        )

    def _keep_partial(self) -> None:
        """What the model had said when it was interrupted: it has read that, and goes on from there."""
        if self._partial.text.strip():
            part = TextPart(text=self._partial.text)
            self._emit(MessageDone(message_id=f"m{self._session.next_seq}", content=(part,), finish="interrupted"))

    def _end(self, reason: Any, detail: str = "") -> None:
        for call in self._kit.rendering.open_calls:
            told = "The user interrupted this. It may have happened in part."
            self._emit(ToolEnded(call_id=call.call_id, status="interrupted", content=told))
        self._emit(TurnEnded(reason=reason, detail=detail, usage=self._total))

    async def _work(self) -> None:
        kit = self._kit
        attempts = Attempts(kit.limits, bool(kit.check), kit.form.small, self._named(kit.form.unwritten))
        full = False  # the context was, at the last answer
        if kit.check and await self._check_passes():
            return
        for _ in range(kit.limits.steps):
            steered = self._take_steering()
            if compaction.due(self._used_tokens, kit.facts.context_tokens):
                await self._compact()
            seed = self._session.stored[kit.profile].request.get("seed")
            self._sampling = attempts.sampling(seed)
            try:
                draft, understood = await self._step(guided=not steered)
            except ContextFull:
                if full:
                    raise
                full = True
                self._start_afresh()
                continue
            full = False
            if self._total.output > kit.limits.output_tokens:
                raise LimitMet("output_tokens")
            nudge = Nudge(understood.code, understood.nudge) if understood.nudge else None
            if understood.calls:
                then = attempts.after_calls(await self._run_calls(understood.calls))
            else:
                said = nudge or nudge_for(draft, sorted(kit.tools.tools))
                then = attempts.after_words(said, steered=bool(self._steering))
            if then.do == "done":
                return
            if then.do == "check":
                if await self._check_passes(start_over=kit.form.small, nudge=nudge):
                    return
                attempts.check_failed()
            elif then.do == "begin_again":
                self._begin_again(then.nudge)
            elif (told := then.nudge or nudge) is not None:
                self._emit(InputAdded(origin="nudge", code=told.code, text=told.text))
        raise LimitMet("steps")

    async def _check_passes(self, *, start_over: bool = False, nudge: Nudge | None = None) -> bool:
        """Runs the person's check; where it fails, the model reads what it says. `start_over`: only that, the task, the
        files as they are now and the `nudge`. What they got wrong before leads the smallest models astray again."""
        kit = self._kit
        call = CallPart(call_id=f"check_{self._session.next_seq}", tool="shell", args={"command": kit.check})
        end = await self._call(call, by_person=True)
        if end.status == "ok":
            self._failure = ""
            return True
        wrong = lint.of_files(kit.workspace, self._written) if kit.form.small else ""  # others heard it at the edit
        parts = (f"$ {kit.check}\n{end.content}", wrong, self._named(kit.form.check_failed))
        told = "\n\n".join(part for part in parts if part)
        self._failure = told
        if start_over:
            self._begin_again(nudge)
            return False
        self._emit(InputAdded(origin="nudge", code="check", text=told))
        return False

    def _named(self, words: str) -> str:
        """With the files that may be at fault, where they are few."""
        names = code_files(self._kit.workspace.root)
        return words.replace("{files}", " or ".join(names) if 0 < len(names) <= _MOST_NAMED else "file")

    def _begin_again(self, nudge: Nudge | None = None) -> None:
        """From the task, the files as they are now, what the check said of them, and why the last try led nowhere."""
        parts = (self._kit.context_now(), self._input, nudge.text if nudge else "", self._failure)
        fresh = "\n\n".join(part for part in parts if part)
        self._emit(Compacted(summary=fresh, through_seq=self._session.next_seq - 1))

    def _take_steering(self) -> bool:
        if not self._steering:
            return False
        text, self._steering = "\n".join(self._steering), []
        self._input = f"{self._input}\n\n{text}"
        self._emit(InputAdded(origin="steer", text=text))
        return True

    async def _compact(self) -> None:
        """The summary is asked for behind the same prefix: the model has read all of it already."""
        self._emit(InputAdded(origin="summarise", text=compaction.ASK))
        draft, _ = await self._step(summary=True)
        through = self._session.next_seq - 1
        summary = compaction.summary_of(self._session.events, draft.text or draft.reasoning)
        self._emit(Compacted(summary=summary, through_seq=through))
        self._used_tokens = 0

    def _start_afresh(self) -> None:
        """The conversation no longer fits, not even the question for a summary: what the person said is kept, and what
        changed is in the files."""
        told = "the conversation no longer fits into the model's context: it goes on from what you said, and the files"
        self._emit(Notice(level="warning", code="context_full", text=told))
        summary = compaction.summary_of(self._session.events, "")
        self._emit(Compacted(summary=summary, through_seq=self._session.next_seq - 1))
        self._used_tokens = 0

    # --- asking the model ---

    async def _step(self, *, summary: bool = False, guided: bool = False) -> tuple[Draft, Understood]:
        """One answer, asked for again where it breaks off. `guided`: led to a file, where that can be. Raises
        AnswerFailed."""
        kit = self._kit
        for attempt in range(kit.limits.tries):
            message_id = f"m{self._session.next_seq}"
            try:
                draft = await self._ask(message_id, guided=guided)
            except (StreamBroken, AnswerFailed) as error:
                last = attempt + 1 == kit.limits.tries
                refused = error.status in _UNKNOWN and not isinstance(error, ContextFull)
                if guided and self._guided and refused and not last:
                    log.info("no guided answers: %s", error)
                    self._emit(MessageDropped(message_id=message_id, reason=error.what))
                    self._unguided = True
                    continue
                answered = self._used_tokens > 0
                again = isinstance(error, StreamBroken) or (error.code == "unreachable" and answered)
                if isinstance(error, ContextFull) or not again or last:
                    raise
                self._emit(MessageDropped(message_id=message_id, reason=error.what))
                pause_s = _pause_s(error, attempt)
                told = f"{error.what}; asking again in {pause_s:g} s"
                self._emit(Notice(level="warning", code="retry", text=told))
                await asyncio.sleep(pause_s)
                continue
            understood = (
                Understood(draft.text)
                if summary
                else kit.form.understand(draft, kit.tools, kit.workspace, self._new_call_id())
            )
            reasoning = [ReasoningPart(text=draft.reasoning)] if draft.reasoning else []
            text = [TextPart(text=understood.text)] if understood.text else []
            content = (*reasoning, *text, *understood.calls)
            self._partial = Draft()
            self._emit(MessageDone(message_id=message_id, content=content, raw=understood.raw, finish=draft.finish))
            return draft, understood
        raise AssertionError("the last try raises")

    def _new_call_id(self) -> Any:
        seq, count = self._session.next_seq, iter(range(1, 10_000))
        return lambda: f"call_{seq}_{next(count)}"

    async def _ask(self, message_id: str, *, guided: bool) -> Draft:
        kit = self._kit
        body = {**kit.rendering.body(kit.facts.name), **kit.sampling, **self._sampling}
        opening = await self._opening(body) if guided and self._guided else ""
        self._partial = draft = Draft()
        sieve = kit.form.sieve(kit.tools)

        def said(text: str) -> None:
            if text:
                self._emit(TextDelta(message_id=message_id, text=text))

        if opening:
            body["messages"] = [*body["messages"], {"role": "assistant", "content": opening}]
            draft.text = opening
            said(sieve.feed(opening))
        async with contextlib.aclosing(kit.model.answer(body)) as stream:  # type: ignore[type-var]
            async for piece in _without(opening, stream):
                if isinstance(piece, TextPiece):
                    cut = kit.form.enough(draft.text + piece.text, checked=bool(kit.check), guided=bool(opening))
                    if cut is not None:
                        said(sieve.feed(piece.text[: max(0, cut - len(draft.text))]))
                        said(sieve.end()[0])
                        draft.text, draft.finish = (draft.text + piece.text)[:cut], "stop"
                        break
                    draft.text += piece.text
                    said(sieve.feed(piece.text))
                elif isinstance(piece, ReasoningPiece):
                    draft.reasoning += piece.text
                    self._emit(ReasoningDelta(message_id=message_id, text=piece.text))
                elif isinstance(piece, CallPiece):
                    while len(draft.calls) <= piece.index:
                        draft.calls.append(["", ""])
                    draft.calls[piece.index][0] += piece.name
                    draft.calls[piece.index][1] += piece.arguments
                elif isinstance(piece, Waiting):
                    self._tell_progress(piece.facts)
                elif isinstance(piece, Finished):
                    draft.finish = piece.finish
                    said(sieve.end()[0])
                    self._count(piece)
        if opening and _FENCED.search(draft.text, len(opening)):
            log.info("a server does not go on with answers that were begun")
            self._unguided, draft.text = True, draft.text[len(opening) :]
        return draft

    @property
    def _guided(self) -> bool:
        """Whether the next answer is led to a file: of the smallest models, behind a check that failed."""
        return self._kit.form.small and bool(self._kit.check and self._failure) and not self._unguided

    async def _opening(self, body: dict[str, Any]) -> str:
        """How the answer of a guided model begins; empty where it cannot be guided. Raises AnswerFailed."""
        way = guide(self._kit.workspace, self._input, self._written, self._fruitless)
        if way is None:
            return ""
        text = ""
        async with contextlib.aclosing(self._kit.model.answer({**body, **way.request})) as stream:  # type: ignore[type-var]
            async for piece in stream:
                if isinstance(piece, TextPiece):
                    text += piece.text
                elif isinstance(piece, Waiting):
                    self._tell_progress(piece.facts)
                elif isinstance(piece, Finished):
                    self._count(piece)
        try:
            return way.opening(text)
        except ValueError as error:
            log.info("a model was not held to a schema: %s", error)
            return ""

    def _tell_progress(self, facts: dict[str, Any]) -> None:
        known = {name: facts.get(name) for name in ("percent", "position", "left_ms", "reason")}
        if facts["stage"] in ("queue", "pull", "load", "restore", "prefill"):
            self._emit(Progress(stage=facts["stage"], tier=self._kit.facts.name, **known))

    def _count(self, piece: Finished) -> None:
        self._total = self._total + piece.usage
        if piece.known:
            self._used_tokens = piece.usage.prompt + piece.usage.output
        told = UsageTold(
            **piece.usage.model_dump(), limit=self._kit.facts.context_tokens,
            tier=piece.tier or self._kit.facts.name, model=piece.model or self._kit.facts.model,
        )  # fmt: skip
        self._emit(told)

    # --- running tools ---

    async def _run_calls(self, calls: Sequence[CallPart]) -> list[tuple[CallPart, ToolEnded]]:
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
        tool = self._kit.tools.find(call.tool)
        if tool is None or not tool.changes:
            return tool is not None
        try:
            return tool.sink(tool.args.model_validate(call.args), self._kit.workspace).looks
        except (ValidationError, ToolFailed):
            return False

    async def _side_by_side(self, calls: Sequence[CallPart]) -> list[tuple[CallPart, ToolEnded]]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(call)) for call in calls]
        except* (SessionError, AnswerFailed) as several:
            raise several.exceptions[0] from None
        return [(call, task.result()) for call, task in zip(calls, tasks, strict=True)]

    async def _call(self, call: CallPart, *, by_person: bool = False) -> ToolEnded:
        """One call, from its arguments to its end. What goes wrong in it is told to the model. `by_person`: it is what
        the person themselves said is to be run."""
        tool = self._kit.tools.find(call.tool)
        if tool is None:
            known = ", ".join(sorted(self._kit.tools.tools))
            return self._refuse(call, f"There is no tool {call.tool!r}. There are: {known}")
        if call.broken:
            return self._refuse(call, "The arguments are not valid JSON. Nothing was run. Call it again.", tool)
        try:
            args = tool.args.model_validate(call.args)
            sink = tool.sink(args, self._kit.workspace)
        except ValidationError as error:
            return self._refuse(call, _wrong_arguments(tool, error), tool)
        except (ToolFailed, OSError, ValueError) as error:
            return self._refuse(call, str(error), tool)
        paths = sink.targets if sink.kind in ("read", "write") else ()
        self._emit(
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
            return self._ended(call, "denied", refusal)
        result = await self._carry_out(call, tool, args, sink)
        if sink.kind == "write" and not result.failed:
            self._written.update(dict.fromkeys(sink.targets))
            self._fruitless = [] if result.diffs else [*self._fruitless, *sink.targets]
        if isinstance(args, PlanArgs):
            self._emit(PlanChanged(entries=args.entries()))
        return self._ended(call, "error" if result.failed else "ok", result.content, result)

    async def _permit(self, call: CallPart, tool: AnyTool, sink: Sink, args: Any) -> str:
        """Why not, or nothing. Raises ToolFailed for what could not be done anyway."""
        permissions = self._kit.permissions
        name = sink.targets[0] if sink.kind == "tool" else tool.name  # the one behind call_tool
        verdict = permissions.judge(name, sink)
        if verdict.answer == "allow":
            return ""
        if verdict.answer == "deny":
            return f"Not allowed: {verdict.reason}. Do it another way, or tell the user what you need."
        preview = tool.preview(args, self._kit.workspace) if isinstance(tool, Previews) else ""
        approval = permissions.ask(
            self._session.header.id, call.call_id, name, sink, call.args, verdict, tool.summary(args), preview
        )
        self._emit(ApprovalRequested(approval=approval))
        decision = await permissions.decision(approval)
        yes = decision.choice == "approve"
        state = "approved" if yes else "rejected"
        self._emit(ApprovalResolved(approval_id=approval.id, state=state, by=decision.surface or "person"))
        if yes:
            if decision.scope != "once":
                permissions.learn(name, sink, always=decision.scope == "always")
            return ""
        return "The user refused this." + (f" They say: {decision.feedback}" if decision.feedback else "")

    async def _carry_out(self, call: CallPart, tool: AnyTool, args: Any, sink: Sink) -> Result:
        """Between two checkpoints, where it may change files."""
        if tool.sink(args, self._kit.workspace) != sink:  # somebody moved a link meanwhile
            return Result("it leads elsewhere than when it was judged; nothing was done", failed=True)
        kept = self._kit.checkpoints
        if kept is None or sink.kind not in ("write", "shell"):
            return await self._run_tool(call, tool, args)
        only = [self._kit.workspace.resolve(one) for one in sink.targets] if sink.kind == "write" else None
        try:
            step = await kept.before(call.call_id, self._turn_id, tool.summary(args), only)
        except CheckpointFailed as error:
            self._kit.checkpoints = None
            self._emit(Notice(level="warning", code="no_undo", text=f"no undo: {error.what}", next=error.next_step))
            return await self._run_tool(call, tool, args)
        self._emit(CheckpointMade(id=step.id))
        try:
            return await self._run_tool(call, tool, args)
        finally:
            try:
                await kept.after(step)
            except CheckpointFailed as error:
                told = f"this step cannot be undone: {error.what}"
                self._emit(Notice(level="warning", code="no_undo", text=told, next=error.next_step))

    async def _run_tool(self, call: CallPart, tool: AnyTool, args: Any) -> Result:
        def say(chunk: str) -> None:
            self._emit(ToolOutput(call_id=call.call_id, chunk=chunk))

        try:
            return await tool.run(args, Place(self._kit.workspace, say, call.call_id, self._events.put_nowait))
        except ToolFailed as error:
            return Result(str(error), failed=True)
        except Exception as error:
            log.exception("tool %s failed", tool.name)  # a defect: the model hears of it, and the turn goes on
            return Result(f"{tool.name} failed: {type(error).__name__}: {error}", failed=True)

    def _refuse(self, call: CallPart, words: str, tool: AnyTool | None = None) -> ToolEnded:
        kind = tool.kind if tool else "other"
        self._emit(ToolStarted(call_id=call.call_id, tool=call.tool, kind=kind, args=call.args, summary=call.tool))
        return self._ended(call, "error", words)

    def _ended(self, call: CallPart, status: ToolStatus, content: str, result: Result | None = None) -> ToolEnded:
        if len(content) > _MOST_CONTENT:
            content = f"{content[: _MOST_CONTENT // 2]}\n… (left out) …\n{content[-_MOST_CONTENT // 2 :]}"
        diffs = result.diffs if result else ()
        return self._emit(ToolEnded(call_id=call.call_id, status=status, content=content or "(nothing)", diffs=diffs))

    def _emit(self, event: E) -> E:
        """Give an event its place, write it down, tell it."""
        stamped = event.model_copy(
            update={
                "seq": self._session.next_seq, "ts_ms": time.time_ns() // 1_000_000, "turn_id": self._turn_id,
                "session_id": self._session.header.id, "agent_id": self._kit.agent_id,
                "parent_id": self._kit.parent_id,
            }
        )  # fmt: skip
        stamped = _writable(stamped)
        self._session.next_seq += 1
        if not isinstance(stamped, DELTAS):
            self._session.append(stamped)
            self._kit.rendering.add(stamped)
        self._events.put_nowait(stamped)
        return stamped


async def _without(opening: str, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """An answer that was begun for the model: some servers repeat that beginning, others do not."""
    held = ""
    async for piece in pieces:
        if opening and isinstance(piece, TextPiece):
            held += piece.text
            if len(held) < len(opening) and opening.startswith(held):
                continue
            piece, opening = TextPiece(held.removeprefix(opening)), ""
        elif opening and held and isinstance(piece, Finished):
            yield TextPiece(held)
        yield piece


def _writable(event: E) -> E:
    """With halves of surrogate pairs replaced, as names of files have them: neither log nor request can hold any."""
    try:
        event.model_dump_json()
    except PydanticSerializationError:
        return type(event).model_validate(sound(event.model_dump()))
    return event


def _pause_s(error: AnswerFailed, attempt: int) -> float:
    told = error.code.removeprefix("retry_after:")
    if error.code.startswith("retry_after:") and told.isdigit():
        return min(60.0, float(told))
    return _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]


def _wrong_arguments(tool: AnyTool, error: ValidationError) -> str:
    wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors())
    needed = ", ".join(tool.args.model_json_schema(by_alias=False).get("properties", {}))
    return f"Wrong arguments for {tool.name}: {wrong}. It takes: {needed}. Nothing was run."
