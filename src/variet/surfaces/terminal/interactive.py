"""A conversation in a terminal: the prompt stays while the agent works above it.

Enter while it works tells it something more; Ctrl-C stops it. Commands run behind the prompt, too: lines are taken in
their order, each once the one before is done. An approval is a question whose answer is a line, ended
by Enter; a line that was begun before its question stood on the screen answers nothing. The prompt is prompt_toolkit's,
everything above it is printed once and never drawn again, so that it works over SSH and in any scroll-back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from variet import paths
from variet.agent.conversation import Conversation
from variet.agent.events import ApprovalRequested, ApprovalResolved, EventBase, TurnEnded, TurnStarted
from variet.approval import Approval
from variet.errors import VarietError
from variet.policy.action import MODES, Mode
from variet.surfaces.ending import ended_by_signals
from variet.surfaces.terminal import slash
from variet.surfaces.terminal.above import Above
from variet.surfaces.terminal.completion import Words
from variet.surfaces.terminal.gauge import Gauge
from variet.surfaces.terminal.keys import conversation_input
from variet.surfaces.terminal.printer import Printer
from variet.surfaces.terminal.question import Line, Question, Show, decision_of
from variet.tiers import TIERS

log = logging.getLogger("variet.terminal")

SURFACE = "terminal"

Reopen = Callable[[str | None, Mode | None], Awaitable[Conversation]]


class Terminal:
    """One session at a time. `reopen`: opens another one: by id, or a new one; with its mode."""

    def __init__(self, conversation: Conversation, reopen: Reopen, *, trusted: Callable[[], None]) -> None:
        self.conversation = conversation
        self.reopen = reopen
        self.trust = trusted
        self.left = False
        self.gauge = Gauge(conversation.state)
        self._waiting: deque[Approval] = deque()  # for a person's answer, the first of them asked now
        self._question: Question | None = None  # stands on the screen
        self._begun = False  # a line is being typed, and `_begun_under` stood on the screen when its first key came
        self._begun_under: Question | None = None
        self._asking: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._lines: asyncio.Queue[str] = asyncio.Queue()  # entered, and not yet taken
        self._command: asyncio.Task[None] | None = None
        keyboard, self._raw = conversation_input()
        arguments: dict[str, Any] = {"tier": lambda: [*TIERS, "auto"], "mode": lambda: MODES, "resume": slash.names}
        self._prompt: PromptSession[str] = PromptSession(
            input=keyboard, history=_history(), completer=Words(self._root, slash.HELP, arguments),
            complete_while_typing=False, key_bindings=self._keys(), bottom_toolbar=lambda: self.gauge.line(),
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None, erase_when_done=False,
        )  # fmt: skip
        self._prompt.default_buffer.on_text_changed += self._typed
        self._above = Above(self._prompt.app.output)
        self.printer = Printer(blocks=True, file=self._above)

    @property
    def _root(self) -> Path:
        return Path(self.conversation.header.cwd)

    async def run(self) -> int:
        """Until the person leaves. The exit code."""
        with patch_stdout(raw=True), ended_by_signals(self.leave):
            self.printer.say(f"Variet in {self._root}. /help lists commands, Ctrl-D leaves.", "dim")
            self._follow()
            await self._above.printed()  # before the first line that was typed ahead
            taking = asyncio.create_task(self._take_lines())
            try:
                with self._raw:  # not while it ends: then Ctrl-C ends it at once
                    await self._read_lines()
            finally:
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)
                await self._close()
                await self._above.printed()
        return 0

    async def _read_lines(self) -> None:
        """Until the person leaves."""
        while not self.left:
            try:
                self._begun = False
                text = await self._prompt.prompt_async(self._message)
            except EOFError:
                break
            except KeyboardInterrupt:  # where the key binding does not reach: a signal
                self._stop()
                continue
            self._lines.put_nowait(text.strip())
            if self._command is not None and text.strip():
                self.printer.say(f"(waits for {self.gauge.command})", "dim")

    def leave(self) -> None:
        self.left = True
        if self._prompt.app.is_running:
            self._prompt.app.exit(exception=EOFError)

    async def _take_lines(self) -> None:
        """Each entered line in its order, until cancelled."""
        while True:
            text = await self._lines.get()
            if text.startswith("/"):
                self.gauge.command = text.split()[0]
                self._command = asyncio.create_task(self._run(text))
                try:
                    await asyncio.wait([self._command])
                finally:
                    await self._stop_command()
                    self._command, self.gauge.command = None, ""
                    self._draw()
            else:
                try:
                    self._take(text)
                except Exception as error:  # noqa: BLE001 - the next line is taken all the same
                    self._tell_error("this line", error)

    async def _run(self, command: str) -> None:
        try:
            await slash.run(command, self)
        except asyncio.CancelledError:
            self.printer.say(f"{command} was stopped", "yellow")
        except Exception as error:  # noqa: BLE001 - the next line is taken all the same
            self._tell_error(command, error)

    def _tell_error(self, what: str, error: Exception) -> None:
        """An error that has no words for people is a defect."""
        if isinstance(error, VarietError):
            self.printer.say(str(error), "red")
        else:
            log.error("%s ended by a defect", what, exc_info=error)
            self.printer.say(f"a defect of Variet ended {what}: {type(error).__name__}: {error}", "red")

    async def _stop_command(self) -> None:
        if self._command is not None and not self._command.done():
            self._command.cancel()
            await asyncio.wait([self._command])

    def _take(self, text: str) -> None:
        """Words for the agent."""
        if text and self.conversation.working:
            self.conversation.steer(text)
            before = "typed before the question, it answers nothing; " if self._question else ""
            self.printer.say(f"({before}told after what runs now)", "dim")
        elif text:
            self.conversation.submit(text, surface=SURFACE)

    async def change(self, conversation: Conversation) -> None:
        """Another session takes the place of this one."""
        await self._close()
        self.conversation = conversation
        self.gauge = Gauge(conversation.state, self.gauge.command)
        self._follow()

    # --- what the session tells ---

    def _follow(self) -> None:
        if self.conversation.state.turns:
            self.printer.recap(self.conversation.session.events)
        for note in self.conversation.notes:
            self.printer.say(f"note: {note}", "yellow")
        after = self.conversation.state.seq
        self._following = asyncio.create_task(self._show(self.conversation.events(after, again=True)))

    async def _close(self) -> None:
        """End the session, and show what it tells until its end."""
        await self.conversation.close()
        if self._following is not None:
            await asyncio.gather(self._following, return_exceptions=True)
        self._no_question()

    async def _show(self, events: AsyncGenerator[EventBase, None]) -> None:
        async with contextlib.aclosing(events):
            async for event in events:
                try:
                    self._see(event)
                except Exception as error:  # noqa: BLE001 - what cannot be shown ends no conversation
                    self._tell_error("what is shown here", error)
                self._draw()

    def _see(self, event: EventBase) -> None:
        self.printer.show(event)
        if isinstance(event, ApprovalRequested):
            self._waiting.append(event.approval)
            self._ask_next()
        elif isinstance(event, ApprovalResolved):
            self._resolved(event.approval_id)
        elif isinstance(event, TurnStarted | TurnEnded) and event.parent_id is None:
            self._no_question()

    # --- questions: one after the other ---

    def _ask_next(self) -> None:
        self.gauge.asks = bool(self._waiting)
        if self._waiting and self._asking is None:
            size = shutil.get_terminal_size()
            question = Question(self._waiting[0], size.columns, size.lines)
            self._put(question, question.head())

    def _put(self, question: Question, lines: Iterable[Line]) -> None:
        self._question = None
        self._asking = asyncio.create_task(self._ask(question, lines))
        self._asking.add_done_callback(self._stopped_by)

    async def _ask(self, question: Question, lines: Iterable[Line]) -> None:
        """A line may answer it that was begun once all of these stood on the screen."""
        self.printer.lines(lines)
        await self._above.printed()
        while not self._prompt.app.is_running:  # between two prompts nothing reads keys
            await asyncio.sleep(0.01)
        for _ in range(2):  # keys that were typed before arrive first, and are no answer
            await asyncio.sleep(0)
        self._question = question
        self._draw()

    def _stopped_by(self, task: asyncio.Task[None]) -> None:
        """A question that cannot be shown stops the turn: it would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a question could not be shown", exc_info=error)
            self.printer.say(f"the question could not be shown, and the turn was stopped: {error}", "red")
            self.conversation.cancel()

    def _resolved(self, approval_id: str) -> None:
        asked = bool(self._waiting) and self._waiting[0].id == approval_id
        self._waiting = deque(one for one in self._waiting if one.id != approval_id)
        if asked:
            self._close_question()
        self._ask_next()

    def _no_question(self) -> None:
        self._waiting.clear()
        self.gauge.asks = False
        self._close_question()

    def _close_question(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking, self._question = None, None

    def _answer(self, question: Question, words: str) -> None:
        """A line that was begun under this question, and ended by Enter."""
        meant = question.answer(words)
        if isinstance(meant, Show):
            self._put(question, meant.lines)
            return
        self._question = None
        self.conversation.decide(decision_of(question.approval, meant))

    def _typed(self, buffer: Buffer) -> None:
        if buffer.text and not self._begun:
            self._begun_under = self._question
        self._begun = bool(buffer.text)

    def _stop(self) -> None:
        """Ctrl-C: the command that runs, the lines that wait for it, and the turn."""
        if self._command is not None:
            self._command.cancel()
            dropped = sum(bool(self._lines.get_nowait()) for _ in range(self._lines.qsize()))
            if dropped:  # they were meant for what would have been then
                self.printer.say(f"(dropped what waited: {dropped} of your lines)", "yellow")
        self.conversation.cancel()

    # --- the prompt ---

    def _message(self) -> str:
        return "› " if self._question is None else self._question.prompt

    def _answers(self) -> bool:
        """Whether Enter answers the question: its line was begun under it, or is empty. Commands stay commands."""
        text = self._prompt.default_buffer.text
        if self._question is None or text.startswith("/"):
            return False
        return not text or self._begun_under is self._question

    def _empty(self, buffer: Buffer) -> None:
        buffer.reset()
        self._begun = False

    def _draw(self) -> None:
        self._prompt.app.invalidate()  # between two prompts nothing comes of it

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter", filter=Condition(self._answers) & ~is_searching)
        def _(event: KeyPressEvent) -> None:
            words = event.current_buffer.text
            if event.key_processor.input_queue and words:  # more came with it: a paste is not typed to a question
                event.current_buffer.insert_text("\n")
                return
            self._empty(event.current_buffer)
            if self._question is not None:
                self._answer(self._question, words)
            event.app.invalidate()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if self.conversation.working or self._command is not None:
                self._stop()
            elif event.current_buffer.text:
                self._empty(event.current_buffer)
            else:
                self.printer.say("Ctrl-D leaves", "dim")

        @keys.add("s-tab")
        def _(event: KeyPressEvent) -> None:
            after = MODES[(MODES.index(self.conversation.state.mode) + 1) % len(MODES)]
            try:
                self.conversation.set_mode(after)
            except VarietError as error:  # its log cannot be written, or it is being closed
                self.printer.say(str(error), "red")

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
