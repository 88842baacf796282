"""Where the broker is: its folder and its socket.

A client learns the socket's path from a file that the broker writes (rendezvous.py); of a broker that runs as a user of
its own, from a file of root's (installed.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from variet import paths
from variet.assistant.broker.installed import Installed, installed
from variet.errors import VarietError
from variet.rendezvous import Rendezvous


@dataclass(frozen=True, slots=True)
class Place:
    """`peer_uid`: the only user that may be at the other end, as each end sees it; None where the system cannot tell;
    `socket`: of a broker that runs as a user of its own; empty for a broker of the same user, whose
    socket `rendezvous` finds."""

    folder: Path
    peer_uid: int | None = None
    socket: str = ""

    @property
    def own_user(self) -> bool:
        """Whether the broker is another user than its clients."""
        return bool(self.socket)

    def trusts(self, uid: int | None) -> bool:
        """Whether the user at the other end is the right one. `uid`: as the kernel says; None where it does not."""
        if uid is None:
            return not self.own_user
        return self.peer_uid is None or uid == self.peer_uid

    @property
    def store(self) -> Path:
        return self.folder / "store.sqlite3"

    @property
    def audit(self) -> Path:
        return self.folder / "audit.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    @property
    def rendezvous(self) -> Rendezvous:
        return Rendezvous(self.folder, "broker")


def mine() -> Place:
    """Where a client finds the broker of the person who runs this: a user of its own where that is installed for them,
    else the same user. A `VARIET_HOME` is another home, with a broker of its own. Raises TrustError."""
    uid, found = _here()
    if found and uid == found.owner_uid:
        return Place(found.folder, found.broker_uid, str(found.socket))
    return Place(paths.state_dir() / "broker", uid)


def served() -> Place:
    """Where a broker that this user runs is to be. Raises VarietError where that is another user's to run."""
    uid, found = _here()
    if found and uid == found.broker_uid:
        return Place(found.folder, found.owner_uid, str(found.socket))
    if found and uid == found.owner_uid:
        raise VarietError(
            "your broker is a user of its own here, and a service",
            next_step="It runs, or: sudo systemctl start variet-broker",
        )
    return Place(paths.state_dir() / "broker", uid)


def _here() -> tuple[int | None, Installed | None]:
    uid = os.geteuid() if os.name == "posix" else None
    return uid, None if os.environ.get("VARIET_HOME") else installed()
