"""`python -I -S keeper.py PARENT WORD...` runs a command. When the command or PARENT ends, every process that the
command started is ended.

A program of its own, of the standard library alone. It stands between Variet and a command without a sandbox, so that
nothing lives on when Variet is killed. On Linux the keeper becomes the parent of each process that the command leaves
behind (PR_SET_CHILD_SUBREAPER), even after setsid. Elsewhere it ends the command's process group. SIGTERM and SIGHUP
end the keeper in the same order. Its exit code is the command's, or 128 plus the number of the signal that ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LINUX = sys.platform.startswith("linux")
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_WATCH_S = 0.5  # between two looks at the parent: no system but Linux sends a signal when it ends
_POLL_S = 0.02  # between two looks for a signal, on systems without sigtimedwait: macOS
_PATIENCE_S = 1.5  # for a command that was asked to end
_MOST_S = 5.0  # for killing: a process of another user cannot be killed


def main(parent: int, words: list[str]) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDS, signal.SIGCHLD})
    if _LINUX:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        return 1
    child = os.fork()
    if child == 0:
        _run(words)
    try:
        code = _wait(child, parent)
        if code is None:
            _signal_all(child, signal.SIGTERM)
            code = _ended_within(child, _PATIENCE_S)
    finally:
        _end_rest(child)
    return 128 + int(signal.SIGTERM) if code is None else code


def _run(words: list[str]) -> None:
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_ENDS, signal.SIGCHLD})
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and a child inherits that
            signal.signal(number, signal.SIG_DFL)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _wait(child: int, parent: int) -> int | None:
    """The command's exit code; None where the command has to be ended."""
    while True:
        found = _next_signal({*_ENDS, signal.SIGCHLD}, _WATCH_S)
        code = _reaped(child)
        if code is not None:
            return code
        if os.getppid() != parent or found in _ENDS:
            return None


def _next_signal(numbers: set[signal.Signals], limit_s: float) -> int | None:
    """A blocked signal that came, or None: after `limit_s`, or sooner."""
    if hasattr(signal, "sigtimedwait"):
        found = signal.sigtimedwait(numbers, limit_s)
        return found and found.si_signo
    time.sleep(_POLL_S)
    pending = signal.sigpending() & numbers
    return signal.sigwait(pending) if pending else None


def _ended_within(child: int, limit_s: float) -> int | None:
    deadline = time.monotonic() + limit_s
    code = _reaped(child)
    while code is None and time.monotonic() < deadline:
        _next_signal({signal.SIGCHLD}, 0.1)
        code = _reaped(child)
    return code


def _reaped(child: int) -> int | None:
    """Reaps every process that ended. The command's exit code if the command is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                code = 128 - code if code < 0 else code
    return code


def _signal_all(child: int, number: signal.Signals) -> bool:
    """Whether there was a process to send the signal to."""
    if not _LINUX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, number)
            return True
        return False
    found = _descendants(os.getpid())
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def _end_rest(child: int) -> None:
    deadline = time.monotonic() + _MOST_S
    while _signal_all(child, signal.SIGKILL) and time.monotonic() < deadline:
        time.sleep(0.01)
        _reaped(child)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are wanted
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - pathlib takes as long to load as all else
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
