"""After a stop the next load waits until the memory is really back, however late the driver gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from variet.engine import hardware
from variet.engine.hardware import Hardware


class Card:
    """A GPU of 24,000 MiB whose model holds 20,000 of them; `steps`: what is free at each look, the last for ever."""

    def __init__(self, *steps: int) -> None:
        self._steps = list(steps)
        self.looks = 0

    def free(self) -> Mapping[str, int]:
        self.looks += 1
        return {"gpu0": self._steps[min(self.looks, len(self._steps)) - 1], "gpu1": 9_000}


def machine(card: Card) -> Hardware:
    return Hardware((), 0, 0, 1, "detected", card.free)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", at_once)


@pytest.mark.parametrize(
    ("steps", "looks"),
    [
        ((2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 22_000), 8),  # 300 ms late: it stood still before
        ((2_000, 22_000), 2),
        ((2_000, 9_000, 9_000, 9_000, 16_500), 5),  # in two parts; seven tenths of the plan are most of it
        ((2_000, 2_000, 8_000, 14_000, 22_000), 5),
    ],
)
async def test_it_waits_for_most_of_what_was_planned(steps: tuple[int, ...], looks: int) -> None:
    card = Card(*steps)
    back = machine(card).watch_vram({"gpu0": 20_000, "host": 900}, gone=False)
    assert card.looks == 1, "looked at before the stop"
    await back()
    assert card.looks == looks


async def test_what_never_comes_back_is_not_waited_for_without_end() -> None:
    card = Card(2_000)
    await machine(card).watch_vram({"gpu0": 20_000}, gone=False)()
    assert card.looks == 1 + 1 + int(hardware._BACK_WAIT_S / hardware._BACK_POLL_S)


async def test_after_a_crash_it_waits_until_nothing_rises() -> None:
    card = Card(2_000, 2_000, 9_000, 15_000, 22_000)
    await machine(card).watch_vram({"gpu0": 20_000}, gone=True)()
    assert card.looks >= 5, "a pause between two rises is no end"


async def test_what_needs_no_gpu_waits_for_nothing() -> None:
    card = Card(2_000)
    await machine(card).watch_vram({"host": 5_000, "gpu0": 0}, gone=False)()
    await Hardware((), 0, 0, 1, "described").watch_vram({"gpu0": 5_000}, gone=False)()
    assert card.looks == 0
