"""A swap's phases are told apart, whatever order processes end in."""

from __future__ import annotations

from variet.engine.swaps import SwapBook


def test_phases_add_up_to_what_the_client_waited() -> None:
    book = SwapBook()
    book.told_to_go(1, "small", "large", 1_000)
    book.told_to_go(2, "side", "other", 1_100)  # leaves for another model: not part of this swap
    book.kept(1, 1_120)
    book.gone(1, 1_300)
    book.memory_back(1, 1_350)
    book.starting(3, "large", 400, 1_360)
    swap = book.ready(3, 3_360)
    assert swap is not None and swap.gave_way == ("small",)
    assert swap.phases_ms == {"pull": 0, "drain": 600, "save": 120, "stop": 180, "memory": 60, "load": 2_000}
    book.restored(3, 40)
    assert book.first_byte(3, 400, 3_500) is swap
    assert (swap.phases_ms["restore"], swap.phases_ms["first"]) == (40, 100)
    assert swap.total_ms == 3_500 - 400
    assert book.first_byte(3, 3_600, 3_700) is None
    assert list(book.recent) == [swap]


def test_a_wait_for_files_is_no_drain() -> None:
    book = SwapBook()
    book.pulled("large", 5_000)
    book.told_to_go(1, "small", "large", 5_200)
    book.memory_back(1, 5_300)
    book.starting(2, "large", 1_000, 5_300)
    swap = book.ready(2, 6_300)
    assert swap is not None
    assert swap.phases_ms == {"pull": 4_000, "drain": 200, "save": 0, "stop": 100, "memory": 0, "load": 1_000}
    book.starting(3, "large", 9_000, 9_000)
    again = book.ready(3, 9_500)
    assert again is not None and again.phases_ms["pull"] == 0, "only the one that waited for them"


def test_nobody_waited_for_a_preload() -> None:
    book = SwapBook()
    book.starting(1, "small", 0, 0)
    book.ready(1, 500)
    swap = book.first_byte(1, 60_000, 60_050)
    assert swap is not None and not swap.waited_for and swap.phases_ms["load"] == 500
    assert "first" not in book.recent[-1].phases_ms


def test_an_eviction_for_somebody_who_left_is_no_part_of_a_later_swap() -> None:
    book = SwapBook()
    book.told_to_go(1, "small", "large", 1_000)
    book.memory_back(1, 1_200)
    book.starting(2, "large", 3_600_000, 3_600_010)
    swap = book.ready(2, 3_601_000)
    assert swap is not None and swap.gave_way == () and swap.phases_ms["memory"] == 0


def test_a_load_that_failed_is_no_swap() -> None:
    book = SwapBook()
    book.starting(1, "small", 0, 0)
    book.memory_back(1, 900)
    assert book.ready(1, 1_000) is None and book.first_byte(1, 0, 1_000) is None and not book.recent
