"""Fetches model files behind the running engine: one model after another, in tier order, and tells the fleet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from variet.engine.config import ModelConfig
from variet.engine.sources import source_for
from variet.engine.sources.base import ensure, is_present, model_paths
from variet.errors import VarietError

log = logging.getLogger("variet.engine.pulls")


@dataclass(slots=True)
class Pull:
    """How far a model's files are."""

    file: str = ""
    so_far: int = 0
    total: int | None = None
    problem: str | None = None
    done: bool = False


def missing_models(models: Mapping[str, ModelConfig], models_dir: Path) -> list[str]:
    """Models of which a file is not there, or not verified."""
    absent = []
    for name, config in models.items():
        paths = model_paths(name, config, models_dir)
        if not all(is_present(spec, path) for spec, path in zip(config.files.all(), paths.all(), strict=True)):
            absent.append(name)
    return absent


class Puller:
    """Pulls models in order; `on_available(model, problem)` is called as each is there or cannot be had."""

    def __init__(self, models_dir: Path, on_available: Callable[[str, str | None], None]) -> None:
        self.pulls: dict[str, Pull] = {}
        self._models_dir = models_dir
        self._on_available = on_available
        self._wanted: dict[str, ModelConfig] = {}
        self._current: tuple[str, ModelConfig] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, models: Mapping[str, ModelConfig]) -> None:
        """Pull these, and nothing else. A pull under way goes on if it is still wanted as it was."""
        self._wanted = dict(models)
        going_on = self._current is not None and self._wanted.get(self._current[0]) == self._current[1]
        for name in models:
            if not (going_on and self._current and name == self._current[0]):
                self.pulls[name] = Pull()
        if going_on:
            return
        if self._task is not None:
            self._task.cancel()
            self._current = None
        self._task = asyncio.create_task(self._run()) if self._wanted else None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._wanted:
            self._current = name, config = next(iter(self._wanted.items()))
            problem = await pull(name, config, self._models_dir, self.pulls[name])
            self._current = None
            self._wanted.pop(name, None)
            self._on_available(name, problem)


async def pull(name: str, config: ModelConfig, models_dir: Path, pull: Pull) -> str | None:
    """Fetch and verify all files of one model. Returns what went wrong, or None."""
    paths = model_paths(name, config, models_dir)
    for spec, path in zip(config.files.all(), paths.all(), strict=True):
        pull.file, pull.so_far, pull.total = path.name, 0, None

        def on_bytes(so_far: int, total: int | None) -> None:
            pull.so_far, pull.total = so_far, total

        try:
            await ensure(spec, path, source_for(spec.source), on_bytes)
        except VarietError as error:
            pull.problem = str(error)
        except Exception as error:  # noqa: BLE001 - a library's own error; the model's waiters must hear of it
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            pull.problem = f"{spec.source}: could not be fetched ({words}). Check the source and the network, then pull"
        if pull.problem is not None:
            log.error("pull of %s failed: %s", name, pull.problem)
            return pull.problem
    pull.done = True
    return None
