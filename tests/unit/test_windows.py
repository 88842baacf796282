"""What Windows needs, through the injected platform: transport, Job Object, signals, words."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from variet.engine.backends.base import Gone, LaunchSpec
from variet.engine.caveats import System, caveats
from variet.engine.instance import address_for
from variet.engine.llama_server import install_hint
from variet.engine.serve import handle_signals
from variet.processes import LinuxLeash, LooseLeash, WindowsLeash, leash_for

SPEC = LaunchSpec("told", "llama-server", (), {"PATH": "x"}, True, 60)


def test_children_listen_on_loopback_with_a_key_that_no_command_line_shows(tmp_path: Path) -> None:
    first, flags, env = address_for(SPEC, tmp_path, "win32")
    second, _, _ = address_for(SPEC, tmp_path, "win32")
    assert first.socket_path is None and first.base_url == "", "until the child said which port it chose"
    assert flags == ["--host", "127.0.0.1", "--port", "0"]
    assert first.api_key and env["LLAMA_API_KEY"] == first.api_key != second.api_key
    assert not any(first.api_key in flag for flag in flags) and "LLAMA_API_KEY" not in SPEC.env


def test_elsewhere_they_listen_on_a_socket_of_their_own(tmp_path: Path) -> None:
    first, flags, env = address_for(SPEC, tmp_path, "linux")
    assert first.socket_path and Path(first.socket_path).parent == tmp_path and flags == ["--host", first.socket_path]
    assert first.api_key is None and env == SPEC.env


class Function:
    """A function of a library as ctypes has it: callable, with a `restype` to be set."""

    def __init__(self, answer: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.restype: Any = None
        self._answer = answer

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        return self._answer


class Kernel:
    """kernel32 as far as a Job Object goes."""

    def __init__(self, limits_set: int = 1, assigned: int = 1) -> None:
        self.CreateJobObjectW = Function(0x1_0000_0001)  # a handle that needs all 64 bits
        self.SetInformationJobObject = Function(limits_set)
        self.OpenProcess = Function(77)
        self.AssignProcessToJobObject = Function(assigned)
        self.CloseHandle = Function(1)


def test_a_job_object_ends_children_with_the_engine() -> None:
    kernel = Kernel()
    leash = WindowsLeash(kernel)
    assert kernel.CreateJobObjectW.restype is ctypes.c_void_p, "else a handle loses its upper half"
    job, kind, limits, size = kernel.SetInformationJobObject.calls[0]
    assert job.value == 0x1_0000_0001 and kind == 9
    flags = limits._obj.basic.flags
    assert flags == 0x2000, "JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE"
    assert size == ctypes.sizeof(limits._obj) == 144, "JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits"
    leash.hold(4711)
    access, inherit, pid = kernel.OpenProcess.calls[0]
    assert (access, inherit, pid) == (0x0101, False, 4711)
    assert [handle.value for handle in kernel.AssignProcessToJobObject.calls[0]] == [0x1_0000_0001, 77]
    assert kernel.CloseHandle.calls[0][0].value == 77, "the process handle is closed, the job's is not"
    assert len(kernel.CloseHandle.calls) == 1
    assert leash.spawn_options() == {"creationflags": 0x08000200}


def test_a_refused_job_object_is_said() -> None:
    with pytest.raises(OSError, match="Job Object"):
        WindowsLeash(Kernel(limits_set=0))
    kernel = Kernel(assigned=0)
    leash = WindowsLeash(kernel)
    with pytest.raises(OSError, match="4711"):
        leash.hold(4711)
    assert kernel.CloseHandle.calls, "closed all the same"


def test_every_platform_gets_the_strongest_leash() -> None:
    assert isinstance(leash_for("linux"), LinuxLeash)
    assert isinstance(leash_for("darwin"), LooseLeash)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_drains_where_the_loop_has_no_signal_handlers(number: signal.Signals) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    async def reload() -> None:
        """Nothing to reload."""

    handle_signals(reload, stop, hurry, "win32")
    signal.raise_signal(number)
    await asyncio.wait_for(stop.wait(), 5)
    assert not hurry.is_set()
    signal.raise_signal(number)
    await asyncio.wait_for(hurry.wait(), 5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
async def test_sighup_reloads() -> None:
    reloaded, stop = asyncio.Event(), asyncio.Event()

    async def reload() -> None:
        reloaded.set()

    handle_signals(reload, stop, asyncio.Event(), "linux")
    signal.raise_signal(signal.SIGHUP)
    await asyncio.wait_for(reloaded.wait(), 5)
    assert not stop.is_set()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-4, "processor lacks"), (0xC000001D, "processor lacks"), (-9, "want of memory"), (-11, "damaged"),
        (0xC0000135, "library that is missing"), (-6, "aborted: GGML_ASSERT error"), (1, "exit code 1: GGML_ASSERT"),
    ],
)  # fmt: skip
def test_the_end_of_a_child_is_put_into_words(code: int, words: str) -> None:
    assert words in Gone(code, ("loading", "GGML_ASSERT error in ops.cpp")).explain()


def test_people_are_told_where_memory_goes_without_an_error() -> None:
    assert caveats(System("linux", "6.1.0-26-amd64", (), 64_000), 90_000) == []
    assert caveats(System("win32", "11", ("TCC",), 64_000)) == []
    spilling = caveats(System("win32", "11", ("TCC", "WDDM"), 64_000))
    assert [one.what for one in spilling] == ["NVIDIA driver model"] and "Sysmem Fallback" in spilling[0].mend
    wsl = System("linux", "5.15.153.1-microsoft-standard-WSL2", (), 32_000)
    assert [one.what for one in caveats(wsl)] == ["WSL"]
    assert "memory=82GB" in caveats(wsl, 80_000)[1].mend


def test_the_way_to_a_llama_server_is_the_platform_s_own() -> None:
    assert "winget" in install_hint("win32") and "brew" in install_hint("darwin") and "PATH" in install_hint("plan9")
