"""The one face of the agent: an open session, as every surface holds it.

A conversation owns its turns. Surfaces submit prompts, decide what waits for a person, and read events; a reader who
leaves ends nothing. What a surface may show is in `state`, which any reader rebuilds from the events alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from variet.agent.bindings import binding_of
from variet.agent.changes import ALL, LAST, Changes, Selection
from variet.agent.checkpoints import Undone
from variet.agent.equipment import Equipment
from variet.agent.events import (
    ChangesUndone,
    Compacted,
    EventBase,
    PromptDropped,
    PromptQueued,
    TitleChanged,
    TurnEnded,
    TurnStarted,
)  # fmt: skip
from variet.agent.feed import Feed
from variet.agent.kinds import KINDS
from variet.agent.loop import Agent
from variet.agent.runtime import Runtime
from variet.agent.servers import told
from variet.agent.sessions import Header, Session
from variet.agent.state import State
from variet.agent.titles import title_of
from variet.agent.tools.base import HasJobs, Job, close_all
from variet.approval import Approval, Decision
from variet.errors import ConversationBusy, SessionError, VarietError
from variet.policy.action import Mode

log = logging.getLogger("variet.agent")

T = TypeVar("T")


class Description(BaseModel):
    """`messages`: that the model reads; `tools`: of servers, by name, with what they say of themselves."""

    messages: int
    tools: dict[str, str]


class Conversation:
    """An open session and all that it works with, which `close` ends. `notes`: what its person should know of how it
    was opened."""

    def __init__(self, runtime: Runtime, equipment: Equipment, notes: Sequence[str] = ()) -> None:
        self.runtime = runtime
        self.equipment = equipment
        self.notes = tuple(notes)
        session = runtime.session
        self.state = State.of(session.header, runtime.facts.model, session.events)
        self.state.model, self.state.context_tokens = runtime.facts.model, runtime.facts.context_tokens
        self._feed = Feed(session.events)
        self._agent = Agent(runtime, self._publish)
        self._work: asyncio.Task[Any] | None = None  # one at a time
        self._begun = self._cancelled = False  # of the work
        self._stoppable = True
        self._closing = False
        self._last_prompt = ""  # whose turn began last
        self._prompts = {one.prompt_id for one in session.events if isinstance(one, TurnStarted | PromptQueued)}

    @property
    def session(self) -> Session:
        return self.runtime.session

    @property
    def header(self) -> Header:
        return self.session.header

    @property
    def working(self) -> bool:
        """Whether a turn, a compaction, a change of tier or an undo is under way."""
        return self._work is not None

    # --- prompts and turns ---

    def submit(self, text: str, *, attached: str = "", surface: str = "", prompt_id: str = "") -> str:
        """A person's words; they wait where work is under way. The id of the prompt, which `turn_started` names.
        `attached`: what the surface sends along, for the model alone. `prompt_id`: of the surface's own; a prompt that
        comes twice counts once. Raises SessionError."""
        self._must_be_open()
        prompt_id = prompt_id or new_prompt_id()
        if prompt_id in self._prompts:
            return prompt_id
        prompt = PromptQueued(prompt_id=prompt_id, text=text, attached=attached, surface=surface)
        if self._work is None:
            self._start(prompt)
        else:
            self._agent.note(prompt)
        self._prompts.add(prompt_id)
        return prompt_id

    def steer(self, text: str, *, surface: str = "") -> None:
        """Words for the model in the turn under way, as soon as the tools that run now are done. Without a turn they
        are a prompt. Raises SessionError."""
        if self.state.working:
            self._agent.steer(text)
        else:
            self.submit(text, surface=surface)

    def cancel(self) -> None:
        """End the turn under way, and drop the prompts that wait behind it. An undo goes on to its end."""
        if self._work is not None and self._stoppable:
            self._cancelled = True
            if self._begun:
                self._work.cancel()
        self._drop_queue("cancelled")

    async def compact(self) -> None:
        """Make the conversation shorter, until that is done. Raises ConversationBusy."""
        await self._alone(self._agent.compact())

    # --- what a person decides ---

    def decide(self, decision: Decision) -> str:
        """Answer an approval: `ok`, `already_decided` or `payload_changed`."""
        return self._agent.decide(decision)

    def hear(self, approval: Approval) -> None:
        """An approval of the broker as it is now, for readers of this session."""
        self._agent.hear(approval)

    def pending(self) -> tuple[Approval, ...]:
        """Approvals that wait for a person, the oldest first."""
        return tuple(self.state.approvals.values())

    def set_mode(self, mode: Mode) -> None:
        """What the agent may do from here on, also in the turn under way. Raises SessionError."""
        self._must_be_open()
        self._agent.set_mode(mode)

    async def set_tier(self, tier: str) -> None:
        """Another tier, model or alias answers from here on. Raises ConversationBusy, AnswerFailed where there is none
        of this name."""

        async def change() -> None:
            facts = await self.runtime.model.facts(tier)
            self._agent.bind(binding_of(self.runtime, facts, self.equipment.settings), "chosen by the person")

        await self._alone(change())

    def rename(self, title: str) -> None:
        """Raises SessionError for a title without a word."""
        self._must_be_open()
        if not (words := title_of(title)):
            raise SessionError("a title has at least one word", next_step="Give it a word: /rename TITLE")
        self._agent.note(TitleChanged(title=words))

    # --- changes ---

    async def changes(self, selection: Selection = ALL) -> Changes:
        """What the session changed, file by file. Raises CheckpointFailed."""
        kept = self.runtime.checkpoints
        return await kept.changes(kept.chosen(selection)) if kept else Changes()

    async def undo(self, selection: Selection = LAST) -> Undone:
        """Take changes back. It is done whole, also where its caller leaves meanwhile. The model hears of it with the
        next prompt. Raises ConversationBusy, CheckpointFailed."""
        return await self._alone(self._undo(selection), stoppable=False)

    async def _undo(self, selection: Selection) -> Undone:
        kept = self.runtime.checkpoints
        if kept is None or not (steps := kept.chosen(selection)):
            return Undone()
        if selection.hunks:
            undone = await kept.undo_hunks(steps, selection.hunks)
        else:
            undone = await kept.undo(steps, selection.paths)
        if undone.restored or undone.left:
            self._agent.note(ChangesUndone(restored=undone.restored, left=dict(undone.left)))
        return undone

    # --- commands in the background ---

    def jobs(self) -> list[Job]:
        return [job for tool in self._with_jobs() for job in tool.jobs()]

    async def stop_job(self, number: int) -> None:
        """Raises SessionError where none of this number runs."""
        for tool in self._with_jobs():
            if await tool.stop_job(number):
                return
        raise SessionError(f"no command %{number} runs in the background", next_step="/jobs lists those that do")

    def _with_jobs(self) -> list[HasJobs]:
        return [tool for tool in self.runtime.tools.tools.values() if isinstance(tool, HasJobs)]

    # --- readers ---

    def describe(self) -> Description:
        """What it works with now."""
        tools = sorted(self.equipment.servers.tools.items())
        return Description(
            messages=len(self.runtime.rendering.messages), tools={name: tool.description for name, tool in tools}
        )

    async def history(self) -> Sequence[EventBase]:
        """All that stands in its log."""
        return tuple(self.session.events)

    def events(self, after: int | None = None, *, again: bool = False) -> AsyncGenerator[EventBase, None]:
        """Events behind the place `after`, as they come, until the session is closed; without a place, what is under
        way and all that comes then. `again`: the reader has seen all up to there; else pieces of what has ended are
        left out."""
        return self._feed.read(self.session.last_seq if after is None else after, again=again)

    def _publish(self, event: EventBase) -> None:
        if isinstance(event, TurnStarted) and event.parent_id is None:
            self._last_prompt = event.prompt_id
        self.state.apply(event)
        self._feed.publish(event)

    # --- its end ---

    async def close(self) -> None:
        """End the turn and what runs in the background, and let the session go."""
        self._closing = True
        self._drop_queue("closed")
        try:
            if (work := self._work) is not None:
                self.cancel()
                await asyncio.wait([work])
            self._feed.close()
            await close_all(self.runtime.tools)
            await self.runtime.model.close()
            await self.equipment.close()
        finally:
            self.session.close()

    def _must_be_open(self) -> None:
        if self._closing:
            raise SessionError("it is being closed", where=self.header.id, next_step="Open it again")

    # --- one piece of work after the other ---

    def _start(self, prompt: PromptQueued) -> None:
        self._begin(self._turn(prompt), stoppable=True)

    async def _turn(self, prompt: PromptQueued) -> None:
        try:
            context = _together(self.context(), _of_undone(self.state.undone), prompt.attached)
            await self._agent.turn(prompt.text, context, prompt_id=prompt.prompt_id, surface=prompt.surface)
        except Exception:  # the prompt is dropped below, and the session goes on
            log.exception("a turn of %s could not begin", self.header.id)
        finally:
            if self._last_prompt != prompt.prompt_id:  # its turn never began: readers wait for no end of it
                self._agent.note_or_announce(PromptDropped(prompt_id=prompt.prompt_id, reason="error"))

    async def _alone(self, work: Coroutine[Any, Any, T], *, stoppable: bool = True) -> T:
        """Work that no turn may run beside. Raises ConversationBusy, SessionError."""
        if self._closing:
            work.close()
            self._must_be_open()
        if self._work is not None:
            work.close()
            raise ConversationBusy("the agent works", next_step="Stop it first, or wait for its end")
        task = self._begin(work, stoppable=stoppable)
        await asyncio.wait([task])  # it goes on where its caller leaves
        if task.cancelled():
            raise VarietError("it was stopped before its end", next_step="Ask for it again")
        return task.result()

    def _begin(self, work: Coroutine[Any, Any, T], *, stoppable: bool) -> asyncio.Task[T]:
        self._begun, self._cancelled, self._stoppable = False, False, stoppable
        self._work = task = asyncio.create_task(self._carry_out(work))
        task.add_done_callback(_hear_error)
        return task

    async def _carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """A task that is cancelled before its first step ends without a word: the work could not tell its end."""
        self._begun = True
        if self._cancelled and (task := asyncio.current_task()) is not None:
            task.cancel()
        try:
            return await work
        finally:  # in the step that records the end: its readers find the conversation free
            self._work = None
            if self.state.queue and not self._closing:
                self._start(self.state.queue[0])

    def _drop_queue(self, reason: Any) -> None:
        for prompt in self.state.queue:
            self._agent.note_or_announce(PromptDropped(prompt_id=prompt.prompt_id, reason=reason))

    # --- the context that the model reads with a prompt ---

    def context(self) -> str:
        """All of it once, then only what changed since. The smallest models are shown the files anew where those
        changed; others read what they need."""
        before = _contexts(self.session)
        if before and not self.runtime.form.small:
            again = KINDS[self.header.kind].again()
            return _together(again, told(self.equipment.servers.foreign, before))
        now = self.runtime.context_now()
        return "" if before and before[-1].partition("</context>")[0] in now else now


def new_prompt_id() -> str:
    return secrets.token_hex(8)


async def run_prompt(
    conversation: Conversation, text: str, *, attached: str = "", surface: str = ""
) -> AsyncGenerator[EventBase, None]:
    """A prompt and all that follows, until its turn has ended. A reader who leaves ends nothing."""
    after = conversation.state.seq
    prompt_id, turn_id = conversation.submit(text, attached=attached, surface=surface), ""
    async with contextlib.aclosing(conversation.events(after, again=True)) as events:
        async for event in events:
            yield event
            if isinstance(event, TurnStarted) and event.prompt_id == prompt_id:
                turn_id = event.turn_id
            elif (isinstance(event, TurnEnded) and event.parent_id is None and event.turn_id == turn_id) or (
                isinstance(event, PromptDropped) and event.prompt_id == prompt_id
            ):
                return


def _hear_error(task: asyncio.Task[Any]) -> None:
    """The caller who waits for the work hears its error. A caller who left does not: the log keeps it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("work on a session ended: %s", error)


def _contexts(session: Session) -> list[str]:
    """What was told beside a person's words so far, without those that told nothing."""
    texts = (
        event.context if isinstance(event, TurnStarted) else event.summary if isinstance(event, Compacted) else ""
        for event in session.events
    )
    return [text for text in texts if text]


def _of_undone(undone: Sequence[ChangesUndone]) -> str:
    names = dict.fromkeys(path for one in undone for path in one.restored)
    return f"The user took changes back; these files stand as before: {', '.join(names)}" if names else ""


def _together(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
