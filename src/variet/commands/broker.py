"""`variet broker`: the process that holds what acts in a person's name, and asks them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet.commands.common import json_option, print_json

if TYPE_CHECKING:
    from variet.assistant.broker.account import Account


@click.group(
    epilog="""\b
Examples:
  variet broker status          whether it runs, what waits, which strength
  variet broker log             the end of its log
  sudo .venv/bin/variet broker install     make it a user of its own, whose secrets your shells cannot read
"""
)
def broker() -> None:
    """Look after the broker. It starts by itself when a tool needs it, and ends when none does.

    Where it is installed, it is a user of its own and a service of the system.
    """


@broker.command()
@click.option("--idle-s", type=click.FloatRange(min=0), help="End after so long without anybody.")
def run(idle_s: float | None) -> None:
    """Run it here, until it is told to end."""
    import logging

    from variet.assistant.audit import redaction
    from variet.assistant.broker import place
    from variet.assistant.broker.server import BrokerServer
    from variet.assistant.hands import hands
    from variet.rendezvous import RunsAlready

    redaction.install()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # what is asked of Google is nobody's log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def serve() -> None:
        await BrokerServer(place.served(), hands, idle_s).run()

    try:
        asyncio.run(serve())
    except RunsAlready:
        if idle_s is None:
            raise  # else somebody needed one, and there is one


@broker.command()
@json_option
def status(as_json: bool) -> None:
    """Start it where it does not run, and say how it stands."""
    from variet.assistant.broker import installed
    from variet.assistant.broker.client import BrokerClient

    if _is_root() and installed.FILE.exists():
        raise click.UsageError("The broker of this machine answers its person alone: ask without sudo")

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
    from variet.assistant.broker import installed, place, unit
    from variet.surfaces.terminal.safe import safe
    from variet.system import run_here

    where = place.mine()
    if where.own_user or (_is_root() and installed.FILE.exists()):
        command = ("journalctl", "--unit", unit.NAME, "--lines", "50", "--no-pager", "--quiet")
        code, told = run_here(command)
        if code or not (told.strip() or _is_root()):
            raise click.ClickException(f"The system keeps it, and shows it to root: sudo {' '.join(command)}")
        click.echo(safe(told) or "nothing was written")
        return
    try:
        lines = where.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    click.echo(safe("\n".join(lines[-50:])) or "nothing was written")


@broker.command(
    epilog="""\b
Examples:
  sudo .venv/bin/variet broker install                 for whoever calls sudo
  sudo .venv/bin/variet broker install --user ada
  sudo .venv/bin/variet broker install                 again, after an update of Variet: nothing is lost
