"""The reader of styles against every vector of the harness (`python -m bench.hidden`): none leaks without a browser."""

from __future__ import annotations

from bench.hidden import leaks

from tests.support import hidden


def test_no_word_leaks() -> None:
    vectors = [one for file in hidden.files() for one in hidden.load(file)]
    assert len(vectors) > 750
    assert [one.name for one in vectors if leaks(one)] == []
