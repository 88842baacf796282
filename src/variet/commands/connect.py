"""`variet connect`: other people's coding clients on this engine, by their own configuration."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from variet.commands.common import json_option, print_json

if TYPE_CHECKING:
    from variet.connect.catalogue import Catalogue
    from variet.connect.changes import Plan
    from variet.connect.clients import Client, Where

_NAMES = ("openclaude", "opencode", "qwen-code", "claude-code", "codex", "aider", "continue", "zed")


@click.command(
    epilog="""\b
Examples:
  variet connect --list                   which clients are here, and which use this engine
  variet connect opencode                 in all folders
  variet connect qwen-code --project      in this folder alone
  variet connect codex --print            show what would change, and change nothing
  variet connect codex --check            let it do a small task, to see that all works
  variet connect codex --undo             put back what stood there
"""
)
@click.argument("client", required=False, type=click.Choice(_NAMES))
@click.option("--user", "scope", flag_value="user", default="user", help="In all folders (the default).")
@click.option("--project", "scope", flag_value="project", help="In this folder alone; no key is written into it.")
@click.option("--print", "show", is_flag=True, help="Show what would change; change nothing.")
@click.option("--undo", is_flag=True, help="Put back what stood there; what you changed since stays.")
@click.option("--check", "checking", is_flag=True, help="Let it do a small task in a scratch folder, twice.")
@click.option(
    "--limit", "limit_s", default=900.0, show_default=True, help="With --check: the most seconds a run takes."
)
@click.option("--list", "listing", is_flag=True, help="List the clients.")
@click.option("--commands", is_flag=True, help="With --check: let it run commands, too. They run as you, unasked.")
@click.option("--key-of", metavar="URL", hidden=True, help="Print an engine's key, for clients that ask for it.")
@json_option
def connect(
    client: str | None, scope: str, show: bool, undo: bool, checking: bool, limit_s: float, commands: bool,
    listing: bool, key_of: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Let CLIENT use this engine: its own configuration is changed, a copy is kept, and --undo puts it back.

    \b
    Clients: openclaude, opencode, qwen-code, claude-code, codex, aider, continue, zed.
    """
    from variet.connect.clients import CLIENTS

    if key_of:
        _print_key(key_of)
    elif commands and not checking:
        raise click.UsageError("--commands goes with --check")
    elif client is None and (undo or show or checking):
        raise click.UsageError("of which client? `variet connect --list` shows them")
    elif listing or client is None:
        _list(as_json)
    elif checking:
        if scope == "project":
            raise click.UsageError("--check tries what stands in your own configuration: run it without --project")
        from variet.commands.client_check import check

        check(CLIENTS[client], _catalogue(), _where(CLIENTS[client], "user"), limit_s, as_json, commands=commands)
    elif undo:
        _carry_out(CLIENTS[client], scope, None, show, as_json)
    else:
        if scope == "project" and CLIENTS[client].only_user:
            raise click.UsageError(f"{CLIENTS[client].only_user}: run it without --project")
        if scope == "project" and Path.cwd().resolve() == Path.home().resolve():
            raise click.UsageError("this is your home folder, no project: run it without --project")
        _carry_out(CLIENTS[client], scope, _catalogue(), show, as_json)


def _catalogue() -> Catalogue:
    from variet import connection
    from variet.commands import client as engine
    from variet.connect.catalogue import catalogue

    listed = engine.call("GET", "/v1/models").json()
    return catalogue(connection.find(), listed)


def _where(client: Client, scope: str) -> Where:
    from variet import paths
    from variet.connect.clients import Where

    project = Path.cwd().resolve() if scope == "project" else None
    mark = f"-{hashlib.sha256(str(project).encode()).hexdigest()[:12]}" if project is not None else ""
    ours = paths.config_dir() / "clients" / f"{client.name}{mark}"
    return Where(Path.home(), project, ours, dict(os.environ), os.name == "nt")


def _carry_out(client: Client, scope: str, engine: Catalogue | None, show: bool, as_json: bool) -> None:
    """Without an engine: put back."""
    from variet.connect import changes

    where = _where(client, scope)
    made = changes.plan(client.name, where.project, client.files(engine, where) if engine is not None else [])
    if not show:
        changes.apply(made)
    environment = client.environment(engine, where) if engine is not None else {}
    notes = client.notes(engine, where) if engine is not None else []
    if as_json:
        print_json({
            "client": client.name, "connected": engine is not None, "written": not show,
            "changed": [str(one.path) for one in made.changes if one.different], "left": made.left,
            "environment": environment, "notes": notes,
        })  # fmt: skip
        return
    _tell(made, show)
    if engine is None:
        return
    if environment:
        click.echo(f"{client.title} must be started with this; put it into your shell's profile:")
        for name, value in environment.items():
            click.echo(f'  $env:{name} = "{value}"' if where.windows else f"  export {name}='{value}'")
    for note in notes:
        click.echo(f"note: {note}")
    if not show:
        click.echo(f"{client.title} uses {engine.url}. Back: variet connect {client.name} --undo" + _scoped(scope))


def _tell(made: Plan, show: bool) -> None:
    different = [one for one in made.changes if one.different]
    for change in different:
        if show:
            click.echo(change.shown, nl=False)
        else:
            click.echo(f"{'removed' if change.after is None else 'wrote'} {change.path}")
    for left in made.left:
        click.echo(f"left as it is: {left}")
    if not different:
        click.echo("nothing to change")


def _scoped(scope: str) -> str:
    return " --project" if scope == "project" else ""


def _print_key(url: str) -> None:
    from variet import connection
    from variet.connect.catalogue import NO_KEY

    click.echo(connection.key_of(url) or NO_KEY)


def _list(as_json: bool) -> None:
    from variet.connect.changes import recall
    from variet.connect.clients import CLIENTS
    from variet.errors import VarietError

    try:
        engine: Catalogue | None = _catalogue()
        problem = ""
    except VarietError as error:
        engine, problem = None, str(error)
    here = Path.cwd().resolve()
    found: list[dict[str, Any]] = []
    for client in CLIENTS.values():
        scopes = [name for name, folder in (("user", None), ("project", here)) if recall(client.name, folder).files]
        found.append({
            "client": client.name, "title": client.title, "installed": shutil.which(client.program),
            "connected": scopes,
        })  # fmt: skip
    if as_json:
        print_json({"engine": engine.url if engine else None, "problem": problem, "clients": found})
        return
    for one in found:
        state = " and ".join(f"connected ({scope})" for scope in one["connected"]) or "not connected"
        click.echo(f"{one['client']:<12} {'installed' if one['installed'] else 'not found':<10} {state}")
    click.echo(f"engine: {engine.url}" if engine else f"no engine: {problem}")
