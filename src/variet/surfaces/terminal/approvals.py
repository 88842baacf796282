"""Deciding in the terminal: what waits is shown whole, one after the other; a person's PIN opens the desk."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Self

import click
from rich.cells import chop_cells

from variet.approval import Approval, Decision
from variet.assistant.broker.client import BrokerClient
from variet.assistant.problems import ToolProblem
from variet.errors import VarietError
from variet.surfaces.terminal.question import BAR
from variet.surfaces.terminal.typed import asked_line, forget_typed, typed
from variet.visible import one_line, visible

SURFACE = "terminal"
_TRIES = 3
_LONG = 25
_CHOICES = {"": "s", "y": "y", "yes": "y", "n": "n", "no": "n", "s": "s", "skip": "s", "q": "q", "quit": "q"}
GOES_ON_WAITING = "it goes on waiting: variet approvals, in another terminal; Ctrl-C ends this turn"


@asynccontextmanager
async def unlocked() -> AsyncIterator[BrokerClient]:
    """A line to the broker over which a person may decide. Asks for their PIN. Raises ToolProblem."""
    async with BrokerClient() as client:
        await unlock(client)
        yield client


async def unlock(client: BrokerClient) -> None:
    """Asks for the person's PIN, for this line. Raises ToolProblem."""
    if not (await client.call("hello"))["has_pin"]:
        raise ToolProblem("no_pin", "there is no PIN yet, so nothing can be decided", "Run: variet approvals pin")
    for left in reversed(range(_TRIES)):
        try:
            await client.call("unlock", pin=await typed(lambda: asked_pin("PIN")))
            return
        except ToolProblem as problem:
            if problem.code != "wrong_pin" or not left or not sys.stdin.isatty():
                raise
            click.echo(str(problem), err=True)


class Decider:
    """Lets the person at this terminal decide what waits while an agent works, once they gave their PIN."""

    def __init__(self) -> None:
        self._client = BrokerClient(start=False)
        self._open = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def open(self) -> None:
        """Asks for the PIN, once. Raises ToolProblem."""
        if not self._open:
            await unlock(self._client)
            self._open = True

    async def ask(self, approval: Approval) -> None:
        """What was shown is decided, or goes on waiting. Raises ToolProblem."""
        await self.open()
        try:
            approval = await self._client.get(approval.id)
        except ToolProblem as problem:
            if problem.code != "locked":
                raise
            self._open = False  # the broker began anew
            await self.open()
            approval = await self._client.get(approval.id)
        if approval.state != "pending":
            return
        # Right above the question, whatever was printed since it was first named.
        click.echo(f"\n{whole(approval)}\n", err=True)
        await _answered(self._client, approval)
        if (await self._client.get(approval.id)).state == "pending":
            click.echo(GOES_ON_WAITING, err=True)


def asked_pin(prompt: str, *, confirm: bool = False) -> str:
    """Not shown while it is typed. From a pipe, one line of it: for programs of the person."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    pin: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return pin


def line_of(approval: Approval) -> str:
    """One line."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(approval.created_ms / 1000))
    result = f": {approval.result}" if approval.result else ""
    words = f"{approval.id}  {when}  {approval.state:<9} {approval.summary}  (for {approval.client}){result}"
    return one_line(words, 1_000)


def whole(approval: Approval) -> str:
    """All that a person decides by. A model's or a stranger's words stand on the first line and behind bars alone; no
    line is left to the terminal to fold, which would take it out from behind its bar."""
    width = max(40, shutil.get_terminal_size((100, 40)).columns - len(BAR) - 1)
    head = [approval.summary, f"asked for by {approval.client}, by {approval.tool}"]
    if approval.account:
        head.append(f"with the account {approval.account}")
    head.append(f"why you are asked: {approval.reason}")
    if approval.expires_ms and approval.state == "pending":
        head.append(f"until {time.strftime('%Y-%m-%d %H:%M', time.localtime(approval.expires_ms / 1000))}")
    if approval.state != "pending":
        head.append(f"{approval.state}" + (f": {approval.result}" if approval.result else ""))
    lines = visible(approval.preview).expandtabs(4).split("\n")
    body = [f"{BAR}{piece}" for line in lines for piece in chop_cells(line, width) or [""]]
    again = [f"({len(lines)} lines) {head[0]}"] if len(body) > _LONG else []
    folded = ["\n    ".join(chop_cells(one_line(one, 1_000), width)) for one in (*head, *again)]
    return "\n".join([*folded[: len(head)], *body, *folded[len(head) :]])


async def decided(client: BrokerClient, approval: Approval, yes: bool, because: str = "") -> Approval:
    """Raises ToolProblem."""
    choice: Literal["approve", "reject"] = "approve" if yes else "reject"
    sha256 = approval.payload_sha256
    decision = Decision(
        approval_id=approval.id, payload_sha256=sha256, choice=choice, feedback=because or None, surface=SURFACE
    )
    return await client.decide(decision)


async def desk(*, watch: bool) -> None:
    """Goes through what waits; with `watch`, waits for more."""
    async with unlocked() as client:
        seen: set[str] = set()
        while True:
            waiting = [one for one in reversed(await client.listed("pending")) if one.id not in seen]
            for number, approval in enumerate(waiting, 1):
                seen.add(approval.id)
                click.echo(f"\n[{number} of {len(waiting)}] {whole(approval)}\n")
                if not await _answered(client, approval):
                    return
            if not watch:
                click.echo("nothing else waits" if waiting else "nothing waits")
                return
            if not waiting:
                click.echo("waiting for what comes; Ctrl-C ends", err=True)
                await _until_more(client, seen)


async def _until_more(client: BrokerClient, seen: set[str]) -> None:
    after = 0
    while True:
        for seq, approval in await client.call("changes", 7 * 86_400.0, after=after):
            after = max(after, seq)
            if approval["state"] == "pending" and approval["id"] not in seen:
                return


async def _answered(client: BrokerClient, approval: Approval) -> bool:
    """False where the person has enough."""
    choice = await _choice()
    if choice == "q":
        return False
    if choice == "s":
        return True
    try:
        because = ""
        if choice == "n":
            because = await _line("Why? (for the model; may be empty) []: ")
        after = await decided(client, approval, choice == "y", because)
        click.echo(line_of(await settled(client, after)))
    except VarietError as problem:
        click.echo(str(problem), err=True)
    return True


async def _choice() -> str:
    while True:
        words = (await _line("Approve? [y]es, [n]o, [s]kip, [q]uit [s]: ")).casefold()
        if words in _CHOICES:
            return _CHOICES[words]
        click.echo(f"{one_line(words, 60)!r} decides nothing; type y, n, s or q, and Enter", err=True)


async def _line(question: str) -> str:
    """What a person typed to it. Raises click.Abort for the end of the input, and Ctrl-C."""
    forget_typed()
    try:
        return (await typed(lambda: asked_line(question))).strip()
    except (EOFError, KeyboardInterrupt):
        raise click.Abort from None


async def settled(client: BrokerClient, approval: Approval) -> Approval:
    """As it is once it is done, or not."""
    after = 0
    while approval.state in ("approved", "executing") and approval.sink == "act":
        for seq, one in await client.call("changes", 180.0, after=after):
            after = max(after, seq)
            if one["id"] == approval.id:
                approval = Approval.model_validate(one)
    return approval
