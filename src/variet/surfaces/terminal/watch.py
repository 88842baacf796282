"""A session that another surface works in, followed from a terminal. A person may answer here what is asked there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing

import click

from variet.agent.events import ApprovalRequested, ApprovalResolved, EventBase, TurnStarted
from variet.agent.host.hosted import HostedConversation
from variet.approval import Approval
from variet.surfaces.terminal.one_shot import put_question
from variet.surfaces.terminal.printer import Printer
from variet.visible import one_line


async def watch(conversation: HostedConversation, *, as_json: bool) -> None:
    """Until the session is closed, or its reader leaves. `as_json`: its whole log, then each event as it comes."""
    past = await conversation.history()
    if as_json:
        for event in past:
            _write(event)
    printer = Printer(undoes=False)
    if not as_json:
        _begin(printer, conversation, past)
    asking: dict[str, asyncio.Task[None]] = {}  # by approval
    one_question = asyncio.Lock()
    present = sys.stdin.isatty() and sys.stderr.isatty() and not as_json

    def ask(approval: Approval) -> None:
        if present and approval.origin == "agent":
            asking[approval.id] = asyncio.create_task(_ask(conversation, approval, one_question, printer))

    for approval in conversation.pending():
        ask(approval)
    last = past[-1].seq if past else 0
    try:
        async with aclosing(conversation.events()) as events:
            async for event in events:
                if event.seq <= last:
                    continue  # it came between joining and reading the log
                _write(event) if as_json else _show(event, printer)
                if isinstance(event, ApprovalRequested):
                    ask(event.approval)
                elif isinstance(event, ApprovalResolved):
                    _take_back(asking, event, printer)
    finally:
        for task in asking.values():
            task.cancel()


def _begin(printer: Printer, conversation: HostedConversation, past: Sequence[EventBase]) -> None:
    printer.recap(past)
    state = conversation.state
    doing = "works" if state.working else "rests"
    printer.say(f"session {conversation.header.id} {doing} ({state.tier}, mode {state.mode}); Ctrl-C leaves it", "dim")


def _show(event: EventBase, printer: Printer) -> None:
    if isinstance(event, TurnStarted) and event.parent_id is None:
        printer.say(f"› {one_line(event.input, 2_000)}", "bold")
    printer.show(event)


async def _ask(conversation: HostedConversation, approval: Approval, one: asyncio.Lock, printer: Printer) -> None:
    async with one:
        decided = await put_question(approval, printer)
        if decided is not None:
            conversation.decide(decided)
        else:
            printer.say("(left open; it can be answered where it was asked)", "dim")


def _take_back(asking: dict[str, asyncio.Task[None]], event: ApprovalResolved, printer: Printer) -> None:
    task = asking.pop(event.approval_id, None)
    if task is not None and not task.done():
        task.cancel()
        printer.say(f"({event.state} by {event.by})", "dim")


def _write(event: EventBase) -> None:
    click.echo(event.model_dump_json())
    sys.stdout.flush()
