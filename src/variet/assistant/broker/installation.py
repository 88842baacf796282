"""Making the broker a user of its own, and undoing it: root's steps, each of which can be done again.

What the person can write does not matter to it any more: not its program, its rules, its store, its secrets, nor the
file that tells clients where it is. Linux with systemd; what stops there and what not is told in docs/security.md.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from variet import paths
from variet.assistant.broker import installed, program, unit
from variet.assistant.broker.account import Account
from variet.assistant.secrets.keep import KEY_BYTES
from variet.errors import VarietError
from variet.system import Runner, must
from variet.visible import visible

_SYSTEMD = Path("/run/systemd/system")  # there where it runs, sd_booted(3)
# Whoever is in one of them becomes root by it: no user of this machine is apart from them.
_LIKE_ROOT = ("docker", "lxd", "incus-admin", "libvirt", "disk", "shadow", "staff", "root")
_MEND = "Mend what it says, then do it again: whatever was done already stays"
Say = Callable[[str], None]


def install(owner: Account, python: Path, pin: Callable[[], str], run: Runner, say: Say) -> None:
    """`pin`: asks for it, where there is none yet. Raises VarietError, OSError; doing it again goes on."""
    os.umask(0o022)
    _nobody_else_s(owner)
    _roots_alone()
    # Asked first: the rest is done alone.
    chosen = None if installed.FILE.exists() and (unit.STATE / "store.sqlite3").exists() else pin()
    broker = _user(run, say)
    say(f"copying Variet to {unit.PROGRAM}, for {python}")
    unit.PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    program.install(python, unit.PROGRAM)
    paths.write_whole(unit.OWNER, json.dumps({"uid": owner.uid, "name": owner.name}) + "\n", durable=True)
    _folder(unit.STATE, broker)
    _key()
    told = installed.Installed(
        owner_uid=owner.uid, broker_uid=broker.uid, folder=unit.STATE, socket=unit.SOCKET
    ).model_dump_json()  # fmt: skip
    running = _stopped(run)
    if chosen is not None:
        keep_pin(broker, chosen)
    paths.write_whole(unit.FILE, unit.TEXT)
    # Last of the files: from now on its person's clients ask this broker, and no other.
    paths.write_whole(installed.FILE, told + "\n", durable=True)
    if running:
        must(run, ("systemctl", "daemon-reload"), _MEND)
        must(run, ("systemctl", "enable", unit.NAME), _MEND)
        must(run, ("systemctl", "restart", unit.NAME), _MEND)


def uninstall(run: Runner, *, purge: bool) -> list[str]:
    """What was removed. `purge`: with all that it kept, and its user. Raises VarietError."""
    there = [path for path in (unit.FILE, installed.FILE, unit.PROGRAM) if path.exists()]
    kept = [path for path in (unit.STATE, unit.KEY, unit.OWNER) if path.exists()]
    if not there and not (purge and kept):
        raise VarietError(
            "no broker is installed here", next_step="`sudo .venv/bin/variet broker install` makes it one"
        )
    if has_systemd():
        run(("systemctl", "disable", "--now", unit.NAME))  # it may be stopped already
        _gone(run)
    for path in [*there, *(kept if purge else [])]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if has_systemd():
        run(("systemctl", "daemon-reload"))
    if purge and run(("id", unit.USER))[0] == 0:
        must(run, ("userdel", unit.USER), _MEND)
    return [str(path) for path in [*there, *(kept if purge else [])]]


def new_pin(pin: str, run: Runner) -> None:
    """In the place of one that was forgotten. Raises VarietError."""
    if not installed.FILE.exists():
        raise VarietError("no broker is installed here", next_step="Your own broker's PIN: variet approvals pin")
    running = _stopped(run)
    try:
        keep_pin(Account.of(unit.USER), pin)
    finally:
        if running:
            must(run, ("systemctl", "start", unit.NAME), _MEND)


def keep_pin(broker: Account, pin: str) -> None:
    """By the broker's own program and user, while it does not run. Raises VarietError."""
    done = broker.run([*unit.COMMAND[:-1], "keep-pin", str(unit.STATE)], pin + "\n")
    if done.returncode:
        raise VarietError(f"the PIN was not kept: {done.stderr.strip()}")


def has_systemd() -> bool:
    return _SYSTEMD.is_dir()


