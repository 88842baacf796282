"""`variet broker`: the process that holds what acts in a person's name, and asks them."""

from __future__ import annotations

import asyncio

import click

from variet.commands.common import json_option, print_json


@click.group(
    epilog="""\b
Examples:
  variet broker status          whether it runs, what waits, which strength
  variet broker log             the end of its log
"""
)
def broker() -> None:
    """Look after the broker. It starts by itself when a tool needs it, and ends when none does."""


@broker.command()
@click.option("--idle-s", type=click.FloatRange(min=0), help="End after so long without anybody.")
def run(idle_s: float | None) -> None:
    """Run it here, until it is told to end."""
    import logging

    from variet.assistant.audit import redaction
    from variet.assistant.broker import place
    from variet.assistant.broker.server import BrokerServer
    from variet.assistant.hands import hands

    redaction.install()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # what is asked of Google is nobody's log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def serve() -> None:
        await BrokerServer(place.mine(), hands, idle_s).run()

    try:
        asyncio.run(serve())
    except place.RunsAlready:
        if idle_s is None:
            raise  # else somebody needed one, and there is one


@broker.command()
@json_option
def status(as_json: bool) -> None:
    """Start it where it does not run, and say how it stands."""
    from variet.assistant.broker.client import BrokerClient

    async def asked() -> dict[str, object]:
        async with BrokerClient() as client:
            told: dict[str, object] = await client.call("hello")
            return told

    told = asyncio.run(asked())
    if as_json:
        print_json(told)
        return
    pin = "set" if told["has_pin"] else "none yet (variet approvals pin)"
    strength = "as a user of its own" if told["own_user"] else "as your own user"
    click.echo(f"it runs {strength}; PIN: {pin}; {told['pending']} actions wait")


@broker.command()
def log() -> None:
    """Print the end of its log."""
    from variet.assistant.broker import place
    from variet.surfaces.terminal.safe import safe

    try:
        lines = place.mine().log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    click.echo(safe("\n".join(lines[-50:])) or "nothing was written")
