"""What a shell that runs as the person tries against their broker; prints what it could do. Run as a program."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from variet.assistant.broker import place
from variet.assistant.broker.client import BrokerClient
from variet.assistant.problems import ToolProblem


def broker() -> int:
    """The process id of the broker, as anybody sees it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"\0variet\0broker\0run\0" in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:
            pass
    raise RuntimeError("no broker runs")


def opened(path: Path, mode: str) -> None:
    with path.open(mode) as file:
        if "r" in mode and "+" not in mode:
            file.read(1)


def write_a_rule(store: Path) -> None:
    """And takes it back: the test goes on with this store."""
    line = sqlite3.connect(store, timeout=2)
    line.execute("BEGIN IMMEDIATE")
    line.execute("CREATE TABLE evil (it)")
    line.execute("ROLLBACK")
    line.close()


def stand_in_its_place(address: Path) -> None:
    """Whoever listens where the broker did is given the PIN."""
    aside = address.with_suffix(".aside")
    address.rename(aside)
    aside.rename(address)


def read_the_keyring() -> None:
    import keyring

    if not keyring.get_password("variet-broker", "google-write"):
        raise OSError("nothing there")


def ask_for_a_token() -> None:
    async def asked() -> None:
        async with BrokerClient() as client:
            await client.call("token", service="mail")

    try:
        asyncio.run(asked())
    except ToolProblem as problem:
        raise OSError(problem.what) from None


def ran(*words: str, typed: str = "") -> None:
    done = subprocess.run(words, input=typed, text=True, capture_output=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)


def variet(*words: str, typed: str) -> None:
    ran(sys.executable, "-m", "variet", *words, typed=typed)


def guess(*words: str) -> None:
    variet(*words, typed="123456\nattacker\n")


def main() -> None:
    """Arguments: the id of an action that waits, a file of the broker's program."""
    action, program = sys.argv[1], Path(sys.argv[2])
    where = place.mine()
    pid = broker()
    address = Path(where.socket or where.rendezvous.address())
    attacks: dict[str, Callable[[], object]] = {
        "read what waits, the rules, the PIN's hash": lambda: opened(where.store, "rb"),
        "write a rule or a decision into its store": lambda: write_a_rule(where.store),
        "read its log": lambda: opened(where.audit, "rb"),
        "change its log": lambda: opened(where.audit, "r+b"),
        "read the sealed file": lambda: opened(where.folder / "secrets.sealed", "rb"),
        "read the key of the sealed file": lambda: opened(Path("/etc/variet/broker.key"), "rb"),
        "read tokens from the keyring": read_the_keyring,
        "end it": lambda: os.kill(pid, 0),
        "read its memory": lambda: opened(Path(f"/proc/{pid}/mem"), "r+b"),
        "read its environment": lambda: opened(Path(f"/proc/{pid}/environ"), "rb"),
        "change its program": lambda: opened(program, "r+b"),
        "change what says where it is": lambda: opened(
            Path("/etc/variet/broker.json") if where.own_user else where.rendezvous.file, "r+b"
        ),
        "listen in its place": lambda: stand_in_its_place(address),
        "stop the service": lambda: ran("systemctl", "stop", "variet-broker"),
        "get what reads mail, for an hour": ask_for_a_token,
        "approve what waits": lambda: guess("approvals", "approve", action),
        "add a standing rule": lambda: guess("approvals", "rules", "add", "mail.archive"),
        "set another PIN": lambda: guess("approvals", "pin"),
        "pair a surface": lambda: guess("approvals", "surfaces", "pair", "mine"),
        "install it anew": lambda: variet("broker", "install", "--user", "ada", typed="attacker\n"),
        "set a forgotten PIN": lambda: variet("broker", "pin", typed="attacker\n"),
        "keep a PIN in its store": lambda: variet("broker", "keep-pin", str(where.folder), typed="attacker\n"),
    }
    done = []
    for name, attack in attacks.items():
        try:
            attack()
            done.append(name)
        except (OSError, sqlite3.Error):
            pass
    print(json.dumps(done))


if __name__ == "__main__":
    main()
