"""Instances as processes of this machine: the default backend."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from variet import paths
from variet.engine.backends.base import Box, Child, LaunchSpec, OnProgress
from variet.engine.instance import LocalChild
from variet.engine.leash import Leash, leash_for


class LocalBackend:
    """One box, `local`, with the memory that the plan may use."""

    def __init__(self, capacity_mib: Mapping[str, int], logs: Path, leash: Leash | None = None) -> None:
        self._box = Box("local", capacity_mib)
        self._sockets = paths.socket_dir()
        self._logs = logs
        self._leash = leash or leash_for()

    def boxes(self) -> Sequence[Box]:
        return (self._box,)

    async def launch(self, box: Box, spec: LaunchSpec, on_progress: OnProgress) -> Child:
        return await LocalChild.spawn(spec, self._sockets, self.log_path(spec.model), self._leash, on_progress)

    def log_path(self, model: str) -> Path:
        return self._logs / f"{model}.log"

    def close(self) -> None:
        shutil.rmtree(self._sockets, ignore_errors=True)
