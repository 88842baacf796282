"""The history: what was added is found again, old rows go, and a disk that fails costs nobody anything."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from variet.engine.history import History


def request(number: int, tier: str = "fast", **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "tier": tier,
        "model": "m",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "output_tokens": 3,
        **fields,
    }


async def test_what_happened_is_found_again_by_another_engine(tmp_path: Path) -> None:
    history = History(tmp_path / "state" / "history.sqlite", 30)
    for number in range(5):
        history.add("request", time.time() - 5 + number, request(number))
    history.add("swap", time.time(), {"model": "m", "phases_ms": {"load": 3.0}})
    await history.flush()
    again = History(tmp_path / "state" / "history.sqlite", 30)
    assert [one["number"] for one in again.latest("request", most=2)] == [4, 3]
    (third,) = again.latest("request", before=again.latest("request", most=2)[1]["at"], most=1)
    assert third["number"] == 2
    assert [one["phases_ms"] for one in again.latest("swap")] == [{"load": 3.0}]
    assert stat.S_IMODE((tmp_path / "state" / "history.sqlite").stat().st_mode) == 0o600


async def test_rates_count_by_tier_and_time(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite", 30)
    for at, tier in ((1, "fast"), (5, "fast"), (9, "ultra"), (11, "fast")):
        history.add("request", 1_000_000_000 + at, request(at, tier))
    history._tidied_at = time.monotonic()  # else these are old
    await history.flush()
    found = history.rates(1_000_000_000, 10)
    told = [(one["at"] - 1_000_000_000, one["tier"], one["requests"], one["output_tokens"]) for one in found]
    assert sorted(told) == [(0, "fast", 2, 6), (0, "ultra", 1, 3), (10, "fast", 1, 3)]


async def test_old_rows_go_and_nothing_is_kept_where_that_is_wished(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite", 2)
    history.add("request", time.time() - 3 * 86_400, request(1))
    history.add("request", time.time() - 1 * 86_400, request(2))
    await history.flush()
    assert [one["number"] for one in history.latest("request")] == [2]
    history.keep_days = 0
    history.add("request", time.time(), request(3))
    await history.flush()
    assert [one["number"] for one in history.latest("request")] == [2]


async def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"this is no database, " * 100)
    history = History(path, 30)
    history.add("request", time.time(), request(1))
    await history.flush()
    assert "cannot be written" in caplog.text
    history.add("request", time.time(), request(2))
    await history.flush()
    assert [one["number"] for one in history.latest("request")] == [2]
    assert (tmp_path / "history.damaged").read_bytes().startswith(b"this is no")


@pytest.mark.skipif(os.name != "posix", reason="needs a folder that cannot be made")
async def test_a_disk_that_fails_is_said_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    history = History(tmp_path / "file" / "history.sqlite", 30)
    for number in range(3):
        history.add("request", time.time(), request(number))
        await history.flush()
    assert caplog.text.count("cannot be written") == 1


async def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite", 30)
    running = asyncio.create_task(history.run())
    await asyncio.sleep(0)
    history.add("request", time.time(), request(1))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [one["number"] for one in history.latest("request")] == [1]


async def test_odd_words_and_numbers_cost_no_other_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History(tmp_path / "history.sqlite", 30)
    history.add("moment", time.time(), {"model": "m", "detail": "caf\udce9.gguf"})
    await history.flush()
    assert history.latest("moment")[0]["detail"] == "caf\udce9.gguf"
    history.add("request", time.time(), request(1, prompt_tokens=2**70))
    await history.flush()
    assert "cannot be written" in caplog.text
    history.add("request", time.time(), request(2))
    await history.flush()
    assert [one["number"] for one in history.latest("request")] == [2]
