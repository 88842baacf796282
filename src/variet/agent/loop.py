"""The loop between a model and tools: ask, understand, judge, run, tell; an event at every step. It knows no surface.

A turn is one task. Cancelling it closes the connection to the model and ends what tools run.
What counts is written to the session's log before it happens (a call) or as soon as it did (everything else).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
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
from variet.agent.journal import Journal
from variet.agent.prompt.preface import code_files
from variet.agent.rendering import Rendering
from variet.agent.runtime import ModelBinding, Runtime
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
    """Works on one session. `publish` hears each event. Its owner runs `turn` and `compact` as tasks, one at a time,
    and cancels the task to end it: the last event of a turn is `turn_ended`, however it ends."""

    def __init__(self, runtime: Runtime, publish: Callable[[EventBase], None]) -> None:
        self._runtime = runtime
        self._session = runtime.session
        self._steering: list[str] = []
        self._journal = Journal(runtime, publish)
        self._tell = self._journal.record
        self._answers = Answers(runtime, self._journal)
        self._calls = Calls(runtime, self._journal)
        self._broker_waits: set[str] = set()  # approvals of the broker that wait for a person
        self._broker_news: dict[str, Approval] = {}  # of the broker's, since the last turn
        self._working = False
        self._input = ""
        self._failure = ""  # what the check said last
        for event in runtime.session.events:
            runtime.rendering.add(event)
            if isinstance(event, UsageTold):
                self._answers.used_tokens = event.prompt + event.output
            elif isinstance(event, ApprovalRequested) and event.approval.origin == "broker":
                self._broker_waits.add(event.approval.id)
            elif isinstance(event, ApprovalResolved):
                self._broker_waits.discard(event.approval_id)

    # --- for its conversation ---

    async def turn(self, text: str, context: str = "", *, prompt_id: str = "", surface: str = "") -> None:
        """Works on a person's words until the end."""
        self._begin()
        self._input, self._failure = text, ""
        self._calls.written, self._calls.fruitless, self._calls.strayed = {}, [], False
        try:
            self._tell(TurnStarted(input=text, context=context, prompt_id=prompt_id, surface=surface))
            news, self._broker_news = self._broker_news, {}
            for approval in news.values():
                self.hear(approval)
            await self._to_its_end(self._work_on_prompt())
        except Exception as error:  # noqa: BLE001 - `_break_off` tells readers the error; the session goes on
            self._break_off(error)
        finally:
            self._working = False

    async def compact(self) -> None:
        """Makes the conversation shorter now. Where that fails the rest stays as it is."""
        self._begin()
        try:
            await self._to_its_end(self._compact(), ends=False)
        except Exception as error:  # noqa: BLE001 - `_break_off` tells readers the error; the session goes on
            self._break_off(error)
        finally:
            self._working = False

    def set_mode(self, mode: Mode) -> None:
        """What it may do from here on; part of the log."""
        if not mode == self._runtime.permissions.mode == self._session.last_mode:
            self._runtime.permissions.mode = mode
            self._tell(ModeChanged(mode=mode))

    def steer(self, text: str) -> None:
        """Words for the model as soon as the tools that run now are done."""
        self._steering.append(text)

    def note(self, event: EventBase) -> None:
        """Record what happened to the session beside its turns."""
        self._tell(event)

    def note_or_announce(self, event: EventBase) -> None:
        """The same; where the log cannot be written, readers hear of it all the same."""
        try:
            self._tell(event)
        except SessionError:
            self._journal.announce(event)

    def bind(self, binding: ModelBinding, reason: str, *, tried: bool = False) -> None:
        """Another model goes on from here; it reads the whole log. Between two turns."""
        runtime = self._runtime
        runtime.facts, runtime.profile = binding.facts, binding.profile
        runtime.form, runtime.untried = binding.form, binding.untried
        runtime.permissions.keep_tests(runtime.form.small and bool(runtime.check))
        runtime.rendering = Rendering(binding.prefix, binding.form)
        for event in self._session.events:
            runtime.rendering.add(event)
        facts = binding.facts
        self._tell(
            TierChanged(
                tier=facts.name, model=facts.model, profile=binding.profile, reason=reason, tried=tried,
                context_tokens=facts.context_tokens,
            )
        )  # fmt: skip

    def hear(self, approval: Approval) -> None:
        """An approval of the broker, as it is now: surfaces hear of it among the events, once when it waits and once
        when it does no more; between two turns, with the next one. Decided there, not by `decide`."""
        if not self._working:
            self._broker_news[approval.id] = approval
            return
        waits = approval.state == "pending"
        if waits and approval.id not in self._broker_waits:
            self._broker_waits.add(approval.id)
            self._tell(ApprovalRequested(approval=approval))
        elif not waits and approval.id in self._broker_waits:
            self._broker_waits.discard(approval.id)
            by = approval.surface or approval.decided_by or "nobody"
            self._tell(ApprovalResolved(approval_id=approval.id, state=approval.state, by=by))

    def decide(self, decision: Decision) -> str:
        """`ok`, `already_decided` or `payload_changed`."""
        return self._runtime.permissions.answer(decision)

    # --- a turn ---

    def _begin(self) -> None:
        if self._working:
            raise RuntimeError("a turn is under way")
        self._working = True
        self._answers.total, self._answers.partial = Usage(), Draft()
        self._journal.begin_turn()

    async def _work_on_prompt(self) -> None:
        await self._get_to_know()
        await self._work_on()

    async def _to_its_end(self, work: Coroutine[Any, Any, None], *, ends: bool = True) -> None:
        """Work, and its end as an event. `ends`: also where it succeeds."""
        try:
            await work
            if ends:
                self._end("done")
        except asyncio.CancelledError:
            self._keep_partial()
            self._end("cancelled")
            raise
        except LimitMet as limit:
            self._end("limit", str(limit))
        except (AnswerFailed, CheckFailed, SessionError) as error:
            code = "session" if isinstance(error, SessionError) else error.code or "failed"
            self._tell(Notice(level="error", code=code, text=error.what, next=error.next_step))
            self._end("error", code)

    def _break_off(self, error: Exception) -> None:
        """The end of a turn by a defect, or because its log cannot be written: readers hear of it in any case."""
        if isinstance(error, SessionError):
            notice = Notice(level="error", code="session", text=error.what, next=error.next_step)
        else:
            log.error("a turn ended by a defect", exc_info=error)
            told = f"a defect of Variet ended this turn: {type(error).__name__}: {error}"
            notice = Notice(level="error", code="defect", text=told)
        try:
            self._tell(notice)
            self._end("error", notice.code)
        except SessionError:
            self._journal.announce(notice)
            self._journal.announce(TurnEnded(reason="error", detail=notice.code, usage=self._answers.total))

    async def _get_to_know(self) -> None:
        """The first time with a model it is tried what it can do."""
        runtime = self._runtime
        if not runtime.untried or runtime.get_to_know is None:
            return
        told = f"the first time with {runtime.facts.model}: trying what it can do, once"
        self._tell(Notice(code="new_model", text=told))
        try:
            binding = await runtime.get_to_know(self._answers.tell_progress)
        except AnswerFailed as error:  # the turn meets it again, and tells it
            log.info("%s could not be tried: %s", runtime.facts.name, error)
            return
        runtime.untried = False
        if binding is not None:
            self.bind(binding, "it suits what the model did", tried=True)
            if binding.form.small:  # it is to be shown the files
                self._begin_again()

    async def _work_on(self) -> None:
        """Work, and where a model does not get on, hand over to the next. Raises LimitMet."""
        while True:
            try:
                return await self._work()
            except LimitMet as limit:
                binding = await self._runtime.take_over(str(limit)) if self._runtime.take_over and limit.weak else None
                if binding is None:
                    raise
                before = self._runtime.facts.name
                self.bind(binding, f"{before} met a limit: {limit}")
                told = f"{before} does not get on ({limit}); {binding.facts.name} goes on"
                self._tell(Notice(level="warning", code="escalated", text=told))
                await self._get_to_know()
                self._tell(InputAdded(origin="nudge", code="escalated", text=_TAKE_OVER))

    def _keep_partial(self) -> None:
        """What the model had said when it was interrupted: it has read that, and goes on from there."""
        if self._answers.partial.text.strip():
            part = TextPart(text=self._answers.partial.text)
            self._tell(MessageDone(message_id=f"m{self._session.next_seq}", content=(part,), finish="interrupted"))

    def _end(self, reason: Any, detail: str = "") -> None:
        for call in self._runtime.rendering.open_calls:
            told = "The user interrupted this. It may have happened in part."
            self._tell(ToolEnded(call_id=call.call_id, status="interrupted", content=told))
        if self._steering:  # they belong to this turn: the next turn would surprise with them
            left, self._steering = "\n".join(self._steering), []
            self._tell(Notice(code="steering_left", text=f"the turn ended before the model heard: {left}"))
        self._tell(TurnEnded(reason=reason, detail=detail, usage=self._answers.total))

    async def _work(self) -> None:
        runtime = self._runtime
        unwritten = self._named(runtime.form.unwritten) if runtime.check else runtime.form.idle
        held = runtime.permissions.mode == "plan"
        attempts = Attempts(
            runtime.limits, bool(runtime.check), runtime.form.small, unwritten, held or not runtime.tools.changes
        )
        full = reminded = False  # the context was, at the last answer; it was reminded that it only talked
        if runtime.check and await self._check_passes():
            return
        if cannot_run(runtime.check, self._failure):
            raise CheckFailed(
                f"the check cannot be run: {runtime.check.split()[0]} is not there for commands, or does not start",
                next_step="Run it yourself in this folder; it may lie where the sandbox does not look (docs/agent.md)",
            )
        for _ in range(runtime.limits.steps):
            steered = self._take_steering()
            if compaction.due(self._answers.used_tokens, runtime.facts.context_tokens):
                await self._compact()
            seed = self._session.stored[runtime.profile].request.get("seed")
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
            if self._answers.total.output > runtime.limits.output_tokens:
                raise LimitMet("output_tokens")
            nudge = Nudge(understood.code, understood.nudge) if understood.nudge else None
            if understood.calls:
                then = attempts.after_calls(await self._calls.run(understood.calls))
            else:
                said = nudge or nudge_for(draft, sorted(runtime.tools.tools))
                idle = only_says(understood.text)
                then = attempts.after_words(said, steered=bool(self._steering), idle=idle)
            reminded = then.nudge is not None and then.nudge.code == "unwritten"
            if then.do == "done":
                return
            if then.do == "check":
                if await self._check_passes(start_over=runtime.form.small, nudge=nudge):
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
        runtime = self._runtime
        if not runtime.form.guided or not ((runtime.check and self._failure) or idle):
            return None
        calls = self._calls
        way = guide(
            runtime.workspace, self._input, calls.written, calls.fruitless, self._failure, strayed=calls.strayed
        )
        return replace(way, may_decline=True) if way is not None and not runtime.check else way

    async def _check_passes(self, *, start_over: bool = False, nudge: Nudge | None = None) -> bool:
        """Runs the person's check; where it fails, the model reads what it says. `start_over`: only that, the task, the
        files as they are now and the `nudge`. What they got wrong before leads the smallest models astray again."""
        runtime = self._runtime
        call = CallPart(call_id=f"check_{self._session.next_seq}", tool="shell", args={"command": runtime.check})
        end = await self._calls.call(call, by_person=True)
        if end.status == "ok":
            self._failure = ""
            return True
        # As it is said every time: files by the names that a model writes.
        said = without_durations(end.content).replace(f"{runtime.workspace.root}{os.sep}", "")
        # Others heard it at the edit.
        wrong = lint.of_files(runtime.workspace, self._calls.written) if runtime.form.small else ""
        parts = (f"$ {runtime.check}\n{said}", wrong, self._named(runtime.form.check_failed))
        told = "\n\n".join(part for part in parts if part)
        self._failure = told
        if start_over:
            self._begin_again(nudge)
            return False
        self._tell(InputAdded(origin="nudge", code="check", text=told))
        return False

    def _named(self, words: str) -> str:
        """With the files that may be at fault, where they are few."""
        names = code_files(self._runtime.workspace.root)
        return words.replace("{files}", " or ".join(names) if 0 < len(names) <= _MOST_NAMED else "file")

    def _begin_again(self, nudge: Nudge | None = None) -> None:
        """From the task, the files as they are now, what the check said of them, and why the last try led nowhere."""
        parts = (self._runtime.context_now(), self._input, nudge.text if nudge else "", self._failure)
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
        said, context = draft.text or draft.reasoning, self._runtime.context_now()
        summary = compaction.summary_of(self._session.events, said, context)
        self._tell(Compacted(summary=summary, through_seq=through))
        self._answers.used_tokens = 0

    def _start_afresh(self) -> None:
        """The conversation no longer fits, not even the question for a summary: what the person said is kept, and what
        changed is in the files."""
        told = "the conversation no longer fits into the model's context: it goes on from what you said, and the files"
        self._tell(Notice(level="warning", code="context_full", text=told))
        summary = compaction.summary_of(self._session.events, "", self._runtime.context_now())
        self._tell(Compacted(summary=summary, through_seq=self._session.next_seq - 1))
        self._answers.used_tokens = 0
