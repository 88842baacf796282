"""One prompt, run to its end: for scripts, pipes, and people who know what they want."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import click

from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import ApprovalRequested, ApprovalResolved, EventBase, TurnEnded
from variet.agent.kinds import KINDS
from variet.approval import Approval, Decision
from variet.assistant.problems import ToolProblem
from variet.surfaces.terminal.printer import Printer
from variet.surfaces.terminal.question import Decided, Question, decision_of
from variet.surfaces.terminal.typed import asked_line, forget_typed, typed

if TYPE_CHECKING:
    from variet.surfaces.terminal.approvals import Decider

EXIT = {"done": 0, "error": 1, "limit": 3, "cancelled": 130}


async def run(
    conversation: Conversation,
    text: str,
    *,
    attached: str = "",
    as_json: bool,
    verbose: bool,
    decider: Decider | None = None,
) -> int:
    """The exit code: 0 done, 1 error, 3 a limit, 130 interrupted. `decider`: of what waits at the broker, where a
    person is here."""
    kind = KINDS[conversation.header.kind]
    printer, code = Printer(verbose=verbose, go_on=kind.go_on, undoes=kind.coding), 1
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, AttributeError):  # Windows: Ctrl-C cancels the main task
        loop.add_signal_handler(signal.SIGINT, conversation.cancel)
        loop.add_signal_handler(signal.SIGTERM, conversation.cancel)
        loop.add_signal_handler(signal.SIGHUP, conversation.cancel)
    asking: dict[str, asyncio.Task[None]] = {}  # by approval
    asked = asyncio.Lock()  # one question at a time
    try:
        async with aclosing(run_prompt(conversation, text, attached=attached, surface="terminal")) as events:
            async for event in events:
                _show(event, printer, as_json=as_json)
                if isinstance(event, ApprovalRequested):
                    if event.approval.origin == "broker" and decider is None:
                        continue  # it is decided elsewhere
                    task = asyncio.create_task(_ask(conversation, event, asked, decider, printer))
                    task.add_done_callback(lambda task: _stopped_by(task, conversation))
                    asking[event.approval.id] = task
                elif isinstance(event, ApprovalResolved) and event.approval_id in asking:
                    asking.pop(event.approval_id).cancel()
                elif isinstance(event, TurnEnded):
                    code = EXIT[event.reason]
    finally:
        for task in asking.values():
            task.cancel()
    return code


def _stopped_by(task: asyncio.Task[None], conversation: Conversation) -> None:
    """A question that cannot be asked stops the turn: it would wait for ever."""
    if not task.cancelled() and (error := task.exception()) is not None:
        click.echo(f"the question could not be asked, and the turn was stopped: {error}", err=True)
        conversation.cancel()


def _show(event: EventBase, printer: Printer, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(event.model_dump_json() + "\n")
        sys.stdout.flush()
    else:
        printer.show(event)


async def _ask(
    conversation: Conversation, event: ApprovalRequested, asked: asyncio.Lock, decider: Decider | None, printer: Printer
) -> None:
    """One question at a time, each shown whole before its line is read; Ctrl-C stops the turn."""
    approval = event.approval
    if approval.origin == "broker" and decider is not None:
        async with asked:
            try:
                await decider.ask(approval)
            except click.Abort:
                conversation.cancel()
            except ToolProblem as problem:
                from variet.surfaces.terminal.approvals import GOES_ON_WAITING

                click.echo(f"{problem}\n{GOES_ON_WAITING}", err=True)
        return
    async with asked:
        decision = await put_question(approval, printer)
        if decision is None:
            conversation.cancel()
        else:
            conversation.decide(decision)


async def put_question(approval: Approval, printer: Printer) -> Decision | None:
    """Shown whole before its line is read; None for Ctrl-C."""
    size = shutil.get_terminal_size()
    question = Question(approval, size.columns, size.lines)
    printer.lines(question.head())
    decided = await _decided(question, printer)
    return decision_of(approval, decided) if decided is not None else None


async def _decided(question: Question, printer: Printer) -> Decided | None:
    """What a person's line decides; None for Ctrl-C. The end of the input is a no."""
    while True:
        forget_typed()
        try:
            line = await typed(lambda: asked_line(question.prompt))
        except (KeyboardInterrupt, click.Abort):
            return None
        except (EOFError, OSError):
            return Decided("reject")
        meant = question.answer(line)
        if isinstance(meant, Decided):
            return meant
        printer.lines(meant.lines)
