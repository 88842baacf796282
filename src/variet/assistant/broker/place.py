"""Where the broker is: its folder, its socket, and the lock that makes it the only one.

A client learns the socket's path from a file that the broker writes, for what tempts one to compute it (environment
variables, lengths of paths) differs between a login, a timer and an editor. Of a broker that runs as a user of its own
it learns it from a file of root's (installed.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from variet import paths
from variet.assistant.broker.installed import Installed, installed
from variet.errors import VarietError
from variet.locks import try_lock

if os.name == "posix":
    pass


@dataclass(frozen=True, slots=True)
class Place:
    """`peer_uid`: the only user that may be at the other end, as each end sees it; None where the system cannot tell;
    `socket`: of a broker that runs as a user of its own; else empty, and `told` says it."""

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
    def told(self) -> Path:
        """The file that says where the socket is."""
        return self.folder / "socket.json"


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


def new_socket(folder: Path) -> str:
    """A path for a socket that is short enough (108 bytes on Linux, 104 on macOS), in a folder of this user alone."""
    if os.name != "posix":
        return rf"\\.\pipe\variet-broker-{_short(folder)}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        base = Path(runtime) / "variet"
    else:
        base = Path(tempfile.gettempdir()) / f"variet-{os.geteuid()}"
    return str(paths.private_dir(base) / f"{_short(folder)}.sock")


def tell(place: Place, socket: str, pid: int) -> None:
    paths.write_whole(place.told, json.dumps({"socket": socket, "pid": pid}), 0o600)


def told(place: Place) -> str:
    """The socket's path; empty where no broker said one."""
    try:
        return str(json.loads(place.told.read_text(encoding="utf-8"))["socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


class RunsAlready(VarietError):
    """Another broker of this folder."""


class Lock:
    """Held as long as this object is open. Raises RunsAlready where another process holds it."""

    def __init__(self, place: Place) -> None:
        paths.private_dir(place.folder)
        self._file = (place.folder / "lock").open("a+b")
        try:
            try_lock(self._file)
        except OSError:
            self._file.close()
            raise RunsAlready("a broker runs already", where=str(place.folder)) from None

    def close(self) -> None:
        self._file.close()


def _short(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]
