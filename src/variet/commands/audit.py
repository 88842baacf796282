"""`variet audit`: what was asked for, decided and done."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from variet.commands.common import json_option, print_json


@click.group(
    epilog="""\b
Examples:
  variet audit show             the last lines
  variet audit verify           whether any line was changed, taken out or cut off
"""
)
def audit() -> None:
    """Show what was asked for, decided and done, and check that nobody changed it. Bodies are not in it."""


@audit.command()
@click.option("--last", default=40, type=click.IntRange(1, 100_000), show_default=True, help="So many lines.")
@json_option
def show(last: int, as_json: bool) -> None:
    """Print the last lines."""
    from variet.surfaces.terminal.approvals import unlocked
    from variet.visible import one_line

    async def asked() -> list[dict[str, Any]]:
        async with unlocked() as client:
            lines: list[dict[str, Any]] = await client.call("audit.lines", last=last)
            return lines

    lines = asyncio.run(asked())
    if as_json:
        print_json(lines)
        return
    for line in lines:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.get("ts_ms", 0) / 1000))
        hidden = ("ts_ms", "event", "before", "sha256", "payload_sha256", "target_sha256")
        rest = " ".join(f"{key}={value}" for key, value in line.items() if key not in hidden and value not in ("", []))
        click.echo(one_line(f"{when}  {line['event']:<12} {rest}", 1000))


@audit.command()
def verify() -> None:
    """Check the whole log; exit code 1 where something is wrong."""
    from variet.surfaces.terminal.approvals import unlocked

    async def asked() -> list[str]:
        async with unlocked() as client:
            wrong: list[str] = await client.call("audit.verify", 120.0)
            return wrong

    wrong = asyncio.run(asked())
    for one in wrong:
        click.echo(one)
    if wrong:
        raise SystemExit(1)
    click.echo("every line is as it was written")