def doubts(owner: Account, run: Runner) -> list[str]:
    """What makes `owner` as good as root, so that no other user of this machine is safe from their shells."""
    import grp

    found = []
    for name in _LIKE_ROOT:
        try:
            group = grp.getgrnam(name)
        except KeyError:
            continue
        if group.gr_gid in owner.groups:
            found.append(f"{owner.name} is in the group {name}, by which they become root without a password")
    code, listed = run(("sudo", "-n", "-l", "-U", owner.name))
    if code == 0 and re.search(r"NOPASSWD:(?!\s*!)", listed):
        found.append(f"{owner.name} may use sudo without a password")
    return found


def signed_in(owner: Account, python: Path) -> list[str]:
    """The sign-ins that a broker of `owner`'s own user holds, where their shells can read them. Raises VarietError
    where nobody can tell: their keyring opens in a session of theirs alone."""
    bus = Path(f"/run/user/{owner.uid}/bus")
    environment = {"HOME": str(owner.home), "USER": owner.name, "VARIET_BROKER_IDLE_S": "1"}
    if bus.exists():
        environment |= {"XDG_RUNTIME_DIR": str(bus.parent), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}"}
    try:
        done = owner.run([str(python), "-m", "variet", "auth", "status", "--json"], environment=environment)
        found = [f"{visible(one['email'])}, which {visible(one['purpose'])}s" for one in json.loads(done.stdout)]
        if found or bus.exists():
            return found
        raise ValueError("no session")
    except (OSError, ValueError, KeyError, TypeError):
        raise VarietError(f"nobody knows whether {owner.name} is signed in with a broker of their own") from None


def _user(run: Runner, say: Say) -> Account:
    try:
        there = Account.of(unit.USER)
    except KeyError:
        say(f"making the user {unit.USER}")
    else:
        if there.shell.endswith("/nologin") and there.groups == (there.gid,) and there.home == unit.STATE:
            return there
        raise VarietError(
            f"there is a user {unit.USER} that is not the broker's: it has a shell, a home or groups of its own",
            next_step=f"Rename or remove it: userdel {unit.USER}",
        )
    must(
        run,
        ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(unit.STATE), "--shell",
         "/usr/sbin/nologin", "--comment", "Variet's broker", unit.USER), _MEND,
    )  # fmt: skip
    return Account.of(unit.USER)


def _folder(folder: Path, broker: Account) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, broker.uid, broker.gid)
    folder.chmod(0o700)


def _key() -> None:
    if unit.KEY.exists() and unit.KEY.stat().st_size == KEY_BYTES:
        return
    sealed = unit.STATE / "secrets.sealed"
    if unit.KEY.exists() and sealed.exists():
        raise VarietError(
            "it is no key, and what it sealed does not open without it", where=str(unit.KEY),
            next_step=f"Put it back from a backup, or remove it and {sealed}, and sign in anew",
        )  # fmt: skip
    paths.write_whole(unit.KEY, secrets.token_bytes(KEY_BYTES), 0o600, durable=True)


def _nobody_else_s(owner: Account) -> None:
    """What lies there may be another person's. Raises VarietError."""
    try:
        kept = json.loads(unit.OWNER.read_text())
        if (kept["uid"], kept["name"]) == (owner.uid, owner.name):
            return
        whose = f"{kept['name']} (user id {kept['uid']})"
    except FileNotFoundError:
        if not installed.FILE.exists() and not unit.STATE.exists():
            return
        whose = "nobody knows whom"
    except (ValueError, KeyError, TypeError):
        whose = "nobody knows whom"
    raise VarietError(
        f"what this machine's broker keeps, sign-ins among it, is that of {whose}",
        next_step="Remove it first: sudo .venv/bin/variet broker uninstall --purge",
    )


def _roots_alone() -> None:
    """The folders that all of it lies in. Raises VarietError."""
    for path in (unit.PROGRAM, unit.FILE, unit.KEY, unit.STATE):
        there = next(one for one in path.parents if one.exists())
        if why := program.others_can_change([str(there)], inside=False):
            raise VarietError(why, next_step="Take that right away (chmod, gpasswd --delete), then do it again")


def _gone(run: Runner) -> None:
    """Raises VarietError where it runs on."""
    code, state = run(("systemctl", "is-active", unit.NAME))
    if code == 0 or state.strip() in ("deactivating", "activating"):
        raise VarietError(
            f"the broker is {state.strip()}, and nothing was removed", next_step="Wait for it, then do it again"
        )


def _stopped(run: Runner) -> bool:
    """Whether the system can start it. It does not run now. Raises VarietError where it runs on."""
    if not has_systemd():
        return False
    run(("systemctl", "stop", unit.NAME))  # there may be none
    _gone(run)
    return True
