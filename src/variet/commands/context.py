"""`variet context`: the conversations that the engine keeps on disk."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json


@click.group()
def context() -> None:
    """List and forget conversations that the engine keeps, so that a swap costs no second reading.

    They are KV states: numbers from which what was said can be told. They lie on the engine's machine alone, readable
    by its user alone. `$.context.keep` or a tier's `keep_context` in the configuration turn keeping off.
    """


@context.command(name="list", epilog="Example: variet context list")
@json_option
def list_kept(as_json: bool) -> None:
    """Show what is kept, the last used first."""
    answer = client.call("GET", "/engine/contexts").json()
    if as_json:
        print_json(answer)
        return
    for model in answer["unfit"]:
        click.echo(f"{model}: nothing is kept of it, since its restores spared nothing; `purge` lets it try again")
    if not answer["kept"]:
        click.echo("no conversation is kept")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "model", box=None)
    for name in ("tokens", "messages", "MiB", "last used"):
        table.add_column(name, justify="right")
    for one in answer["kept"]:
        table.add_row(
            one["id"],
            one["model"],
            f"{one['tokens']:,}",
            str(one["messages"]),
            f"{one['bytes'] / 2**20:.1f}",
            _ago(one),
        )
    Console().print(table)
    size, most = answer["bytes"] / 2**30, answer["most_bytes"] / 2**30
    click.echo(f"{size:.2f} GiB of {most:g} in {answer['folder']} on the engine's machine")


@context.command(epilog="Example: variet context forget 5f0c1d2e3a4b5968")
@click.argument("ids", nargs=-1, required=True)
def forget(ids: tuple[str, ...]) -> None:
    """Forget the conversations named IDS."""
    for one in ids:
        client.call("DELETE", f"/engine/contexts/{one}")
        click.echo(f"{one}: forgotten")


@context.command(
    epilog="""\b
Examples:
  variet context purge
  variet context purge --model deep-coder --yes
"""
)
@click.option("--model", help="Only what is kept of this tier or model.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(model: str | None, yes: bool) -> None:
    """Forget all of them. Conversations go on, each is read once more; a model that was given up tries again."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked: add --yes")
    if not yes:
        click.confirm(f"Forget every kept conversation{f' of {model}' if model else ''}?", abort=True)
    answer = client.call("DELETE", f"/engine/contexts{f'?model={model}' if model else ''}").json()
    click.echo(f"{answer['forgotten']} forgotten, {answer['bytes'] / 2**20:.1f} MiB")


def _ago(one: dict[str, Any]) -> str:
    seconds = max(0.0, time.time() - one["used_at"])
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
