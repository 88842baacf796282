"""No process that Variet starts outlives Variet, even where Variet is killed.

A child of one process (llama-server) is tied to ours: PR_SET_PDEATHSIG on Linux, a Job Object on Windows; elsewhere it
ends when its stdin closes. A command that starts others runs behind a keeper (keeper.py), which ends them all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Leash(Protocol):
    """What a spawn needs so that the child cannot outlive the engine."""

    def spawn_options(self) -> dict[str, Any]:
        """Further keyword arguments of create_subprocess_exec."""
        ...

    def hold(self, pid: int) -> None:
        """Called with the child's process id right after the spawn."""
        ...


class LinuxLeash:
    """The kernel kills the child when the thread that spawned it ends: spawn from the main thread only."""

    def __init__(self) -> None:
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl  # resolved here: after the fork nothing may be loaded

    def spawn_options(self) -> dict[str, Any]:
        return {"preexec_fn": self._in_child(os.getpid())}

    def hold(self, pid: int) -> None:
        """Nothing is left to do: the child asked the kernel itself."""

    def _in_child(self, parent: int) -> Callable[[], None]:
        prctl, getppid, leave, setpgid = self._prctl, os.getppid, os._exit, os.setpgid

        def tie() -> None:
            setpgid(0, 0)  # Ctrl-C in a terminal is for the engine: it lets answers finish first
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if getppid() != parent:  # the engine died between fork and prctl
                leave(1)

        return tie


class WindowsLeash:
    """A Job Object with KILL_ON_JOB_CLOSE: its last handle closes when the engine's process ends."""

    _LIMIT_KILL_ON_JOB_CLOSE = 0x2000
    _EXTENDED_LIMITS = 9
    _SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001

    def __init__(self, kernel32: Any = None) -> None:
        self._kernel = kernel32 if kernel32 is not None else ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
        for name in ("CreateJobObjectW", "OpenProcess"):
            getattr(self._kernel, name).restype = ctypes.c_void_p
        self._job = ctypes.c_void_p(self._kernel.CreateJobObjectW(None, None))
        limits = _ExtendedLimits()
        limits.basic.flags = self._LIMIT_KILL_ON_JOB_CLOSE
        done = self._kernel.SetInformationJobObject(
            self._job, self._EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        if not done:
            raise OSError("Windows refused a Job Object; children could outlive the engine")

    def spawn_options(self) -> dict[str, Any]:
        return {"creationflags": 0x08000000 | 0x00000200}  # CREATE_NO_WINDOW, CREATE_NEW_PROCESS_GROUP (no Ctrl-C)

    def hold(self, pid: int) -> None:
        handle = ctypes.c_void_p(self._kernel.OpenProcess(self._SET_QUOTA_AND_TERMINATE, False, pid))
        try:
            if not self._kernel.AssignProcessToJobObject(self._job, handle):
                raise OSError(f"process {pid} could not be put into the engine's Job Object")
        finally:
            self._kernel.CloseHandle(handle)


class LooseLeash:
    """Other systems: the child watches its stdin, which closes with us."""

    def spawn_options(self) -> dict[str, Any]:
        return {"start_new_session": True}  # Ctrl-C in a terminal is for the engine alone

    def hold(self, pid: int) -> None:
        """Nothing to hold with."""


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("per_process_time", ctypes.c_int64), ("per_job_time", ctypes.c_int64), ("flags", ctypes.c_uint32),
        ("minimum_working_set", ctypes.c_size_t), ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32), ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32), ("scheduling", ctypes.c_uint32),
    )  # fmt: skip


class _ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION (winnt.h)."""

    _fields_ = (
        ("basic", _BasicLimits), ("io", ctypes.c_uint64 * 6), ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t), ("peak_process", ctypes.c_size_t), ("peak_job", ctypes.c_size_t),
    )  # fmt: skip


def leash_for(platform: str = sys.platform) -> Leash:
    """The strongest tie this platform has."""
    if platform.startswith("linux"):
        return LinuxLeash()
    if platform == "win32":
        return WindowsLeash()
    return LooseLeash()


@cache
def leash() -> Leash:
    """The leash of this process, for all its children."""
    return leash_for()


def behind_keeper(words: Sequence[str]) -> list[str]:
    """A command that ends with us, with all that it starts. On Windows `leash().hold` does it: jobs are inherited."""
    if os.name == "nt":
        return list(words)
    keeper = Path(__file__).with_name("keeper.py")
    return [sys.executable, "-I", "-S", str(keeper), str(os.getpid()), *words]
