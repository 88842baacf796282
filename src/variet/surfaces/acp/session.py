"""One session in an editor: its events are shown there, its person is asked there, a prompt is answered when its turn
has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import acp
from acp import RequestError, schema

from variet.agent.conversation import Conversation
from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    EventBase,
    ModeChanged,
    Notice,
    PromptDropped,
    TierChanged,
    TitleChanged,
    TurnEnded,
    TurnStarted,
)  # fmt: skip
from variet.surfaces.acp.options import options_update
from variet.surfaces.acp.permissions import ask
from variet.surfaces.acp.updates import Updates

log = logging.getLogger("variet.acp")

_STOPS: dict[str, Any] = {"output_tokens": "max_tokens"}


class EditorSession:
    """`editor`: the protocol's other end."""

    def __init__(self, conversation: Conversation, editor: Any) -> None:
        self.conversation = conversation
        self.id = conversation.header.id
        self._editor = editor
        self._root = Path(conversation.header.cwd)
        self._updates = Updates(self._root)
        self._answers: dict[str, asyncio.Future[schema.PromptResponse]] = {}  # by prompt
        self._prompt_id = ""  # of the turn under way
        self._problem = ""  # what went wrong in it
        self._asking: dict[str, asyncio.Task[None]] = {}  # by approval
        self._showing = asyncio.create_task(self._show())

    async def prompt(self, text: str, attached: str) -> schema.PromptResponse:
        """A prompt's answer, once its turn has ended. Raises RequestError for a turn that failed, VarietError."""
        prompt_id = self.conversation.submit(text, attached=attached, surface="acp")
        answer: asyncio.Future[schema.PromptResponse] = asyncio.get_running_loop().create_future()
        self._answers[prompt_id] = answer
        return await answer

    async def replay(self) -> None:
        """Tell the editor what was said and done before."""
        for event in list(self.conversation.session.events):
            for update in self._updates.replay(event):
                await self.tell(update)

    async def say(self, text: str) -> None:
        await self.tell(acp.update_agent_message_text(text))

    async def tell(self, update: Any) -> None:
        await self._editor.session_update(self.id, update)

    async def close(self) -> None:
        """End the session; the editor is told all of it."""
        await self.conversation.close()
        await asyncio.gather(self._showing, return_exceptions=True)

    # --- its events ---

    async def _show(self) -> None:
        events = self.conversation.events(self.conversation.state.seq, again=True)
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    try:
                        await self._see(event)
                    except Exception as error:  # noqa: BLE001 - a prompt is answered, whatever cannot be shown
                        log.warning("the editor was not told of %s: %s", type(event).__name__, error)
        finally:
            for task in self._asking.values():
                task.cancel()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_result(schema.PromptResponse(stop_reason="cancelled"))

    async def _see(self, event: EventBase) -> None:
        main = event.parent_id is None
        if isinstance(event, TurnEnded) and main:
            await self._ended(event)
            return
        if isinstance(event, PromptDropped):
            self._answer(event.prompt_id, schema.PromptResponse(stop_reason="cancelled"))
            return
        if isinstance(event, Notice) and event.level == "error" and main and self._prompt_id in self._answers:
            self._problem = f"{event.text}. {event.next}".strip()  # the prompt's answer says it
            return
        if isinstance(event, TurnStarted) and main:
            self._prompt_id, self._problem = event.prompt_id, ""
        for update in self._updates.of(event):
            await self.tell(update)
        await self._follow(event)

    async def _follow(self, event: EventBase) -> None:
        """What else comes of an event."""
        state = self.conversation.state
        if isinstance(event, ApprovalRequested) and event.approval.origin == "agent":
            self._asking[event.approval.id] = asyncio.create_task(self._ask(event))
        elif isinstance(event, ApprovalResolved) and event.approval_id in self._asking:
            self._asking.pop(event.approval_id).cancel()
        elif isinstance(event, TierChanged):
            await self.tell(options_update(state))
        elif isinstance(event, ModeChanged):
            await self.tell(schema.CurrentModeUpdate(session_update="current_mode_update", current_mode_id=event.mode))
            await self.tell(options_update(state))
        elif isinstance(event, TitleChanged) or (isinstance(event, TurnStarted) and state.turns == 1):
            title = schema.SessionInfoUpdate(session_update="session_info_update", title=state.title)
            await self.tell(title)

    async def _ask(self, event: ApprovalRequested) -> None:
        self.conversation.decide(await ask(self._editor, self.id, event.approval, self._root))

    async def _ended(self, event: TurnEnded) -> None:
        used = event.usage
        usage = schema.Usage(
            total_tokens=used.prompt + used.output, input_tokens=used.prompt, output_tokens=used.output,
            cached_read_tokens=used.cached,
        )  # fmt: skip
        stop: Any = "cancelled" if event.reason == "cancelled" else "end_turn"
        if event.reason == "limit":
            stop = _STOPS.get(event.detail, "max_turn_requests")
            with contextlib.suppress(Exception):
                await self.say(f"\n*stopped at a limit: {event.detail}*\n")
        if event.reason == "error":
            problem = self._problem or f"the turn failed: {event.detail}"
            self._answer(self._prompt_id, RequestError(-32603, problem, {"code": event.detail}))
        else:
            self._answer(self._prompt_id, schema.PromptResponse(stop_reason=stop, usage=usage))

    def _answer(self, prompt_id: str, answer: schema.PromptResponse | Exception) -> None:
        waiting = self._answers.pop(prompt_id, None)
        if waiting is None or waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)
