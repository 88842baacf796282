"""`variet service`: the engine as a service of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet import paths
from variet.commands.common import chosen_config, config_option

if TYPE_CHECKING:
    from variet.engine.service import Job, Manager


@click.group(
    epilog="""\b
Examples:
  variet service install        start now, and whenever this machine starts
  variet service show           print the definition without installing it
  sudo .venv/bin/variet service install --user "$USER"    for the whole system, run as you
"""
)
def service() -> None:
    """Run the engine as a service: systemd on Linux, a start-up task on Windows."""


_user_option = click.option("--user", help="As whom it runs; by default you. Root must name somebody else.")


@service.command()
@config_option
@_user_option
def install(config_path: Path | None, user: str | None) -> None:
    """Write, enable and start the service."""
    job, manager = _job(config_path, user), _manager()
    click.echo(f"installed and started: {manager.install(job)}")
    click.echo("`variet status` shows it, `variet logs` what it did, `variet service uninstall` undoes it", err=True)


@service.command()
@config_option
@_user_option
def show(config_path: Path | None, user: str | None) -> None:
    """Print the definition that `install` would write."""
    click.echo(_manager().text(_job(config_path, user)), nl=False)


@service.command()
def uninstall() -> None:
    """Stop the service and remove it."""
    click.echo(f"removed: {_manager().uninstall()}")


@service.command()
def state() -> None:
    """Say whether it runs, in the system's own word."""
    click.echo(_manager().state())


def _root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _job(config_path: Path | None, user: str | None) -> Job:
    import getpass

    from variet.engine import config_file
    from variet.engine.service import Job

    user = user or os.environ.get("SUDO_USER") or getpass.getuser()
    if _root() and user == "root":
        raise click.UsageError("the engine should not run as root: name a user with --user")
    if sys.platform != "win32":
        import pwd

        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise click.UsageError(f"there is no user {user!r} on this machine") from None
        home = Path(account.pw_dir)
        if not home.is_dir() or home.stat().st_uid != account.pw_uid:
            raise click.UsageError(f"{user} has no home of its own ({home}) where models, keys and logs could be kept")
    config = config_file.load(chosen_config(config_path))  # a broken one is better told now than by the journal
    executable = Path(sys.executable).with_name("variet.exe" if sys.platform == "win32" else "variet")
    return Job.of(executable, config_path, user, os.environ, config.server.shutdown_s)


def _manager() -> Manager:
    from variet.engine.service import manager_for
    from variet.system import run_here

    return manager_for(sys.platform, run_here, root=_root(), home=Path.home(), state=paths.state_dir())
