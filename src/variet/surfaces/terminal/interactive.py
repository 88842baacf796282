"""A conversation in a terminal: the prompt stays while the agent works above it.

Enter while it works tells it something more; Ctrl-C stops it; approvals are a key. The prompt is prompt_toolkit's,
everything above it is printed once and never drawn again, so that it works over SSH and in any scroll-back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from variet import paths
from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    EventBase,
    Progress,
    TierChanged,
    TurnEnded,
    UsageTold,
)  # fmt: skip
from variet.agent.opening import Opened
from variet.approval import Approval, Decision
from variet.errors import VarietError
from variet.policy.action import MODES, Mode
from variet.surfaces.terminal import slash
from variet.surfaces.terminal.completion import Words
from variet.surfaces.terminal.gauge import Gauge
from variet.surfaces.terminal.printer import Printer
from variet.tiers import TIERS

log = logging.getLogger("variet.terminal")

Reopen = Callable[[str | None, Mode], Awaitable[Opened]]
_ASKED = "[y]es, [s]ession, [n]o, or say what instead › "
_ASKED_FOR_GOOD = "[y]es, [s]ession, [a]lways here, [n]o, or say what instead › "


class Conversation:
    """One terminal, one session at a time. `reopen`: opens another one: by id, or a new one; with its mode."""

    def __init__(self, opened: Opened, reopen: Reopen, *, trusted: Callable[[], None]) -> None:
        self.opened = opened
        self.reopen = reopen
        self.trust = trusted
        self.left = False
        self.to_tell: list[str] = []  # what the model should know of, with the person's next words
        self.printer = Printer(blocks=True)
        self.gauge = self._fresh_gauge()
        self._asked: list[Approval] = []
        self._turn: asyncio.Task[None] | None = None
        arguments: dict[str, Any] = {"tier": lambda: [*TIERS, "auto"], "mode": lambda: MODES, "resume": slash.names}
        self._prompt: PromptSession[str] = PromptSession(
            history=_history(), completer=Words(opened.kit.workspace.root, slash.HELP, arguments),
            complete_while_typing=False, key_bindings=self._keys(), bottom_toolbar=lambda: self.gauge.line(),
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None, erase_when_done=False,
        )  # fmt: skip

    @property
    def working(self) -> bool:
        return self._turn is not None and not self._turn.done()

    async def run(self) -> int:
        """Until the person leaves. The exit code."""
        with patch_stdout(raw=True):
            self.printer.say(f"Variet in {self.opened.kit.workspace.root}. /help lists commands, Ctrl-D leaves.", "dim")
            for note in self.opened.notes:
                self.printer.say(f"note: {note}", "yellow")
            try:
                while not self.left:
                    try:
                        text = await self._prompt.prompt_async(self._message)
                    except EOFError:
                        break
                    except KeyboardInterrupt:  # where the key binding does not reach: a signal
                        self._stop()
                        continue
                    await self.take(text.strip())
            finally:
                await self.finish()
                await self.opened.close()
        return 0

    async def take(self, text: str) -> None:
        """What a person said: an answer to what is asked, a command, words for the agent."""
        if self._asked:
            if text:
                self._decide("reject", feedback=text)
        elif text.startswith("/"):
            try:
                await slash.run(text, self)
            except VarietError as error:
                self.printer.say(str(error), "red")
        elif text and self.working:
            self.opened.agent.steer(text)
            self.printer.say("(told after what runs now)", "dim")
        elif text:
            context = "\n\n".join(part for part in (self.opened.context(), *self.to_tell) if part)
            self.to_tell.clear()
            self.start(self.opened.agent.run(text, context), "works")

    def start(self, events: Any, what: str) -> None:
        """Let the agent work behind the prompt."""
        self.gauge.working_on = what
        self._turn = asyncio.create_task(self._work(events))

    async def finish(self) -> None:
        """Stop what goes on, and wait for its end."""
        self._stop()
        if self._turn is not None:
            await asyncio.gather(self._turn, return_exceptions=True)

    async def change(self, opened: Opened) -> None:
        """Another session takes the place of this one."""
        await self.finish()
        await self.opened.close()
        self.opened = opened
        self.gauge = self._fresh_gauge()
        for note in opened.notes:
            self.printer.say(f"note: {note}", "yellow")

    def set_mode(self, mode: Mode) -> None:
        self.opened.kit.permissions.mode = mode
        self.gauge.mode = mode

    def _fresh_gauge(self) -> Gauge:
        kit = self.opened.kit
        gauge = Gauge(kit.facts.name, kit.permissions.mode, kit.facts.context_tokens)
        for event in self.opened.session.events:
            if isinstance(event, UsageTold):
                gauge.told(event)
        return gauge

    # --- a turn behind the prompt ---

    async def _work(self, events: Any) -> None:
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    self._see(event)
        except VarietError as error:
            self.printer.say(str(error), "red")
        except Exception as error:
            log.exception("a turn ended by a defect")
            self.printer.say(f"a defect of Variet ended this turn: {type(error).__name__}: {error}", "red")
        finally:
            self._asked.clear()
            self.gauge.working_on, self.gauge.progress = "", None
            self._draw()

    def _see(self, event: EventBase) -> None:
        self.printer.show(event)
        main = event.parent_id is None
        if isinstance(event, Progress):
            self.gauge.progress = event
        else:
            self.gauge.progress = None
        if isinstance(event, UsageTold) and main:
            self.gauge.told(event)
        elif isinstance(event, TierChanged):
            self.gauge.tier, self.gauge.limit_tokens = event.tier, self.opened.kit.facts.context_tokens
        elif isinstance(event, ApprovalRequested):
            self._asked.append(event.approval)
            self.gauge.working_on = "waits for you"
        elif isinstance(event, ApprovalResolved):
            self._asked = [one for one in self._asked if one.id != event.approval_id]
            self.gauge.working_on = "waits for you" if self._asked else "works"
        elif isinstance(event, TurnEnded) and main:
            self._asked.clear()
        self._draw()

    def _decide(self, choice: str, scope: str = "once", feedback: str | None = None) -> None:
        approval = self._asked.pop(0)
        decision = Decision.model_validate(
            {"approval_id": approval.id, "payload_sha256": approval.payload_sha256, "choice": choice, "scope": scope,
             "feedback": feedback, "surface": "terminal"}
        )  # fmt: skip
        self.opened.agent.answer(decision)

    def _stop(self) -> None:
        if self.working:
            self.opened.agent.cancel()

    # --- the prompt ---

    def _message(self) -> str:
        if not self._asked:
            return "› "
        return _ASKED_FOR_GOOD if "always" in self._asked[0].scopes else _ASKED

    def _may_answer(self, scope: str) -> bool:
        """Whether a key is an answer: something is asked, and no words were begun."""
        return bool(self._asked) and not get_app().current_buffer.text and scope in self._asked[0].scopes

    def _draw(self) -> None:
        self._prompt.app.invalidate()  # between two prompts nothing comes of it

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def answers(key: str, choice: str, scope: str) -> None:
            @keys.add(key, filter=Condition(lambda: self._may_answer(scope)))
            def _(event: KeyPressEvent) -> None:
                self._decide(choice, scope)
                event.app.invalidate()

        for key, choice, scope in (("y", "approve", "once"), ("s", "approve", "session"), ("a", "approve", "always"),
                                   ("n", "reject", "once")):  # fmt: skip
            answers(key, choice, scope)

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if self.working:
                self._stop()
            elif event.current_buffer.text:
                event.current_buffer.reset()
            else:
                self.printer.say("Ctrl-D leaves", "dim")

        @keys.add("s-tab")
        def _(event: KeyPressEvent) -> None:
            self.set_mode(MODES[(MODES.index(self.gauge.mode) + 1) % len(MODES)])

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        return keys


def _history() -> FileHistory | InMemoryHistory:
    """Earlier prompts, in a file of the person's own."""
    try:
        path = paths.private_dir(paths.state_dir()) / "prompts"
        Path(path).touch(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
