"""Where the broker is: its folder, its socket, and the lock that makes it the only one.

A client learns the socket's path from a file that the broker writes, for what tempts one to compute it (environment
variables, lengths of paths) differs between a login, a timer and an editor.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from variet import paths
from variet.errors import VarietError

if os.name == "posix":
    import fcntl


@dataclass(frozen=True, slots=True)
class Place:
    """`own_user`: whether the broker runs as a user of its own; `peer_uid`: the only user
    that may be at the other end, as each end sees it; None where the system cannot tell."""

    folder: Path
    own_user: bool = False
    peer_uid: int | None = None

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
    """Of the person who runs this, as the same user."""
    return Place(paths.state_dir() / "broker", peer_uid=os.geteuid() if os.name == "posix" else None)


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
            _lock(self._file.fileno())
        except OSError:
            self._file.close()
            raise RunsAlready("a broker runs already", where=str(place.folder)) from None

    def close(self) -> None:
        self._file.close()


def _lock(descriptor: int) -> None:
    if os.name == "posix":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        windows: Any = msvcrt
        windows.locking(descriptor, windows.LK_NBLCK, 1)


def _short(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]
