"""`variet host`: the process that keeps conversations open for several surfaces."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import click

from variet.commands.common import json_option, print_json

if TYPE_CHECKING:
    from variet.agent.conversation import Conversation
    from variet.agent.host.wire import Opening


@click.group(
    epilog="""\b
Examples:
  variet host status          which conversations are open, and who follows them
  variet host stop            end it, and the turns that are under way
  variet host log             the end of its log
"""
)
def host() -> None:
    """Look after the host. It starts by itself when a surface needs it, and ends when none does.

    A program that speaks to it opens a conversation there, and others follow it; a turn goes on without them. `variet
    code` and `variet acp` do not use it yet: each keeps its conversation in its own process.
    """


@host.command()
@click.option("--idle-s", type=click.FloatRange(min=0), help="End after so long without surfaces and conversations.")
def run(idle_s: float | None) -> None:
    """Run it here, until it is told to end."""
    import logging
    import os

    from variet.agent.host import client, server
    from variet.rendezvous import RunsAlready

    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    grace_s = float(os.environ.get("VARIET_HOST_GRACE_S", server.GRACE_S))

    async def serve() -> None:
        await server.Host(client.rendezvous(), open_conversation, idle_s, grace_s).run()

    try:
        asyncio.run(serve())
    except RunsAlready:
        if idle_s is None:
            raise  # else a surface needed a host, and there is one


async def open_conversation(asked: Opening) -> Conversation:
    """A conversation as a surface asked for it. Raises VarietError."""
    from pathlib import Path

    from variet.agent import opening
    from variet.agent import trust as trusting
    from variet.agent.model import EngineModel
    from variet.connection import Connection

    root = Path(asked.root)
    if asked.trust:
        trusting.trust(root)
    engine = Connection(asked.engine, asked.key, Path(asked.authority) if asked.authority else None)
    wishes = opening.Wishes(asked.tier, asked.profile, asked.limits, asked.sampling, asked.check)
    return await opening.start(
        root, EngineModel(engine), wishes, asked.mode, asked.rules, present=True, name=asked.session or None,
        servers=asked.servers, environ=asked.environ,
    )  # fmt: skip


@host.command()
@json_option
def status(as_json: bool) -> None:
    """Say which conversations are open, and who follows them."""
    from variet.agent.host.client import HostClient
    from variet.surfaces.terminal.safe import safe

    async def asked() -> list[dict[str, object]]:
        async with HostClient("variet host status", start=False) as client:
            return [one.model_dump(mode="json") for one in await client.sessions()]

    found = asyncio.run(asked())
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no conversation is open; the host starts when a surface needs it")
    for one in found:
        approvals = one["approvals"]
        state = "waits for you" if approvals else "works" if one["working"] else "rests"
        who = ", ".join(str(name) for name in one["surfaces"]) if isinstance(one["surfaces"], list) else ""
        click.echo(f"{one['id']}  {state:<13}  {safe(str(one['title']))}  ({who or 'nobody follows it'})")


@host.command()
def stop() -> None:
    """End it. Turns that are under way end as cancelled; sessions can be taken up again."""
    from variet.agent.host.client import HostClient
    from variet.errors import ConnectionFailed

    async def told() -> bool:
        async with HostClient("variet host stop", start=False) as client:
            try:
                line = await client.line()
            except (ConnectionFailed, ConnectionError):
                return False
            with contextlib.suppress(ConnectionError):  # it may be gone before it has answered
                await line.ask("stop", {})
            await line.closed()
            return True

    click.echo("the host has ended" if asyncio.run(told()) else "no host runs")


@host.command(name="log")
def show_log() -> None:
    """Print the end of its log."""
    from collections import deque

    from variet.agent.host.client import log_file, rendezvous
    from variet.surfaces.terminal.safe import safe

    file = log_file(rendezvous())
    if not file.exists():
        click.echo(f"there is no log yet: {file}")
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in deque(lines, 200):
            click.echo(safe(line.rstrip("\n")))
