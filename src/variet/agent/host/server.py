"""The host as a process: one a user, on its socket, gone when nobody needs it.

A conversation stays open as long as a surface follows it or work is under way. A surface that goes away ends nothing:
its turn goes on, and waits where it needs a person.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import ValidationError, validate_call

from variet import __version__, endpoint, rpc
from variet.agent.changes import Selection
from variet.agent.conversation import Conversation
from variet.agent.events import ApprovalRequested, EventBase, Notice, PromptQueued, TurnStarted
from variet.agent.formats.repair import sound
from variet.agent.host.wire import SCOPES, STATE, HostErrors, Joined, Opening, OpenSession
from variet.agent.state import State
from variet.agent.titles import title_of
from variet.approval import Approval, Decision
from variet.errors import ConversationBusy, SessionError
from variet.policy.action import Mode
from variet.rendezvous import Rendezvous

log = logging.getLogger("variet.host")
_typed = validate_call(config={"arbitrary_types_allowed": True})

Open = Callable[[Opening], Awaitable[Conversation]]

GRACE_S = 10.0  # a surface that is started again finds its conversation open
_LOOK_S = 0.5
_MOST_LINES = 64
_LISTED = "`variet host status` lists what is"
_UPDATE = "Surface and host may be of two versions: variet host stop, and start again"


class _Line:
    """A surface that is connected. `following`: by session."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.surface = ""
        self.following: dict[str, asyncio.Task[None]] = {}


@dataclass(eq=False)
class _Kept:
    """An open conversation. `lines`: of the surfaces in it; `left`: when the last one left, by the monotonic clock."""

    conversation: Conversation
    lines: set[_Line] = field(default_factory=set)
    left: float = field(default_factory=time.monotonic)


