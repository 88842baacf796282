"""The exercises of the bench: what is there fails their tests, and a solution passes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.exercises import Exercise, exercises
from bench.exercises import tests_pass as passes

CASES = [pytest.param(one, marks=[] if at < 3 else [pytest.mark.long]) for at, one in enumerate(exercises())]


@pytest.mark.parametrize("exercise", CASES, ids=lambda one: one.name)
async def test_an_exercise_is_open_and_can_be_solved(exercise: Exercise, tmp_path: Path) -> None:
    for name, files in (("open", exercise.files), ("solved", exercise.solution)):
        (tmp_path / name).mkdir()
        exercise.write(tmp_path / name, files)
    assert not (await passes(exercise, tmp_path / "open", tmp_path / "a"))[0]
    solved, said = await passes(exercise, tmp_path / "solved", tmp_path / "b")
    assert solved, said
