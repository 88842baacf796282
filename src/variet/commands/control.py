"""`variet swap|load|unload|reload|logs`: wishes to a running engine."""

from __future__ import annotations

import time
from typing import Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json


def _wish(kind: str, model: str, as_json: bool, **extra: Any) -> None:
    began = time.monotonic()
    answer = client.call("POST", f"/engine/{kind}", {"model": model, **extra}, timeout_s=None).json()
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{kind} {answer['model']}: done in {time.monotonic() - began:.1f} s")


@click.command(epilog="Example: variet swap deep-coder")
@click.argument("model")
@json_option
def swap(model: str, as_json: bool) -> None:
    """Make MODEL (a tier, model or alias) resident. Running answers finish first; new requests wait behind it."""
    _wish("swap", model, as_json)


@click.command(epilog="Example: variet load fast")
@click.argument("model")
@json_option
def load(model: str, as_json: bool) -> None:
    """Load MODEL beside what is resident, if it fits; nothing is evicted."""
    _wish("load", model, as_json)


@click.command(epilog="Example: variet unload ultra --now")
@click.argument("model")
@click.option("--now", is_flag=True, help="Cut running answers instead of letting them finish.")
@json_option
def unload(model: str, now: bool, as_json: bool) -> None:
    """Unload MODEL after its running answers are done."""
    _wish("unload", model, as_json, now=now)


@click.command()
@json_option
def reload(as_json: bool) -> None:
    """Take the changed configuration in without dropping a request; a broken one is refused."""
    answer = client.call("POST", "/engine/config/reload").json()
    if as_json:
        print_json(answer)
    else:
        changed = ", ".join(answer["changed"]) or "no model changed"
        click.echo(f"reloaded {answer['reloaded']}: {changed}")
        for key in answer["needs_restart"]:
            click.echo(f"{key} changed: it holds from the next `variet up` on", err=True)


@click.command(epilog="Example: variet logs qwen2.5-coder-1.5b -n 50")
@click.argument("model")
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines.")
def logs(model: str, lines: int) -> None:
    """Show the end of the llama-server log of MODEL (its name, not a tier's)."""
    click.echo(client.call("GET", f"/engine/logs/{model}?lines={lines}").text, nl=False)