"""
)
@click.option("--user", help="Whose broker it is; by default who calls sudo.")
@click.option("--python", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="What it runs on; by default what runs this, or else the system's.")  # fmt: skip
@click.option("--leave-sign-ins", is_flag=True, help="Leave sign-ins of the broker before where your shells read them.")
def install(user: str | None, python: Path | None, leave_sign_ins: bool) -> None:
    """Make the broker a user of its own, and a service of this machine (Linux with systemd; as root).

    Then a shell that runs as you, a coding agent's for instance, can read none of its secrets, rules and records, nor
    change them: docs/security.md says what that stops and what not. Do it from a copy of Variet that you trust.
    """
    from variet.assistant.broker import installation, program, unit

    _root_only()
    owner = _owner(user)
    for one in installation.doubts(owner, _patient):
        click.echo(f"note: {one}; as long as that is so, this stops whom it should stop only by accident", err=True)
    if not leave_sign_ins:
        _nobody_signed_in(owner)
    sound = program.sound_python(python, owner)
    installation.install(owner, sound, _new_pin, _patient, lambda text: click.echo(text, err=True))
    if installation.has_systemd():
        click.echo(f"the broker runs as {unit.USER}, for {owner.name}: `variet broker status` asks it")
    else:
        click.echo(
            f"installed, but no systemd runs here. Have your system make {unit.SOCKET.parent}, {unit.USER}'s own, and "
            f"run as {unit.USER}: {' '.join(unit.COMMAND)}"
        )
    click.echo(f"next, as {owner.name}: sign in (docs/google.md), and start anew what uses the tools", err=True)


@broker.command()
@click.option("--purge", is_flag=True, help="Its sign-ins, rules, PIN and log, too.")
def uninstall(purge: bool) -> None:
    """Undo `install` (as root): the broker is one of your own user again. What it keeps stays, unless you purge it."""
    from variet.assistant.broker import installation, unit

    _root_only()
    for path in installation.uninstall(_patient, purge=purge):
        click.echo(f"removed: {path}")
    if not purge:
        click.echo(
            f"kept: {unit.STATE}; --purge removes it. Google knows its sign-ins until you end them there", err=True
        )


@broker.command("unit")
def unit_() -> None:
    """Print the service that `install` writes."""
    from variet.assistant.broker import unit

    click.echo(unit.TEXT, nl=False)


@broker.command()
def pin() -> None:
    """Set a PIN in the place of a forgotten one, of a broker that is installed (as root)."""
    from variet.assistant.broker import installation

    _root_only()
    installation.new_pin(_new_pin(), _patient)
    click.echo("set")


@broker.command("keep-pin", hidden=True)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def keep_pin(folder: Path) -> None:
    """What `install` and `pin` run as the broker's own user: the first line of standard input is the PIN."""
    from variet.assistant.broker.place import Place
    from variet.assistant.broker.server import keep_first_pin

    keep_first_pin(Place(folder), sys.stdin.readline().rstrip("\n"))


def _root_only() -> None:
    if sys.platform != "linux":
        raise click.UsageError("A broker that is a user of its own needs Linux with systemd")
    if not _is_root():
        from variet.assistant.broker import unit

        # By the copy that nobody else changes, where there is one; an update comes from here.
        name = click.get_current_context().info_name
        copy = unit.PROGRAM / "bin" / "variet"
        program = copy if copy.exists() and name != "install" else Path(sys.executable).with_name("variet")
        raise click.UsageError(f"This needs root: sudo {program} broker {name}")


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _patient(command: Sequence[str]) -> tuple[int, str]:
    """Longer than what is being done in a person's name may take."""
    from variet.assistant.broker import unit
    from variet.system import run_here

    return run_here(command, unit.ENDS_S + 30.0)


def _owner(user: str | None) -> Account:
    from variet.assistant.broker import unit
    from variet.assistant.broker.account import Account

    name = user or os.environ.get("SUDO_USER", "")
    if name in ("", "root", unit.USER):
        raise click.UsageError("Whose broker is it? --user NAME; root needs none")
    try:
        return Account.of(name)
    except KeyError:
        raise click.UsageError(f"there is no user {name!r} on this machine") from None


def _new_pin() -> str:
    """As it will be typed at each decision."""
    from variet.assistant.broker.approvers import allow
    from variet.surfaces.terminal.approvals import asked_pin

    chosen = asked_pin("New PIN", confirm=True)
    allow(chosen)
    return chosen


def _nobody_signed_in(owner: Account) -> None:
    """Raises click.ClickException where tokens would stay behind that the person's shells can read."""
    from variet.assistant.broker import installation, installed
    from variet.errors import VarietError

    if installed.FILE.exists():
        return  # it was looked at before
    try:
        found = installation.signed_in(owner, Path(sys.executable))
    except VarietError as error:
        click.echo(f"note: {error.what}; if so, end that first: variet auth revoke, with --write and without", err=True)
        return
    if found:
        raise click.ClickException(
            f"{owner.name} is signed in with a broker of their own user ({'; '.join(found)}), whose tokens every shell "
            "of theirs can read. End that first, as them: variet auth revoke --write; variet auth revoke. Or leave it "
            "so: --leave-sign-ins"
        )
