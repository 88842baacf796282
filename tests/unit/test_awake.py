"""The machine stays awake while there is work, and a sleep is noticed; clocks and inhibitors are handed in."""

from __future__ import annotations

import shutil

import psutil
import pytest

from variet.engine.awake import (
    LINGER_S,
    LOOK_S,
    NoInhibitor,
    ProcessInhibitor,
    Wakefulness,
    WindowsInhibitor,
    inhibitor_for,
)


class Noted:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def hold(self) -> None:
        if self.calls[-1:] != ["hold"]:
            self.calls.append("hold")

    def release(self) -> None:
        self.calls.append("release")


class Machine:
    """Two clocks, some work, and a sleep now and then."""

    def __init__(self) -> None:
        self.steady, self.wall, self.work, self.probed = 1_000.0, 5_000_000.0, False, 0
        self.inhibitor = Noted()
        self.wakefulness = Wakefulness(
            self.inhibitor, lambda: self.work, self.probe, lambda: self.steady, lambda: self.wall
        )

    async def probe(self) -> None:
        self.probed += 1

    async def after(self, seconds: float, asleep: float = 0.0) -> None:
        """Time passes, looked at every few seconds as the real one does."""
        self.wall += asleep
        while seconds > 0:
            step = min(seconds, LOOK_S)
            self.steady, self.wall, seconds = self.steady + step, self.wall + step, seconds - step
            await self.wakefulness.look()


async def test_sleep_is_held_off_while_there_is_work_and_a_little_longer() -> None:
    machine = Machine()
    await machine.after(5)
    assert machine.inhibitor.calls == []
    machine.work = True
    await machine.after(5)
    await machine.after(300)
    assert machine.inhibitor.calls == ["hold"]
    machine.work = False
    await machine.after(LINGER_S - 1)
    assert machine.inhibitor.calls == ["hold"]
    await machine.after(2)
    assert machine.inhibitor.calls == ["hold", "release"] and machine.probed == 0


async def test_models_are_probed_once_after_a_sleep() -> None:
    machine = Machine()
    await machine.after(5, asleep=3_600)
    await machine.after(5)
    assert machine.probed == 1

    async def broken() -> None:
        raise RuntimeError("a probe that fails must not end the watch")

    machine.wakefulness._after_sleep = broken
    await machine.after(5, asleep=3_600)
    machine.wall -= 3_600  # somebody set the clock back: no sleep
    await machine.after(5)
    assert machine.probed == 1


def test_windows_is_told_that_the_system_is_required() -> None:
    class Kernel:
        states: list[int] = []  # noqa: RUF012 - one test, one list

        def SetThreadExecutionState(self, state: int) -> int:  # noqa: N802 - Windows' own name
            self.states.append(state)
            return 1

    kernel = Kernel()
    inhibitor = WindowsInhibitor(kernel)
    inhibitor.hold()
    inhibitor.release()
    assert kernel.states == [0x80000001, 0x80000000]


def test_each_platform_gets_what_it_has() -> None:
    assert isinstance(inhibitor_for("linux", lambda _: None), NoInhibitor)
    assert isinstance(inhibitor_for("linux", lambda name: f"/bin/{name}"), ProcessInhibitor)
    assert isinstance(inhibitor_for("darwin", lambda name: f"/bin/{name}"), ProcessInhibitor)
    assert isinstance(inhibitor_for("plan9", shutil.which), NoInhibitor)


@pytest.mark.skipif(shutil.which("cat") is None, reason="needs a POSIX system's cat")
def test_the_helper_lives_as_long_as_it_is_held() -> None:
    inhibitor = ProcessInhibitor("cat")
    before = {one.pid for one in psutil.Process().children()}
    inhibitor.hold()
    inhibitor.hold()
    held = [one for one in psutil.Process().children() if one.pid not in before]
    assert [one.name() for one in held] == ["cat"]
    inhibitor.release()
    inhibitor.release()
    assert not held[0].is_running()
    refused = ProcessInhibitor("false")  # as systemd-inhibit in a container without a bus
    refused.hold()
    ended = [one for one in psutil.Process().children() if one.pid not in before]
    psutil.wait_procs(ended, timeout=0.5)
    refused.hold()
    assert not [one for one in psutil.Process().children() if one.pid not in before], (
        "it is reaped, and not tried again"
    )
    ProcessInhibitor("/nowhere/inhibit").hold()  # told in the log, and no reason to fail
