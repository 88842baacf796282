"""Where surfaces find a process of their user's: its socket, and the lock that makes it the only one of its folder.

Surfaces learn the socket's path from a file that the process writes. A path that each computes would differ:
environment variables are others in a login, a timer and an editor.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from variet import paths
from variet.errors import VarietError
from variet.locks import try_lock


class RunsAlready(VarietError):
    """Another process of the same folder."""


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """`name`: of the process, for people and in the socket's path."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        """The file that says where the socket is."""
        return self.folder / "socket.json"

    def new_address(self) -> str:
        """A path for a socket that is short enough (108 bytes on Linux, 104 on macOS), in a folder of this user alone;
        on Windows a pipe's name."""
        short = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        if os.name != "posix":
            return rf"\\.\pipe\variet-{self.name}-{short}"
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
            base = Path(runtime) / "variet"
        else:
            base = Path(tempfile.gettempdir()) / f"variet-{os.geteuid()}"
        suffix = "" if self.name == "broker" else f"-{self.name}"
        return str(paths.private_dir(base) / f"{short}{suffix}.sock")

    def publish(self, address: str) -> None:
        """Say where this process listens."""
        paths.write_whole(self.file, json.dumps({"socket": address, "pid": os.getpid()}), 0o600)

    def address(self) -> str:
        """Where it listens; empty where no process said so."""
        try:
            return str(json.loads(self.file.read_text(encoding="utf-8"))["socket"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def lock(self) -> IO[bytes]:
        """Holds as long as it is open. Raises RunsAlready where another process holds it."""
        paths.private_dir(self.folder)
        file = (self.folder / "lock").open("a+b")
        try:
            try_lock(file)
        except OSError:
            file.close()
            raise RunsAlready(f"a {self.name} runs already", where=str(self.folder)) from None
        return file
