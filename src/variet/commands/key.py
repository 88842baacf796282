"""`variet key`: API keys of the engine on this machine."""

from __future__ import annotations

import click

from variet.commands.common import json_option, print_json


@click.group()
def key() -> None:
    """Make, list and remove API keys. With any key in place, every request needs one."""


@key.command(
    epilog="""\b
Examples:
  variet key add laptop
  variet key add owner --admin
"""
)
@click.argument("name")
@click.option("--admin", is_flag=True, help="May also swap, load, unload, reload and read logs.")
def add(name: str, admin: bool) -> None:
    """Make a key named NAME. It is shown once; only its hash is kept."""
    from variet.engine.trust import KeyStore

    store = KeyStore()
    made = store.add(name, admin=admin)
    click.echo(made)
    click.echo(f"Shown once; its hash is in {store.path}. Give it to a client as VARIET_API_KEY.", err=True)


@key.command(name="list")
@json_option
def list_keys(as_json: bool) -> None:
    """List names and rights; keys themselves are not kept."""
    import datetime

    from variet.engine.trust import KeyStore

    keys = KeyStore().all()
    if as_json:
        print_json([{"name": one.name, "admin": one.admin, "created": one.created} for one in keys])
        return
    for one in keys:
        made = datetime.datetime.fromtimestamp(one.created).astimezone().date()
        click.echo(f"{one.name:<24} {'admin' if one.admin else 'models'}  made {made}")
    if not keys:
        click.echo("no keys: requests from this machine need none, others are refused")


@key.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the key named NAME; the engine refuses it within a quarter of a second."""
    from variet.engine.trust import KeyStore

    KeyStore().remove(name)
    click.echo(f"{name}: removed")
