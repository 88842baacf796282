"""`variet approvals`: a person's yes or no to what is to be done in their name."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Literal

import click

from variet.commands.common import json_option, print_json
from variet.visible import one_line

_STATES = ("pending", "approved", "rejected", "expired", "executing", "done", "failed", "unknown")


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  variet approvals                                 go through what waits
  variet approvals --watch                         and through what comes
  variet approvals list --all                      what was decided, too
  variet approvals rules add mail.archive          archive without asking
  variet approvals rules add search.fetch docs.python.org
  variet approvals rules add --deny mail.send
""",
)
@click.option("--watch", is_flag=True, help="Wait for what comes.")
@click.pass_context
def approvals(context: click.Context, watch: bool) -> None:
    """Decide what tools may do in your name: each action is shown whole, and done once, as shown.

    Nothing is done before you say so here, by your PIN, or on another surface that you paired. From a pipe, the first
    line of standard input is the PIN.
    """
    if context.invoked_subcommand is not None:
        return
    from variet.surfaces.terminal.approvals import desk

    if not sys.stdin.isatty():
        raise click.UsageError("This asks a person; `variet approvals list --json` is for programs")
    asyncio.run(desk(watch=watch))


@approvals.command("list")
@click.option("--all", "everything", is_flag=True, help="What is over, too.")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="In this state.")
@json_option
def list_(everything: bool, states: tuple[str, ...], as_json: bool) -> None:
    """List what waits."""
    from variet.surfaces.terminal.approvals import line_of, unlocked

    chosen = () if everything else states or ("pending",)

    async def asked() -> None:
        async with unlocked() as client:
            found = await client.listed(*chosen)
        if as_json:
            print_json([one.model_dump() for one in found])
            return
        for one in found:
            click.echo(line_of(one))
        if not found:
            click.echo("nothing waits" if chosen == ("pending",) else "nothing there")

    asyncio.run(asked())


@approvals.command()
@click.argument("action")
@json_option
def show(action: str, as_json: bool) -> None:
    """Show one action whole."""
    from variet.surfaces.terminal.approvals import unlocked, whole

    async def asked() -> None:
        async with unlocked() as client:
            approval = await client.get(action)
        if as_json:
            print_json(approval.model_dump())
        else:
            click.echo(whole(approval))

    asyncio.run(asked())


@approvals.command()
@click.argument("action")
@click.option("--sha256", "payload_sha256", help="Of what you saw; nothing else is approved then.")
@json_option
def approve(action: str, payload_sha256: str | None, as_json: bool) -> None:
    """Approve one action; it is shown once more."""
    _decide(action, True, payload_sha256, "", as_json)


@approvals.command()
@click.argument("action")
@click.option("--because", default="", help="For the model.")
@json_option
def reject(action: str, because: str, as_json: bool) -> None:
    """Reject one action."""
    _decide(action, False, None, because, as_json)


def _decide(action: str, yes: bool, payload_sha256: str | None, because: str, as_json: bool) -> None:
    from variet.assistant.problems import ToolProblem
    from variet.surfaces.terminal import approvals as terminal

    async def asked() -> None:
        async with terminal.unlocked() as client:
            approval = await client.get(action)
            if payload_sha256 not in (None, approval.payload_sha256):
                raise ToolProblem("payload_changed", "that is not what you saw", "Look at it again")
            if yes and not payload_sha256:
                click.echo(terminal.whole(approval), err=True)
                if sys.stdin.isatty() and not click.confirm("Approve?", err=True):
                    raise click.Abort
            after = await terminal.settled(client, await terminal.decided(client, approval, yes, because))
        if as_json:
            print_json(after.model_dump())
        else:
            click.echo(terminal.line_of(after))

    asyncio.run(asked())


@approvals.command()
def pin() -> None:
    """Set your PIN, or another one."""
    from variet.assistant.broker.client import BrokerClient
    from variet.surfaces.terminal.approvals import asked_pin

    async def asked() -> None:
        async with BrokerClient() as client:
            old = asked_pin("Old PIN") if (await client.call("hello"))["has_pin"] else ""
            await client.call("pin.set", old=old, pin=asked_pin("New PIN", confirm=True))
        click.echo("set")

    asyncio.run(asked())


@approvals.group(invoke_without_command=True)
@json_option
@click.pass_context
def rules(context: click.Context, as_json: bool) -> None:
    """List your standing rules; add and remove them."""
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_asked("rules.list"))
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(one["id"])
    if not found:
        click.echo("no rules: everything asks, but for looking")


@rules.command()
@click.argument("tool")
@click.argument("pattern", required=False, default="")
@click.option("--deny", "answer", flag_value="deny", help="Never.")
@click.option("--ask", "answer", flag_value="ask", help="Always ask.")
@click.option("--allow", "answer", flag_value="allow", default="allow", help="Without asking (the default).")
def add(tool: str, pattern: str, answer: Literal["allow", "ask", "deny"]) -> None:
    """Add a rule for a tool; of pages, for a site."""
    rule = asyncio.run(_asked("rules.add", tool=tool, pattern=pattern, answer=answer))
    click.echo(f"kept: {rule['id']}")


@rules.command()
@click.argument("rule")
def remove(rule: str) -> None:
    """Remove a rule, by its words."""
    if not asyncio.run(_asked("rules.drop", name=rule)):
        raise click.UsageError(f"there is no rule {rule!r}; `variet approvals rules` lists them")
    click.echo(f"removed: {rule}")


@approvals.group(invoke_without_command=True)
@json_option
@click.pass_context
def surfaces(context: click.Context, as_json: bool) -> None:
    """List where else you may decide (an editor, Discord); pair and remove."""
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_asked("surfaces.list"))
    if as_json:
        print_json(found)
        return
    click.echo("\n".join(one["name"] for one in found) or "none: you decide in the terminal, by your PIN")


@surfaces.command()
@click.argument("name")
def pair(name: str) -> None:
    """Print a secret with which the surface NAME may show and decide what waits. It is shown once."""
    click.echo(asyncio.run(_asked("surfaces.add", name=name)))


@surfaces.command("remove")
@click.argument("name")
def remove_surface(name: str) -> None:
    """Take a surface's secret back."""
    if not asyncio.run(_asked("surfaces.drop", name=name)):
        raise click.UsageError(f"there is no surface {name!r}")
    click.echo(f"removed: {name}")


@approvals.command()
@click.argument("client", required=False)
@json_option
def forget(client: str | None, as_json: bool) -> None:
    """Forget what CLIENT has read of your mail and calendar, so that its searches stop asking. Without one: list them.

    Do it when its conversations are over: what it has read, its model may still know.
    """
    if client is None:
        found = asyncio.run(_asked("readers.list"))
        if as_json:
            print_json(found)
            return
        for one in found:
            click.echo(
                one_line(f"{one['client']}: {'has read what is private' if one['private'] else 'nothing private'}")
            )
        return
    if not asyncio.run(_asked("readers.forget", name=client)):
        raise click.UsageError(f"{client!r} has read nothing")
    click.echo(f"forgotten: what {client} has read")


async def _asked(method: str, **params: Any) -> Any:
    from variet.surfaces.terminal.approvals import unlocked

    async with unlocked() as client:
        return await client.call(method, **params)
