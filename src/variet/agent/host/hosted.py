"""A conversation that the host keeps open, as a surface holds it: the same face as conversation.py's.

What a surface does is sent in its order and never waits; what came of it is told by events. Where the host goes away,
it is started again and the session taken up from its log: readers go on behind the last event that they saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from pydantic import ValidationError

from variet.agent import sessions
from variet.agent.changes import ALL, LAST, Changes, Selection
from variet.agent.checkpoints import Undone
from variet.agent.conversation import Description, new_prompt_id
from variet.agent.events import DELTAS, EVENTS, EventBase, PromptDropped, PromptQueued, TurnStarted
from variet.agent.feed import Feed
from variet.agent.host.client import HostClient
from variet.agent.host.wire import STATE, Joined, Opening
from variet.agent.tools.base import Job
from variet.approval import Approval, Decision
from variet.errors import ConnectionFailed, VarietError
from variet.policy.action import Mode
from variet.rpc import Asking

log = logging.getLogger("variet.host")

_AGAIN_S = 0.2
_SAFE_TWICE = frozenset({"submit", "decide", "set_mode", "set_tier", "rename"})  # may be sent again where nobody knows
Problem = Callable[[VarietError], None]


class HostedConversation:
    """`problem`: hears what kept the host from doing what it was sent."""

    def __init__(self, client: HostClient, opening: Opening, joined: Joined, problem: Problem) -> None:
        self.header = joined.header
        self.notes = joined.notes
        self.state = STATE.validate_python(joined.state)
        self._client = client
        self._opening = opening.model_copy(update={"session": joined.header.id, "mode": None, "tier": ""})
        self._problem = problem
        self._joined = joined.recorded  # the place where this surface begins to read
        self._place = joined.recorded  # of the last event that came
        self._events: list[EventBase] = []  # those that stand in the log, from here on
        self._feed = Feed(self._events)
        self._acting = 0  # what the surface waits for
        self._unseen: dict[str, dict[str, Any]] = {}  # prompts that no event has named yet
        self._joining = asyncio.Lock()
        self._line: Asking | None = None  # that the session was joined on
        self._outbox: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._left = False
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, client: HostClient, opening: Opening, problem: Problem = lambda _: None) -> HostedConversation:
        """Join a session, or begin one. Raises VarietError as opening.start does, ConnectionFailed."""
        joined = Joined.model_validate(await client.call("open", opening=opening.model_dump(mode="json")))
        conversation = cls(client, opening, joined, problem)
        await conversation._follow()
        conversation._tasks = [
            asyncio.create_task(conversation._stay(), name="host stays"),
            asyncio.create_task(conversation._send(), name="host outbox"),
        ]
        return conversation

    @property
    def working(self) -> bool:
        return self.state.working or self._acting > 0

    # --- what a surface does: sent in its order ---

    def submit(self, text: str, *, attached: str = "") -> str:
        """A person's words; the id of the prompt, which `turn_started` names."""
        prompt_id = new_prompt_id()
        self._unseen[prompt_id] = {"prompt_id": prompt_id, "text": text, "attached": attached}
        self._put("submit", **self._unseen[prompt_id])
        return prompt_id

    def steer(self, text: str) -> None:
        self._put("steer", text=text)

    def cancel(self) -> None:
        self._put("cancel")

    def decide(self, decision: Decision) -> None:
        self._put("decide", decision=decision.model_dump(mode="json"))

    def set_mode(self, mode: Mode) -> None:
        self._put("set_mode", mode=mode)

    def rename(self, title: str) -> None:
        self._put("rename", title=title)

    def pending(self) -> tuple[Approval, ...]:
        return tuple(self.state.approvals.values())

    # --- what a surface waits for ---

    async def set_tier(self, tier: str) -> None:
        await self._act("set_tier", tier=tier)

    async def compact(self) -> None:
        await self._act("compact")

    async def changes(self, selection: Selection = ALL) -> Changes:
        asked = selection.model_dump(mode="json")
        return Changes.model_validate(await self._client.call("changes", session=self.header.id, selection=asked))

    async def undo(self, selection: Selection = LAST) -> Undone:
        told = await self._act("undo", selection=selection.model_dump(mode="json"))
        return Undone(tuple(told["restored"]), dict(told["left"]))

    async def jobs(self) -> list[Job]:
        return [Job.model_validate(one) for one in await self._client.call("jobs", session=self.header.id)]

    async def stop_job(self, number: int) -> None:
        await self._act("stop_job", number=number)

    async def describe(self) -> Description:
        return Description.model_validate(await self._client.call("describe", session=self.header.id))

    async def history(self) -> Sequence[EventBase]:
        """The events of the session's log as it stands now."""
        return tuple((await asyncio.to_thread(sessions.read, self.header.id))[1])

    def events(self, after: int | None = None, *, again: bool = False) -> AsyncGenerator[EventBase, None]:
        """Events since this surface joined, behind the place `after`; without a place, what was under way then and all
        that came since."""
        return self._feed.read(self._joined if after is None else after, again=again)

    async def close(self) -> None:
        """This surface leaves the session. A turn that is under way goes on."""
        self._left = True
        while not self._outbox.empty() and self._client.is_open:  # what was sent is sent
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._client.hear_no_more(self.header.id)
        if self._client.is_open:
            with contextlib.suppress(VarietError, ConnectionError):
                await self._client.ask("leave", session=self.header.id)
        self._feed.close()

    # --- its line ---

    def _put(self, method: str, **params: Any) -> None:
        self._outbox.put_nowait((method, params))

    async def _send(self) -> None:
        while True:
            method, params = await self._outbox.get()
            try:
                await self._sent(method, params)
            except VarietError as error:
                self._problem(error)

    async def _sent(self, method: str, params: dict[str, Any]) -> None:
        while True:
            try:
                await (await self._joined_line()).ask(method, {"session": self.header.id, **params})
                return
            except ConnectionError:
                if self._left:
                    return
                if method not in _SAFE_TWICE:
                    raise ConnectionFailed(f"the host went away before it could {method}") from None

    async def _act(self, method: str, **params: Any) -> Any:
        self._acting += 1
        try:
            while True:
                try:
                    return await (await self._joined_line()).ask(method, {"session": self.header.id, **params})
                except ConnectionError:
                    if self._left or method not in _SAFE_TWICE:
                        told = f"the host went away during {method}"
                        raise ConnectionFailed(told, next_step="Look, and try again") from None
        finally:
            self._acting -= 1

    async def _joined_line(self) -> Asking:
        """The line that the session was joined on, once there is one."""
        while self._line is None or not self._line.is_open:
            if self._left:
                raise ConnectionError("this surface has left")
            await self._joined_again()
        return self._line

    async def _follow(self) -> None:
        self._client.hear(self.header.id, self._heard)
        self._line = await self._client.line()
        await self._client.ask("follow", session=self.header.id, after=self._place, again=False)

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "closed":
            if not self._left:
                self._left = True
                self._feed.close()
            return
        try:
            event = EVENTS.validate_python(params["event"])
        except ValidationError as error:  # of a newer host
            log.warning("an event of %s is unknown here: %s", self.header.id, error)
            return
        if event.seq <= self._place:
            return
        self._place = event.seq
        if isinstance(event, PromptQueued | PromptDropped | TurnStarted):
            self._unseen.pop(event.prompt_id, None)
        if not isinstance(event, DELTAS) and event.parent_id is None:
            self._events.append(event)
        self.state.apply(event)
        self._feed.publish(event)

    async def _stay(self) -> None:
        """Join again whenever the line broke."""
        while not self._left:
            if self._line is not None:
                await self._line.closed()
            await asyncio.sleep(_AGAIN_S / 4)  # a line that breaks at once does not keep this process busy
            await self._joined_again()

    async def _joined_again(self) -> None:
        """Behind the last event that came."""
        told = ""
        async with self._joining:
            while not self._left:
                try:
                    line = await self._client.line()
                    if line is not self._line:
                        await self._join_on(line)
                    return
                except ConnectionError:
                    await asyncio.sleep(_AGAIN_S)
                except VarietError as error:
                    if str(error) != told:
                        log.warning("session %s could not be joined again: %s", self.header.id, error)
                        self._problem(error)
                    told = str(error)
                    await asyncio.sleep(5 * _AGAIN_S)

    async def _join_on(self, line: Asking) -> None:
        await line.ask("open", {"opening": self._opening.model_dump(mode="json")})
        await line.ask("follow", {"session": self.header.id, "after": self._place, "again": True})
        self._line = line
        for prompt in list(self._unseen.values()):  # a host that was killed may not have begun it
            await line.ask("submit", {"session": self.header.id, **prompt})
