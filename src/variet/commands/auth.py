"""`variet auth`: a person's accounts, for the assistant's tools."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Literal

import click

from variet.commands.common import json_option, print_json


@click.group(
    epilog="""\b
Examples:
  variet auth google --client read.json             what reads mail and calendar
  variet auth google --write --client write.json    what acts, each time after your yes
  variet auth status
  variet auth revoke --write
"""
)
def auth() -> None:
    """Sign in to Google, see what is signed in, and end it. Step by step: docs/google.md."""


@auth.command()
@click.option("--read", "purpose", flag_value="read", default="read", help="What reads (the default).")
@click.option("--write", "purpose", flag_value="write", help="What sends, labels, invites: kept by the broker alone.")
@click.option("--client", "client_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True,
              help="The OAuth client's JSON file, as Google's console gives it for a desktop app.")  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
@json_option
def google(purpose: Literal["read", "write"], client_file: Path, no_browser: bool, as_json: bool) -> None:
    """Sign in with Google: a browser opens, you allow what you want to allow, and that is it."""
    from variet.surfaces.terminal.approvals import unlocked

    client_id, client_secret = _client_of(client_file)

    async def signed_in() -> dict[str, Any]:
        async with unlocked() as broker:
            begun = await broker.call("auth.begin", purpose=purpose, client_id=client_id, client_secret=client_secret)
            click.echo(f"Open this in a browser on this machine:\n\n  {begun['url']}\n", err=True)
            if not no_browser:
                click.launch(begun["url"])
            click.echo("waiting for your answer there; Ctrl-C ends", err=True)
            told: dict[str, Any] = await broker.call("auth.finish", 700.0, flow=begun["flow"])
            return told

    told = asyncio.run(signed_in())
    if as_json:
        print_json(told)
        return
    what = "reads" if purpose == "read" else "acts after your yes"
    able = " and ".join(told["services"])
    click.echo(f"{told['email'] or 'signed in'}: {what}, for {able}; kept in the {told['kept_in']}")
    for service in told["missing"]:
        click.echo(f"{service} was left out in the browser; sign in again and tick its box to have it")


@auth.command()
@json_option
def status(as_json: bool) -> None:
    """Say which accounts are signed in, for what, and how long that lasts."""
    from variet.assistant.broker.client import BrokerClient
    from variet.assistant.google.lasting import lasting

    async def asked() -> list[dict[str, Any]]:
        async with BrokerClient() as broker:
            found: list[dict[str, Any]] = await broker.call("auth.status")
            return found

    found = asyncio.run(asked())
    if as_json:
        print_json(found)
        return
    for one in found:
        what = "reads" if one["purpose"] == "read" else "acts after your yes"
        known = lasting(one["since_s"], one["ends_s"], time.time()).words
        click.echo(f"{one['email'] or 'an account'}: {what}, for {' and '.join(one['services'])} ({known})")
    if not found:
        click.echo("nobody is signed in: variet auth google --client FILE (docs/google.md)")


@auth.command()
@click.option("--read", "purpose", flag_value="read", default="read", help="What reads (the default).")
@click.option("--write", "purpose", flag_value="write", help="What acts.")
def revoke(purpose: Literal["read", "write"]) -> None:
    """End a sign-in, here and at Google."""
    from variet.surfaces.terminal.approvals import unlocked

    async def asked() -> bool:
        async with unlocked() as broker:
            return bool(await broker.call("auth.revoke", 60.0, purpose=purpose))

    if asyncio.run(asked()):
        click.echo("ended, here and at Google")
    else:
        click.echo(
            "forgotten here; Google did not hear of it: https://myaccount.google.com/connections shows what is left"
        )


@auth.command()
def unlock() -> None:
    """Open the sealed file of a machine without a keyring, by your PIN, until the broker ends."""
    from variet.surfaces.terminal.approvals import unlocked

    async def asked() -> None:
        async with unlocked() as broker:
            await broker.call("auth.status")  # tells where the box did not open

    asyncio.run(asked())
    click.echo("open")


def _client_of(file: Path) -> tuple[str, str]:
    try:
        held = json.loads(file.read_text(encoding="utf-8-sig"))
        app = held["installed"]
        return str(app["client_id"]), str(app.get("client_secret", ""))
    except (OSError, ValueError, KeyError, TypeError):
        kinds = 'Google\'s console gives it for an OAuth client of the type "Desktop app" (docs/google.md)'
        raise click.UsageError(f"{file} is no desktop app's OAuth client. {kinds}") from None
