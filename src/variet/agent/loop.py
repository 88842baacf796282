"""The loop between a model and tools: ask, understand, judge, run, tell; an event at every step. It knows no surface.

A turn is one task; `run` hands its events on. Cancelling it closes the connection to the model and ends what tools run.
What counts is written to the session's log before it happens (a call) or as soon as it did (everything else).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import replace
from typing import Any

from variet.agent import compaction
from variet.agent.answers import Answers
from variet.agent.attempts import Attempts, LimitMet
from variet.agent.calls import Calls
from variet.agent.checks import cannot_run
from variet.agent.durations import without_durations
from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    CallPart,
    Compacted,
    EventBase,
    InputAdded,
    MessageDone,
    ModeChanged,
    Notice,
    TextPart,
    TierChanged,
    ToolEnded,
    TurnEnded,
    TurnStarted,
    Usage,
    UsageTold,
)  # fmt: skip
from variet.agent.formats.base import Draft
from variet.agent.formats.guide import Guide, guide
from variet.agent.guards import Nudge, nudge_for, only_says
from variet.agent.kit import Kit, Seat
from variet.agent.prompt.preface import code_files
from variet.agent.rendering import Rendering
from variet.agent.teller import Teller
from variet.agent.tools import lint
from variet.approval import Approval, Decision
from variet.errors import AnswerFailed, CheckFailed, ContextFull, SessionError
from variet.policy.action import Mode

log = logging.getLogger("variet.agent")

_MOST_NAMED = 3  # files that may be at fault
_TAKE_OVER = (
    "The model before you got stuck here. You go on with the same task: look at how far the work is, and do not "
    "repeat what failed."
)


class Agent:
    """One conversation. One turn at a time: `run` while another runs raises RuntimeError."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._session = kit.session
        self._task: asyncio.Task[None] | None = None
        self._steering: list[str] = []
        self._teller = Teller(kit)
        self._tell = self._teller.emit
        self._answers = Answers(kit, self._teller)
        self._calls = Calls(kit, self._teller)
        self._waiting: set[str] = set()  # approvals of another room
        self._meanwhile: dict[str, Approval] = {}
        self._input = ""
        self._failure = ""  # what the check said last
        self._begun = self._cancelled = False  # of the turn under way
        for event in kit.session.events:
            kit.rendering.add(event)
            if isinstance(event, UsageTold):
                self._answers.used_tokens = event.prompt + event.output

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
        self._answers.total, self._answers.partial = Usage(), Draft()
        events = self._teller.begin()
        self._begun = self._cancelled = False
        self._task = task = asyncio.create_task(self._begin(work))
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

    async def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that is cancelled before its first step ends without a word: the turn could not tell its end."""
        self._begun = True
        if self._cancelled and self._task is not None:
            self._task.cancel()
        await work

    def cancel(self) -> None:
        """End the turn: `turn_ended` with reason `cancelled` is its last event."""
        self._cancelled = True
        if self._task is not None and self._begun:
            self._task.cancel()

    def set_mode(self, mode: Mode) -> ModeChanged | None:
        """What it may do from here on; part of the log. None where nothing changes."""
        if mode == self._kit.permissions.mode == self._session.last_mode:
            return None
        self._kit.permissions.mode = mode
        return self._tell(ModeChanged(mode=mode))

    def steer(self, text: str) -> None:
        """Words for the model as soon as the tools that run now are done."""
        self._steering.append(text)

    def sit(self, seat: Seat, reason: str) -> TierChanged:
        """Another model goes on from here; it reads the whole log. Raises RuntimeError while a turn is under way."""
        if self._task is not None:
            raise RuntimeError("a turn is under way")
        return self._sit(seat, reason)

    def told_of(self, approval: Approval) -> None:
        """Of another room's approval, as it is now: surfaces hear of it among the events, once when it waits and once
        when it does no more; between two turns, with the next one. Decided there, not by `answer`."""
        if self._task is None:
            self._meanwhile[approval.id] = approval
            return
        waits = approval.state == "pending"
        if waits and approval.id not in self._waiting:
            self._waiting.add(approval.id)
            self._tell(ApprovalRequested(approval=approval))
        elif not waits and approval.id in self._waiting:
            self._waiting.discard(approval.id)
            by = approval.surface or approval.decided_by or "nobody"
            self._tell(ApprovalResolved(approval_id=approval.id, state=approval.state, by=by))

    def answer(self, decision: Decision) -> str:
        """`ok`, `already_decided` or `payload_changed`."""
        return self._kit.permissions.answer(decision)

    # --- a turn ---

    async def _turn(self, text: str, context: str) -> None:
        self._input, self._failure = text, ""
        self._calls.written, self._calls.fruitless, self._calls.strayed = {}, [], False
        self._tell(TurnStarted(input=text, context=context))
        meanwhile, self._meanwhile = self._meanwhile, {}
        for approval in meanwhile.values():
            self.told_of(approval)
        try:
            await self._get_to_know()
            await self._work_on()
            self._end("done")
        except asyncio.CancelledError:
            self._keep_partial()
            self._end("cancelled")
        except LimitMet as limit:
            self._end("limit", str(limit))
        except (AnswerFailed, CheckFailed, SessionError) as error:
            code = "session" if isinstance(error, SessionError) else error.code or "failed"
            self._tell(Notice(level="error", code=code, text=error.what, next=error.next_step))
            self._end("error", code)
        except Exception:
            self._end("error", "defect")
            raise

    async def _get_to_know(self) -> None:
        """The first time with a model it is tried what it can do."""
        kit = self._kit
        if not kit.untried or kit.get_to_know is None:
            return
        told = f"the first time with {kit.facts.model}: trying what it can do, once"
        self._tell(Notice(code="new_model", text=told))
        try:
            seat = await kit.get_to_know(self._answers.tell_progress)
        except AnswerFailed as error:  # the turn meets it again, and tells it
            log.info("%s could not be tried: %s", kit.facts.name, error)
            return
        kit.untried = False
        if seat is not None:
            self._sit(seat, "it suits what the model did", tried=True)
            if seat.form.small:  # it is to be shown the files
                self._begin_again()

    async def _compact_now(self) -> None:
        """Outside a turn. Where it fails the question for a summary is told as interrupted, and the rest stays."""
        try:
            await self._compact()
        except asyncio.CancelledError:
            self._end("cancelled")
        except AnswerFailed as error:
            self._tell(Notice(level="error", code=error.code or "failed", text=error.what, next=error.next_step))
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
                self._tell(Notice(level="warning", code="escalated", text=told))
                await self._get_to_know()
                self._tell(InputAdded(origin="nudge", code="escalated", text=_TAKE_OVER))

    def _sit(self, seat: Seat, reason: str, *, tried: bool = False) -> TierChanged:
        kit = self._kit
        kit.facts, kit.profile, kit.form, kit.untried = seat.facts, seat.profile, seat.form, seat.untried
        kit.permissions.keep_tests(kit.form.small and bool(kit.check))
        kit.rendering = Rendering(seat.prefix, seat.form)
        for event in self._session.events:
            kit.rendering.add(event)
        facts = seat.facts
        return self._tell(
            TierChanged(tier=facts.name, model=facts.model, profile=seat.profile, reason=reason, tried=tried)
        )

    def _keep_partial(self) -> None:
        """What the model had said when it was interrupted: it has read that, and goes on from there."""
        if self._answers.partial.text.strip():
            part = TextPart(text=self._answers.partial.text)
            self._tell(MessageDone(message_id=f"m{self._session.next_seq}", content=(part,), finish="interrupted"))

    def _end(self, reason: Any, detail: str = "") -> None:
        for call in self._kit.rendering.open_calls:
            told = "The user interrupted this. It may have happened in part."
            self._tell(ToolEnded(call_id=call.call_id, status="interrupted", content=told))
        if self._steering:  # they belong to this turn: the next turn would surprise with them
            left, self._steering = "\n".join(self._steering), []
            self._tell(Notice(code="steering_left", text=f"the turn ended before the model heard: {left}"))
        self._tell(TurnEnded(reason=reason, detail=detail, usage=self._answers.total))

    async def _work(self) -> None:
        kit = self._kit
        unwritten = self._named(kit.form.unwritten) if kit.check else kit.form.idle
        held = kit.permissions.mode == "plan"
        attempts = Attempts(kit.limits, bool(kit.check), kit.form.small, unwritten, held or not kit.tools.changes)
        full = reminded = False  # the context was, at the last answer; it was reminded that it only talked
        if kit.check and await self._check_passes():
            return
        if cannot_run(kit.check, self._failure):
            raise CheckFailed(
                f"the check cannot be run: {kit.check.split()[0]} is not there for commands, or does not start",
                next_step="Run it yourself in this folder; it may lie where the sandbox does not look (docs/agent.md)",
            )
        for _ in range(kit.limits.steps):
            steered = self._take_steering()
            if compaction.due(self._answers.used_tokens, kit.facts.context_tokens):
                await self._compact()
            seed = self._session.stored[kit.profile].request.get("seed")
            try:
                draft, understood = await self._answers.next(
                    attempts.sampling(seed), way=None if steered else self._way(idle=reminded)
                )
            except ContextFull:
                if full:
                    raise
                full = True
                self._start_afresh()
                continue
            full = False
            if self._answers.total.output > kit.limits.output_tokens:
                raise LimitMet("output_tokens")
            nudge = Nudge(understood.code, understood.nudge) if understood.nudge else None
            if understood.calls:
                then = attempts.after_calls(await self._calls.run(understood.calls))
            else:
                said = nudge or nudge_for(draft, sorted(kit.tools.tools))
                idle = only_says(understood.text)
                then = attempts.after_words(said, steered=bool(self._steering), idle=idle)
            reminded = then.nudge is not None and then.nudge.code == "unwritten"
            if then.do == "done":
                return
            if then.do == "check":
                if await self._check_passes(start_over=kit.form.small, nudge=nudge):
                    return
                attempts.check_failed()
            elif then.do == "begin_again":
                self._begin_again(then.nudge)
            elif (told := then.nudge or nudge) is not None:
                self._tell(InputAdded(origin="nudge", code=told.code, text=told.text))
        raise LimitMet("steps")

    def _way(self, *, idle: bool) -> Guide | None:
        """Where the next answer is led to: of the smallest models, behind a check that failed, or where it only
        talked."""
        kit = self._kit
        if not kit.form.guided or not ((kit.check and self._failure) or idle):
            return None
        calls = self._calls
        way = guide(kit.workspace, self._input, calls.written, calls.fruitless, self._failure, strayed=calls.strayed)
        return replace(way, may_decline=True) if way is not None and not kit.check else way

    async def _check_passes(self, *, start_over: bool = False, nudge: Nudge | None = None) -> bool:
        """Runs the person's check; where it fails, the model reads what it says. `start_over`: only that, the task, the
        files as they are now and the `nudge`. What they got wrong before leads the smallest models astray again."""
        kit = self._kit
        call = CallPart(call_id=f"check_{self._session.next_seq}", tool="shell", args={"command": kit.check})
        end = await self._calls.call(call, by_person=True)
        if end.status == "ok":
            self._failure = ""
            return True
        # As it is said every time: files by the names that a model writes.
        said = without_durations(end.content).replace(f"{kit.workspace.root}{os.sep}", "")
        # Others heard it at the edit.
        wrong = lint.of_files(kit.workspace, self._calls.written) if kit.form.small else ""
        parts = (f"$ {kit.check}\n{said}", wrong, self._named(kit.form.check_failed))
        told = "\n\n".join(part for part in parts if part)
        self._failure = told
        if start_over:
            self._begin_again(nudge)
            return False
        self._tell(InputAdded(origin="nudge", code="check", text=told))
        return False

    def _named(self, words: str) -> str:
        """With the files that may be at fault, where they are few."""
        names = code_files(self._kit.workspace.root)
        return words.replace("{files}", " or ".join(names) if 0 < len(names) <= _MOST_NAMED else "file")

    def _begin_again(self, nudge: Nudge | None = None) -> None:
        """From the task, the files as they are now, what the check said of them, and why the last try led nowhere."""
        parts = (self._kit.context_now(), self._input, nudge.text if nudge else "", self._failure)
        fresh = "\n\n".join(part for part in parts if part)
        self._tell(Compacted(summary=fresh, through_seq=self._session.next_seq - 1))
        self._answers.used_tokens = 0

    def _take_steering(self) -> bool:
        if not self._steering:
            return False
        text, self._steering = "\n".join(self._steering), []
        self._input = f"{self._input}\n\n{text}"
        self._tell(InputAdded(origin="steer", text=text))
        return True

    async def _compact(self) -> None:
        """The summary is asked for behind the same prefix: the model has read all of it already."""
        self._tell(InputAdded(origin="summarise", text=compaction.ASK))
        draft, _ = await self._answers.next({}, summary=True)
        through = self._session.next_seq - 1
        said, context = draft.text or draft.reasoning, self._kit.context_now()
        summary = compaction.summary_of(self._session.events, said, context)
        self._tell(Compacted(summary=summary, through_seq=through))
        self._answers.used_tokens = 0

    def _start_afresh(self) -> None:
        """The conversation no longer fits, not even the question for a summary: what the person said is kept, and what
        changed is in the files."""
        told = "the conversation no longer fits into the model's context: it goes on from what you said, and the files"
        self._tell(Notice(level="warning", code="context_full", text=told))
        summary = compaction.summary_of(self._session.events, "", self._kit.context_now())
        self._tell(Compacted(summary=summary, through_seq=self._session.next_seq - 1))
        self._answers.used_tokens = 0
