"""What a surface of the assistant needs: a conversation of its own at the broker, its servers of tools, and what waits
for its person among the agent's events. It joins two rooms that do not know each other, the agent and the assistant.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from variet import paths
from variet.agent import sessions
from variet.agent.conversation import Conversation
from variet.agent.events import ToolEnded, TurnStarted
from variet.agent.settings import ServerSettings
from variet.approval import Approval
from variet.assistant.broker.client import BrokerClient
from variet.assistant.environment import HANDLE, MOST_PATIENCE_S, PATIENCE, environment
from variet.assistant.problems import ToolProblem
from variet.visible import one_line

SEALED = "your accounts are sealed by your PIN: variet auth unlock"
CLIENT = "variet"  # as its servers hear it from the agent's MCP client
_SERVERS = ("search", "mail", "calendar")
_KEPT = "conversation"  # beside a session's log
_CALL_S = 120.0
_FOLLOW_S = 3_600.0
_AGAIN_S = 1.0
_WAITS = re.compile(r"\b(act-[0-9a-f]{12}) waits\b")  # as the gate says it
_TOLD = re.compile(r"^- (act-[0-9a-f]{12}),", re.MULTILINE)


class BrokeredConversation:
    """A session as the broker knows it, by its handle. Methods raise ToolProblem."""

    def __init__(self, broker: BrokerClient, handle: str) -> None:
        self._broker = broker
        self._handle = handle

    def servers(self, *, present: bool) -> dict[str, ServerSettings]:
        """Variet's own servers. `present`: a person decides here, and a call may wait for them."""
        patience_s = MOST_PATIENCE_S if present and self._handle else 0.0
        given = {**environment("VARIET_BROKER_IDLE_S"), HANDLE: self._handle, PATIENCE: f"{patience_s:g}"}
        return {
            name: ServerSettings(
                command=sys.executable, args=("-m", "variet", "mcp", name), env=given, timeout_s=patience_s + _CALL_S
            )
            for name in _SERVERS
        }

    def keep(self, conversation: Conversation) -> None:
        """With the session: whoever takes it up again has read what it has read."""
        path = conversation.session.folder / _KEPT
        if self._handle and not path.exists():
            paths.write_whole(path, self._handle, 0o600)

    async def lacks(self) -> str:
        """What keeps mail and calendar from being read, in words; empty where nothing does."""
        try:
            signed_in = await self._broker.call("auth.status")
        except ToolProblem as problem:
            if problem.code != "locked":
                raise
            return SEALED
        reading = [one for one in signed_in if one["purpose"] == "read"]
        return "" if reading else "no mail or calendar can be read before you sign in: variet auth google"

    async def said(self, words: str) -> None:
        """A person's own words, before a model reads them."""
        if not self._handle:
            return
        try:
            await self._broker.call("taint.add", client=CLIENT, conversation=self._handle, typed=words)
        except ToolProblem as problem:
            if problem.code != "bad_request":
                raise
            self._handle = ""  # of another broker: this one knows all that the client read, and no more

    async def meanwhile(self, conversation: Conversation) -> str:
        """What became of actions that waited when the model last heard of them; for its context, each once."""
        lines = []
        for action in _left_waiting(conversation) if self._handle else ():
            try:
                one = await self._broker.wait(CLIENT, self._handle, action, 0)
            except ToolProblem:  # so old that the broker forgot it
                continue
            if one.state not in ("pending", "approved", "executing"):
                result = f" ({one_line(one.result, 200)})" if one.result else ""
                lines.append(f"- {one.id}, {one_line(one.summary, 200)}: {one.state}{result}")
        return "\n".join(["Meanwhile, of what waited for the user:", *lines]) if lines else ""

    async def follow(self, conversation: Conversation) -> None:
        """Until it is cancelled: what waits for a person, and what becomes of it, is told among the agent's events."""
        after = 0
        while self._handle:
            try:
                found = await self._broker.call(
                    "conversation.follow", _FOLLOW_S, client=CLIENT, conversation=self._handle, after=after
                )
            except ToolProblem as problem:
                if problem.code != "broker_down":
                    return
                await asyncio.sleep(_AGAIN_S)  # what waits there is told once it is back
                continue
            for seq, approval in found:
                after = max(after, seq)
                conversation.hear(Approval.model_validate(approval))


@asynccontextmanager
async def brokered(session: str | None) -> AsyncIterator[BrokeredConversation]:
    """Of a session that is taken up again, or a new one's. Raises ToolProblem where there is no broker."""
    async with BrokerClient() as broker:
        handle = _kept(sessions.root() / session / _KEPT) if session else ""
        # Of a session without its handle nobody knows what it has read: then all that its client ever read counts.
        if not session:
            handle = str(await broker.call("conversation.open", client=CLIENT))
        yield BrokeredConversation(broker, handle)


@asynccontextmanager
async def followed(talk: BrokeredConversation, conversation: Conversation) -> AsyncIterator[None]:
    task = asyncio.create_task(talk.follow(conversation))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _left_waiting(conversation: Conversation) -> list[str]:
    """In the session's log, without those whose end was told."""
    waiting: dict[str, None] = {}
    for event in conversation.session.events:
        if isinstance(event, ToolEnded):
            waiting.update(dict.fromkeys(_WAITS.findall(event.content)))
        elif isinstance(event, TurnStarted):
            for told in _TOLD.findall(event.context):
                waiting.pop(told, None)
    return list(waiting)


def _kept(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
