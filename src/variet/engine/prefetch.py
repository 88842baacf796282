"""Brings the file of the model that comes next into memory while another one still answers.

It reads piece by piece at the lowest priority and stops for whatever matters more: memory that is not to spare, a
running model that waits for the disk itself, a load, another wish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from variet.engine import page_cache

log = logging.getLogger("variet.engine.prefetch")
Why = Literal["waited for", "hint", "habit"]
_AGAIN_S = 300.0  # what was read is looked at again no sooner
_CALM_S = 5.0  # what gave way to a running model, or lost its pages, is begun again no sooner
_MOST_FAULTS = 50  # pages that running models had to wait for during a piece


@dataclass(slots=True)
class Prefetch:
    """One model's files on their way into memory. `to_read`: bytes that were not there at first."""

    model: str
    why: Why
    to_read: int = 0
    read: int = 0
    ms: float = 0.0
    ended: str = ""  # done, or why it was given up


class Prefetcher:
    """One an engine; used from its event loop only.

    `spare_bytes`: what may be filled now. `faults`: how often running models waited for the disk so far.
    """

    def __init__(
        self,
        spare_bytes: Callable[[], int],
        faults: Callable[[], int],
        on_end: Callable[[Prefetch], None] = lambda _: None,
    ) -> None:
        self.current: Prefetch | None = None
        self._spare_bytes, self._faults, self._on_end = spare_bytes, faults, on_end
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "prefetch", initializer=_at_lowest_priority)
        self._looked_at: dict[str, float] = {}

    def want(self, model: str, files: Sequence[Path], why: Why) -> None:
        """Read these unless that was done just now. What is under way for another model gives way, but not to a guess:
        a habit never replaces what is waited for or was hinted at."""
        if self.current is not None and (self.current.model == model or why == "habit"):
            return
        if time.monotonic() - self._looked_at.get(model, -_AGAIN_S) < _AGAIN_S:
            return
        self.give_up("another model is wanted")
        self._looked_at[model] = time.monotonic()
        self.current = Prefetch(model, why)
        self._task = asyncio.get_running_loop().create_task(self._run(self.current, files))

    def forget(self, model: str) -> None:
        """It is loaded now, or its files changed: what is known of it in memory may be different next time."""
        self._looked_at.pop(model, None)

    def give_up(self, reason: str) -> None:
        """Stop what is under way; it may be begun again at once."""
        if self._task is not None and self.current is not None:
            self.current.ended = self.current.ended or reason
            self._task.cancel()
            self._looked_at.pop(self.current.model, None)
            self._end(self.current)

    async def stop(self) -> None:
        task = self._task
        self.give_up("the engine stops")
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    def _end(self, one: Prefetch) -> None:
        if self.current is one:
            self.current, self._task = None, None
            if one.read or one.to_read:
                log.info("%s: %d MB of %d MB read ahead (%s): %s", one.model, one.read >> 20, one.to_read >> 20,
                         one.why, one.ended)  # fmt: skip
                self._on_end(one)

    async def _run(self, one: Prefetch, files: Sequence[Path]) -> None:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        try:
            absent = await loop.run_in_executor(self._thread, _absent, files)
            one.to_read = sum(length for _, _, length in absent)
            before = self._faults()
            for path, offset, length in absent:
                if self._spare_bytes() < length:
                    one.ended = "no more memory to spare"
                    break
                one.read += await loop.run_in_executor(self._thread, page_cache.read, path, offset, length)
                one.ms = (time.monotonic() - began) * 1000
                now = self._faults()
                if now - before > _MOST_FAULTS:
                    one.ended = "a running model waits for the disk"
                    self._looked_at[one.model] = time.monotonic() - _AGAIN_S + _CALM_S
                    break
                before = now
            lost = [] if one.ended else await loop.run_in_executor(self._thread, _absent, files)
            if lost:  # the system dropped pages again while others were read
                one.ended = "its memory was needed elsewhere"
                self._looked_at[one.model] = time.monotonic() - _AGAIN_S + _CALM_S
            one.ended = one.ended or "done"
        except OSError as error:
            one.ended = f"its file cannot be read: {error}"
        finally:
            self._end(one)


def _absent(files: Sequence[Path]) -> list[tuple[Path, int, int]]:
    return [(path, offset, length) for path in files for offset, length in page_cache.absent(path)]


def _at_lowest_priority() -> None:
    """Of this thread alone, where the system can (Linux: ioprio_set(2) takes a thread's number)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process(threading.get_native_id()).ionice(psutil.IOPRIO_CLASS_IDLE)


def major_faults(pids: Sequence[int]) -> int:
    """How often these processes waited for a page from disk (proc_pid_stat(5), field 12); 0 where nobody tells."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            count += int(stat.rpartition(") ")[2].split()[9])
    return count
