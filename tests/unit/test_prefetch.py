"""Reading ahead: whole files get into memory, and whatever matters more comes first."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from variet.engine import page_cache
from variet.engine.habits import Habits, likely
from variet.engine.housekeeping import Housekeeping
from variet.engine.prefetch import Prefetch, Prefetcher, major_faults
from variet.engine.scheduler import Phase

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Fifty MiB that are on disk, not in memory."""
    path = tmp_path / "model.gguf"
    path.write_bytes(os.urandom(1 << 20) * 50)
    drop(path)
    return path


def drop(path: Path) -> None:
    """Out of memory with it; pages that a processor just touched need a second try."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        for _ in range(20):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not page_cache.cached_share(path):
                return


class Machine:
    """Memory to spare, and models that may wait for the disk."""

    def __init__(self) -> None:
        self.spare, self.faults = 1 << 40, 0
        self.ended: list[Prefetch] = []
        self.prefetcher = Prefetcher(lambda: self.spare, lambda: self.faults, self.ended.append)

    async def end(self) -> Prefetch:
        while not self.ended:
            await asyncio.sleep(0.005)
        return self.ended[-1]


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    one = Machine()
    yield one
    await one.prefetcher.stop()


@on_linux
async def test_a_file_is_brought_into_memory(machine: Machine, file: Path) -> None:
    assert page_cache.cached_share(file) == 0.0
    machine.prefetcher.want("m", [file], "hint")
    one = await machine.end()
    assert (one.ended, one.to_read, one.read) == ("done", 50 << 20, 50 << 20)
    assert page_cache.cached_share(file) == 1.0


@on_linux
async def test_only_what_is_missing_is_read(machine: Machine, file: Path) -> None:
    page_cache.read(file, 0, 32 << 20)
    machine.prefetcher.want("m", [file], "waited for")
    assert (await machine.end()).read <= 18 << 20


@on_linux
async def test_memory_that_is_not_to_spare_is_not_filled(machine: Machine, file: Path) -> None:
    machine.spare = 10 << 20
    machine.prefetcher.want("m", [file], "hint")
    one = await machine.end()
    assert one.read == 0 and one.ended == "no more memory to spare"


@on_linux
async def test_a_running_model_that_waits_for_the_disk_comes_first(file: Path) -> None:
    machine = Machine()

    def waits_more() -> int:
        machine.faults += 1000
        return machine.faults

    machine.prefetcher = Prefetcher(lambda: machine.spare, waits_more, machine.ended.append)
    machine.prefetcher.want("m", [file], "habit")
    one = await machine.end()
    assert one.read == page_cache.PIECE_BYTES and one.ended == "a running model waits for the disk"
    await machine.prefetcher.stop()


@on_linux
async def test_what_is_waited_for_replaces_what_is_not_but_a_guess_replaces_nothing(
    machine: Machine, tmp_path: Path, file: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(bytes(20 << 20))
    drop(other)
    machine.prefetcher.want("m", [file], "hint")
    machine.prefetcher.want("guess", [other], "habit")
    assert machine.prefetcher.current is not None and machine.prefetcher.current.model == "m"
    machine.prefetcher.want("other", [other], "waited for")
    one = await machine.end()
    assert one.model == "other" and page_cache.cached_share(other) == 1.0


@on_linux
async def test_the_same_file_is_not_looked_at_again_and_again(machine: Machine, file: Path) -> None:
    machine.prefetcher.want("m", [file], "hint")
    await machine.end()
    machine.prefetcher.want("m", [file], "hint")
    assert machine.prefetcher.current is None
    machine.prefetcher.forget("m")
    machine.prefetcher.want("m", [file], "hint")
    assert machine.prefetcher.current is not None


async def test_a_file_that_is_gone_is_no_drama(machine: Machine, tmp_path: Path) -> None:
    machine.prefetcher.want("m", [tmp_path / "nothing.gguf"], "hint")
    while machine.prefetcher.current is not None:
        await asyncio.sleep(0.005)


@on_linux
def test_faults_are_counted_for_processes_that_live() -> None:
    assert major_faults([os.getpid(), 2**22 + 1]) >= 0
    assert major_faults([]) == 0


class Fleet:
    """As much of a fleet as housekeeping looks at: one model that loads, or runs."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.running: dict[int, Any] = {}

    @property
    def scheduler(self) -> Any:
        one = SimpleNamespace(model="fast", phase=self.phase, live=True, leases=1, demand={})
        return SimpleNamespace(
            instances={1: one}, pulling=None, shutting_down=False, leases={1: one}, wanted=list,
        )  # fmt: skip