class Host:
    """`open_conversation`: opens what a surface asks for. `idle_s`: it ends by itself after so long with neither
    surfaces nor conversations; None: never. Raises RunsAlready."""

    def __init__(
        self, where: Rendezvous, open_conversation: Open, idle_s: float | None = None, grace_s: float = GRACE_S
    ) -> None:
        self._where = where
        self._open = open_conversation
        self._idle_s = idle_s
        self._grace_s = grace_s
        self._lock = where.lock()
        self._kept: dict[str, _Kept] = {}
        self._opening: dict[str, asyncio.Lock] = {}  # by session
        self._closing: dict[str, asyncio.Task[None]] = {}  # by session
        self._lines: dict[_Line, asyncio.Task[Any]] = {}
        self._over = asyncio.Event()

    # --- the process ---

    async def run(self) -> None:
        """Until it is told to end, or nobody needs it. Turns that are under way then end as cancelled."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
                loop.add_signal_handler(one, self.end)
        address = self._where.new_address()
        stop = await endpoint.listen(address, self._arrived)
        self._where.publish(address)
        try:
            await self._look_after()
        finally:
            stop()
            self._where.file.unlink(missing_ok=True)
            await asyncio.gather(*(self._let_go(name) for name in list(self._kept)), *self._closing.values())
            for task in list(self._lines.values()):
                task.cancel()
            await asyncio.gather(*self._lines.values(), return_exceptions=True)
            self._lock.close()

    def end(self) -> None:
        self._over.set()

    async def _look_after(self) -> None:
        """Close conversations that nobody needs, and return once nobody needs the host."""
        quiet_since = time.monotonic()
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _LOOK_S)
            now = time.monotonic()
            for name, kept in list(self._kept.items()):
                if kept.lines or kept.conversation.working:
                    kept.left = now
                elif now - kept.left >= self._grace_s:
                    self._let_go(name)
            if self._lines or self._kept or self._closing:
                quiet_since = now
            elif self._idle_s is not None and now - quiet_since >= self._idle_s:
                return

    def _let_go(self, name: str) -> asyncio.Task[None]:
        """Close a conversation, to its end: also where its asker leaves meanwhile."""
        closing = asyncio.create_task(self._close(name, self._kept.pop(name).conversation), name=f"close {name}")
        self._closing[name] = closing
        return closing

    async def _close(self, name: str, conversation: Conversation) -> None:
        try:
            await conversation.close()
        except Exception:  # the host goes on with its other sessions; the lock on this log is free in any case
            log.exception("session %s could not be closed", name)
        finally:
            del self._closing[name]

    # --- its lines ---

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        uid = endpoint.peer_uid(writer)
        stranger = os.name == "posix" and uid is not None and uid != os.geteuid()
        if stranger or len(self._lines) >= _MOST_LINES:
            log.warning("a line of user %s was refused", uid)
            writer.close()
            return
        line = _Line(writer)
        self._lines[line] = task
        try:
            await rpc.answer(reader, writer, partial(self._answer, line), HostErrors())
        except (ConnectionError, asyncio.CancelledError):
            pass  # it left, or the host ends
        finally:
            del self._lines[line]
            for name in list(line.following):
                self._leave(line, name)
            writer.close()

    async def _answer(self, line: _Line, method: str, params: Any) -> Any:
        act = getattr(self, f"_do_{method}", None)
        if line.surface == "" and method != "hello":
            raise SessionError("a surface says first what it is", next_step="Send hello")
        if act is None or not isinstance(params, dict):
            raise SessionError(f"the host knows no {method}", next_step="End it: variet host stop")
        try:
            return await act(line, **params)
        except ValidationError as error:  # its own words repeat what was given: keys, an environment
            mistakes = error.errors(include_input=False, include_url=False, include_context=False)
            words = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in mistakes)
            log.warning("%s was asked wrongly: %s", method, words)
            raise SessionError(f"{method} was asked wrongly: {words}", next_step=_UPDATE) from None
        except TypeError as error:
            raise SessionError(f"{method} was asked wrongly: {error}", next_step=_UPDATE) from None

    def _of(self, session: str) -> Conversation:
        if session not in self._kept:
            raise SessionError("it is not open in the host", where=session, next_step="Open it again")
        return self._kept[session].conversation

    # --- what it is asked ---

    @_typed
    async def _do_hello(self, line: _Line, surface: str) -> dict[str, Any]:
        line.surface = surface
        return {"version": __version__, "pid": os.getpid()}

    @_typed
    async def _do_open(self, line: _Line, opening: Opening) -> dict[str, Any]:
        _check(line, mode=opening.mode, more=opening.trust or bool(opening.rules))
        name = opening.session
        async with self._opening.setdefault(name, asyncio.Lock()) if name else contextlib.nullcontext():
            if (closing := self._closing.get(name)) is not None:
                await asyncio.wait([closing])
            kept = self._kept.get(name)
            if kept is None and opening.only_join:
                raise SessionError(
                    "it is not open in the host", where=name, next_step="`variet host status` lists those that are"
                )
            if kept is None:
                conversation = await self._open(opening)
                name = conversation.header.id
                kept = self._kept[name] = _Kept(conversation)
            elif opening.mode is not None:
                kept.conversation.set_mode(opening.mode)
            kept.left = time.monotonic()
        self._opening.pop(name, None)
        conversation = kept.conversation
        return Joined(
            header=conversation.header, state=STATE.dump_python(_state_within(conversation.state, line), mode="json"),
            notes=conversation.notes, recorded=conversation.session.last_seq,
        ).model_dump(mode="json")  # fmt: skip

    @_typed
    async def _do_follow(self, line: _Line, session: str, after: int, again: bool) -> None:
        """Its events behind a place, as notifications. `again`: the reader has seen all up to there."""
        conversation, kept = self._of(session), self._kept[session]
        if session in line.following:
            line.following.pop(session).cancel()
        kept.lines.add(line)
        events = conversation.events(after, again=again)
        line.following[session] = asyncio.create_task(self._tell(line, session, events))

    async def _tell(self, line: _Line, session: str, events: Any) -> None:
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    told = _within(event, SCOPES.get(line.surface))
                    await self._tell_event(line, session, told)
            await rpc.tell(line.writer, "closed", {"session": session})
        except ConnectionError:
            pass  # the line's own end sees to it

    async def _tell_event(self, line: _Line, session: str, event: EventBase) -> None:
        """An event that is too long for a line comes without what was sent along, or is named."""
        for told in (event, *_shorter(event)):
            try:
                params = {"session": session, "event": told.model_dump(mode="json")}
                await rpc.tell(line.writer, "event", params)
                return
            except rpc.TooLong:
                log.warning("%s of %s is too long for a line", type(told).__name__, session)

    @_typed
    async def _do_leave(self, line: _Line, session: str) -> None:
        self._leave(line, session)

    def _leave(self, line: _Line, session: str) -> None:
        if (task := line.following.pop(session, None)) is not None:
            task.cancel()
        if (kept := self._kept.get(session)) is not None:
            kept.lines.discard(line)
            kept.left = time.monotonic()

    @_typed
    async def _do_submit(self, line: _Line, session: str, prompt_id: str, text: str, attached: str) -> None:
        self._of(session).submit(text, attached=attached, surface=line.surface, prompt_id=prompt_id)

    @_typed
    async def _do_steer(self, line: _Line, session: str, text: str) -> None:
        self._of(session).steer(text, surface=line.surface)

    @_typed
    async def _do_cancel(self, line: _Line, session: str) -> None:
        self._of(session).cancel()

    @_typed
    async def _do_decide(self, line: _Line, session: str, decision: Decision) -> str:
        decided = decision.model_copy(update={"surface": line.surface})
        may = SCOPES.get(line.surface)
        if decided.choice == "approve" and may is not None and decided.scope not in may:
            raise SessionError(f"{line.surface} may not allow for more than: {', '.join(may)}")
        return self._of(session).decide(decided)

    @_typed
    async def _do_set_mode(self, line: _Line, session: str, mode: Mode) -> None:
        _check(line, mode=mode)
        self._of(session).set_mode(mode)

    @_typed
    async def _do_set_tier(self, line: _Line, session: str, tier: str) -> None:
        await self._of(session).set_tier(tier)

    @_typed
    async def _do_rename(self, line: _Line, session: str, title: str) -> None:
        self._of(session).rename(title)

    @_typed
    async def _do_compact(self, line: _Line, session: str) -> None:
        await self._of(session).compact()

    @_typed
    async def _do_changes(self, line: _Line, session: str, selection: Selection) -> dict[str, Any]:
        changes = await self._of(session).changes(selection)
        return dict(sound(changes.model_dump()))

    @_typed
    async def _do_undo(self, line: _Line, session: str, selection: Selection) -> dict[str, Any]:
        undone = await self._of(session).undo(selection)
        return dict(sound({"restored": list(undone.restored), "left": dict(undone.left)}))

    @_typed
    async def _do_describe(self, line: _Line, session: str) -> dict[str, Any]:
        return self._of(session).describe().model_dump()

    @_typed
    async def _do_jobs(self, line: _Line, session: str) -> list[dict[str, Any]]:
        return [job.model_dump() for job in self._of(session).jobs()]

    @_typed
    async def _do_stop_job(self, line: _Line, session: str, number: int) -> None:
        await self._of(session).stop_job(number)

    @_typed
    async def _do_sessions(self, line: _Line) -> list[dict[str, Any]]:
        return [self._shown(kept, line).model_dump(mode="json") for kept in self._kept.values()]

    @_typed
    async def _do_release(self, line: _Line, session: str) -> None:
        """Close it now, so that another process can open it. Raises ConversationBusy where it is in use."""
        if (closing := self._closing.get(session)) is not None:
            await asyncio.wait([closing])
        kept = self._kept.get(session)
        if kept is None:
            return
        if kept.lines or kept.conversation.working:
            who = ", ".join(sorted(one.surface for one in kept.lines)) or "a turn that is under way"
            raise ConversationBusy(f"it is in use by {who}", where=session, next_step="End that first")
        await asyncio.wait([self._let_go(session)])

    @_typed
    async def _do_stop(self, line: _Line) -> None:
        self.end()

    def _shown(self, kept: _Kept, line: _Line) -> OpenSession:
        conversation = kept.conversation
        state = _state_within(conversation.state, line)
        return OpenSession(
            id=conversation.header.id, cwd=conversation.header.cwd, title=state.title, tier=state.tier,
            working=conversation.working, approvals=tuple(state.approvals.values()),
            surfaces=tuple(sorted(one.surface for one in kept.lines)),
        )  # fmt: skip


def _check(line: _Line, *, mode: Mode | None, more: bool = False) -> None:
    """Raises SessionError where a surface that may grant little asks for what grants more by itself."""
    if line.surface in SCOPES and (more or mode not in (None, "plan", "ask")):
        raise SessionError(
            f"{line.surface} may choose the modes plan and ask alone", next_step="Choose another mode in a terminal"
        )


def _state_within(state: State, line: _Line) -> State:
    scopes = SCOPES.get(line.surface)
    if scopes is None:
        return state
    return replace(state, approvals={name: _offered(one, scopes) for name, one in state.approvals.items()})


def _offered(approval: Approval, scopes: tuple[Any, ...]) -> Approval:
    return approval.model_copy(update={"scopes": tuple(one for one in approval.scopes if one in scopes)})


def _shorter(event: EventBase) -> Iterator[EventBase]:
    place = {"seq": event.seq, "turn_id": event.turn_id, "session_id": event.session_id, "ts_ms": event.ts_ms}
    if isinstance(event, PromptQueued):
        yield event.model_copy(update={"attached": ""})
    elif isinstance(event, TurnStarted):
        yield event.model_copy(update={"context": ""})
        yield event.model_copy(update={"context": "", "input": title_of(event.input)})
    yield Notice(**place, code="too_long", text=f"{type(event).__name__} is too long to be shown; the log has it")


def _within(event: EventBase, scopes: tuple[Any, ...] | None) -> EventBase:
    """An event as a surface is told it: an approval offers what the surface may grant."""
    if scopes is None or not isinstance(event, ApprovalRequested):
        return event
    return event.model_copy(update={"approval": _offered(event.approval, scopes)})
