"""fitness.py: what was learnt of a model outlives the engine, until its file, flags or build change."""

from __future__ import annotations

from pathlib import Path

import pytest

from variet.engine.fitness import FitnessBook


def test_speeds_and_verdicts_outlive_the_engine(tmp_path: Path) -> None:
    book = FitnessBook(tmp_path / "fitness.json")
    one = book.seen("k", "m")
    one.speeds = one.speeds.read(1000, 5000.0).saved(1000, 2000, 10.0)
    one.missed = 2
    book.save()
    again = FitnessBook(tmp_path / "fitness.json")
    assert again.of("k", "m") == one and again.unfit() == ["m"]
    assert not again.of("another build", "m").unfit, "which may do better"
    again.forgive("m")
    assert not FitnessBook(tmp_path / "fitness.json").unfit()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"k": 3}', '{"k": {"model": "m", "speeds": {"nonsense": 1}}}'])
def test_a_damaged_book_is_begun_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fitness.json"
    path.write_text(content)
    book = FitnessBook(path)
    book.of("k", "m")
    book.save()
    assert FitnessBook(path).of("k", "m").held == 0


def test_the_book_stays_small(tmp_path: Path) -> None:
    book = FitnessBook(tmp_path / "fitness.json")
    for number in range(300):
        book.of(str(number), "m").seen_at = float(number)
    book.save()
    kept = FitnessBook(tmp_path / "fitness.json")._all
    assert len(kept) == 100 and "299" in kept and "0" not in kept