@on_linux
async def test_a_hint_that_came_while_a_model_loads_is_heeded_afterwards(tmp_path: Path, file: Path) -> None:
    fleet, ended = Fleet(), list[Prefetch]()
    house = Housekeeping(cast(Any, fleet), cast(Any, None), Habits(tmp_path / "habits"), lambda _: [file], ended.append)
    house.prefetcher = Prefetcher(lambda: 1 << 40, lambda: 0, ended.append)
    assert house.hint("ultra") and not house.hint("fast")
    house.look_ahead(wished=True)
    assert house.prefetcher.current is None, "the load has the disk for itself"
    fleet.phase = Phase.READY
    house.look_ahead(wished=True)
    while not [one for one in ended if one.ended == "done"]:
        await asyncio.sleep(0.005)
    assert page_cache.cached_share(file) == 1.0
    await house.prefetcher.stop()


# --- habits ---

MONDAY = datetime(2026, 11, 2, 9, 0)


def comings(*days: int, model: str = "coder", minute: int = 0) -> list[tuple[datetime, str]]:
    return [(MONDAY + timedelta(days=day, minutes=minute), model) for day in days]


@pytest.mark.parametrize(
    ("past", "now", "expected"),
    [
        (comings(0, 1, 2), timedelta(days=3, minutes=-10), "coder"),  # ten minutes before it usually comes
        (comings(0, 1, 2), timedelta(days=3, hours=-2), None),
        (comings(0, 1, 2), timedelta(days=3, minutes=30), None),  # it should have come by now
        (comings(0, 1), timedelta(days=2), None),  # twice is no habit
        (comings(0, 1, 2), timedelta(days=5), None),  # a Saturday
        (comings(0, 1, 2), timedelta(days=31), None),  # long ago
        (comings(0, 1, 2) + comings(*range(14), model="x", minute=300), timedelta(days=14), None),  # 3 days of 10
        (comings(0, 1, 2) + comings(0, 1, 2, 3, model="mail"), timedelta(days=4), "mail"),
    ],
)
def test_a_habit_is_what_comes_at_this_time_on_most_days(
    past: list[tuple[datetime, str]], now: timedelta, expected: str | None
) -> None:
    assert likely(past, MONDAY + now) == expected


def test_what_is_there_need_not_come() -> None:
    past = comings(0, 1, 2) + comings(0, 1, 2, 3, model="mail")
    assert likely(past, MONDAY + timedelta(days=4), but=["mail"]) == "coder"


def test_a_leap_day_is_no_trouble() -> None:
    now = datetime(2028, 2, 29, 9, 0)
    assert likely([(now - timedelta(days=day), "coder") for day in (1, 6, 7, 8)], now) == "coder"


def test_habits_outlive_the_engine_and_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "habits.json"
    habits = Habits(path)
    habits.came("old", MONDAY - timedelta(days=60))
    habits.came("coder", MONDAY)
    assert Habits(path).comings == [(MONDAY, "coder")]
    habits.came("coder", MONDAY + timedelta(minutes=5))
    assert habits.comings == [(MONDAY, "coder")], "to and fro between two models is one coming"
    path.write_text('[["2026-01-01T09:00:00+01:00", "zoned"], ["2026-01-01T09:00:00", "x"]]')
    assert [model for _, model in Habits(path).comings] == ["x"]
    path.write_text('[["when", 3]]')
    assert Habits(path).comings == []
