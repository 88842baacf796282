"""Saving and restoring are worth it where they cost less than reading, by what was measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from variet.engine.worth import Speeds, worth_restoring, worth_saving

# Qwen2.5-Coder 0.5B on two cores: 11 ms a token, 12 KiB a token, 15 MB in 10 ms.
SLOW_READER = Speeds(read_ms_per_token=11, save_ms_per_byte=1 / 1.5e6, restore_ms_per_byte=1e-6, bytes_per_token=12_288)
# A dense model wholly on GPUs that reads 2,000 tokens a second, with 320 KiB a token, on a slow disk.
QUICK_READER = Speeds(
    read_ms_per_token=0.5, save_ms_per_byte=1 / 2e5, restore_ms_per_byte=1 / 4e5, bytes_per_token=327_680
)


def test_a_slow_reader_keeps_what_a_quick_one_reads_again() -> None:
    assert worth_saving(SLOW_READER, 1_000) and worth_restoring(SLOW_READER, 1_000, 12_288_000)
    assert not worth_saving(QUICK_READER, 1_000) and not worth_restoring(QUICK_READER, 1_000, 327_680_000)
    assert not worth_saving(SLOW_READER, 20), "a greeting is worth no file"
    assert not worth_restoring(SLOW_READER, 100, 10_000_000_000), "a large state for a short beginning"


def test_unmeasured_models_are_judged_by_cautious_guesses() -> None:
    assert worth_saving(Speeds(), 1_000) and worth_restoring(Speeds(), 3_000, 43_000_000)
    assert not worth_restoring(Speeds(), 100, 2_000_000_000)


@given(st.floats(1, 1e5), st.integers(64, 200_000))
def test_what_is_measured_counts_and_more_to_spare_is_never_worth_less(ms: float, tokens: int) -> None:
    read = Speeds().read(tokens, ms)
    assert read.reading_ms(tokens) == ms or abs(read.reading_ms(tokens) - ms) < 1e-6 * ms
    size = tokens * 10_000
    if worth_restoring(read, tokens, size):
        assert worth_restoring(read, tokens * 2, size)


def test_single_measurements_do_not_turn_the_mean_over() -> None:
    speeds = Speeds().read(1_000, 1_000).read(1_000, 11_000)
    assert speeds.read_ms_per_token == 4.0
    assert speeds.read(10, 9_000) == speeds, "a few tokens tell nothing about reading"
    saved = speeds.saved(100, 1_000_000, 10).saved(200, 2_000_000, 20)
    assert saved.bytes_per_token == 10_000 and saved.save_ms(100) == 10
    assert saved.restored(1_000_000, 5).restore_ms(2_000_000) == 10
