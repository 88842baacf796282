"""Instances as processes of this machine: the default backend."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from variet.engine.backends.base import Box, Child, LaunchSpec, OnProgress
from variet.engine.instance import LocalChild
from variet.processes import Leash, leash_for


class LocalBackend:
    """One box, `local`, with the memory that the plan may use."""

    def __init__(
        self, capacity_mib: Mapping[str, int], logs: Path, leash: Leash | None = None, platform: str = sys.platform
    ) -> None:
        self._box = Box("local", capacity_mib)
        self._sockets: Path | None = None  # made at the first launch: an engine that never starts leaves none
        self._logs = logs
        self._platform = platform
        self._leash = leash or leash_for(platform)

    def boxes(self) -> Sequence[Box]:
        return (self._box,)

    async def launch(self, box: Box, spec: LaunchSpec, on_progress: OnProgress) -> Child:
        if self._sockets is None:
            self._sockets = socket_dir()
        log = self.log_path(spec.model)
        return await LocalChild.spawn(spec, self._sockets, log, self._leash, on_progress, self._platform)

    def log_path(self, model: str) -> Path:
        return self._logs / f"{model}.log"

    def close(self) -> None:
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)


def socket_dir() -> Path:
    """A fresh private folder for unix sockets; those of engines that are gone are removed.

    It sits in the runtime folder or the temporary one, never deep below a home: the kernel allows a socket's
    path about 100 characters.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    usable = base and Path(base).is_dir() and os.access(base, os.W_OK)
    parent = Path(base) if base and usable else Path(tempfile.gettempdir())
    for old in parent.glob("variet-*-*"):  # left by an engine that was killed
        owner = old.name.split("-")[1]
        with contextlib.suppress(OSError):
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(old)
    return Path(tempfile.mkdtemp(prefix=f"variet-{os.getpid()}-", dir=parent))
