"""Keeps the machine from sleeping while there is work, and notices when it slept all the same.

Linux: `systemd-inhibit`; macOS: `caffeinate`; Windows: SetThreadExecutionState. Where none exists nothing is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

log = logging.getLogger("variet.engine.awake")
LOOK_S = 5.0
LINGER_S = 30.0  # after the last work: a conversation's next turn should not find the machine asleep
_SLEPT_S = 10.0  # between two looks, beyond the pause that was meant


class Inhibitor(Protocol):
    """Holds the machine awake between `hold` and `release`; both may be called again."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


class ProcessInhibitor:
    """A helper process that holds a lock as long as it lives; it ends with us, since it waits for its stdin to end."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._refused = False

    def hold(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            log.info("sleep cannot be held off: %s ended with %s", self._command[0], self._process.returncode)
            self._refused, self._process = True, None
        if self._process is not None or self._refused:
            return
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            log.info("sleep cannot be held off: %s", error)
            self._refused = True

    def release(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin:
                process.stdin.close()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class WindowsInhibitor:
    """The state belongs to the calling thread: call both from the same one."""

    _CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001

    def __init__(self, kernel32: Any = None) -> None:
        self._kernel = kernel32 if kernel32 is not None else ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]

    def hold(self) -> None:
        self._kernel.SetThreadExecutionState(self._CONTINUOUS | self._SYSTEM_REQUIRED)

    def release(self) -> None:
        self._kernel.SetThreadExecutionState(self._CONTINUOUS)


class NoInhibitor:
    """Nothing on this system can hold sleep off."""

    def hold(self) -> None:
        """Nothing to hold."""

    def release(self) -> None:
        """Nothing to release."""


def inhibitor_for(platform: str = sys.platform, which: Callable[[str], str | None] = shutil.which) -> Inhibitor:
    """What this platform offers."""
    if platform == "win32":
        return WindowsInhibitor()
    if platform == "darwin" and which("caffeinate"):
        return ProcessInhibitor("caffeinate", "-i", "cat")
    if platform.startswith("linux") and which("systemd-inhibit"):
        why = ("--what=sleep:idle", "--mode=block", "--who=Variet Engine", "--why=a model is loading or answering")
        return ProcessInhibitor("systemd-inhibit", *why, "cat")
    return NoInhibitor()


class Wakefulness:
    """Looks every few seconds whether there is work (`busy`), and calls `after_sleep` once the machine came back."""

    def __init__(
        self,
        inhibitor: Inhibitor,
        busy: Callable[[], bool],
        after_sleep: Callable[[], Awaitable[None]],
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._inhibitor = inhibitor
        self._busy = busy
        self._after_sleep = after_sleep
        self._steady, self._wall = steady, wall
        self._held = False
        self._last_busy = -LINGER_S
        self._looked = wall()  # runs on while the machine sleeps; the steady clock may (Windows) or may not

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            self._inhibitor.release()

    async def look(self) -> None:
        now, wall = self._steady(), self._wall()
        slept, self._looked = wall - self._looked - LOOK_S, wall
        if self._busy():
            self._last_busy = now
        wanted = now - self._last_busy < LINGER_S
        if wanted:
            self._inhibitor.hold()  # again and again: it looks after its helper
        elif self._held:
            self._inhibitor.release()
        self._held = wanted
        if slept > _SLEPT_S:
            log.info("the machine slept for %.0f s: its models are probed", slept)
            try:
                await self._after_sleep()
            except Exception:  # whatever a probe meets, the next sleep must be noticed, too
                log.exception("after a sleep of the machine")
