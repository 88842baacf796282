"""How long a sign-in lasts: what Google said, what its age tells, and what nobody knows."""

from __future__ import annotations

import pytest

from variet.assistant.google.lasting import lasting

DAY = 86_400.0
NOW = 1_795_800_000.0  # a Friday


@pytest.mark.parametrize(
    ("since_s", "ends_s", "words", "doubtful"),
    [
        (NOW - DAY, NOW + 6 * DAY, "Google ends it on", True), (NOW - 8 * DAY, NOW - DAY, "Google ended it on", False),
        (NOW - 8 * DAY, None, "so it lasts", False), (NOW - DAY, None, "still in Testing, Google ends it on", True),
        (None, None, "nobody knows", False),
    ],
)  # fmt: skip
def test_what_is_known_is_said(since_s: float | None, ends_s: float | None, words: str, doubtful: bool) -> None:
    told = lasting(since_s, ends_s, NOW)
    assert words in told.words and told.doubtful is doubtful and told.over is ("ended" in words)
