"""What a session changed, hunk by hunk: git itself applies the patches, and any hunks can be taken back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from variet.agent.changes import Selection, change_of, without

LINES = st.lists(st.sampled_from(["a", "b", "c", "", "\x0c", "é", "d\r", "\u2028"]), max_size=30)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))


def edited(text: str, places: list[int], words: list[str]) -> str:
    lines = text.split("\n")
    for place, word in zip(places, words, strict=False):
        lines[place % len(lines)] = word
    return "\n".join(lines)


@given(before=TEXTS, after=TEXTS)
def test_all_hunks_taken_back_give_what_was_before_and_none_what_is_now(before: str, after: str) -> None:
    change = change_of("x", before.encode(), after.encode())
    assert without("x", before, after, [hunk.id for hunk in change.hunks]) == before
    assert without("x", before, after, []) == after
    assert len({hunk.id for hunk in change.hunks}) == len(change.hunks)
    assert bool(change.hunks) == (before != after)


@given(
    before=st.lists(st.integers(0, 5).map(str), min_size=30, max_size=80).map("\n".join),
    places=st.lists(st.integers(0, 79), min_size=1, max_size=6), chosen=st.sets(st.integers(0, 5)),
)  # fmt: skip
def test_hunks_that_are_taken_back_one_by_one_give_the_same_as_all_at_once(
    before: str, places: list[int], chosen: set[int]
) -> None:
    after = edited(before, places, ["new"] * len(places))
    hunks = [hunk.id for hunk in change_of("x", before.encode(), after.encode()).hunks]
    mine = [hunk for at, hunk in enumerate(hunks) if at in chosen]
    one_by_one = after
    for hunk in mine:
        one_by_one = without("x", before, one_by_one, {hunk} & _ids(before, one_by_one))
    assert one_by_one == without("x", before, after, mine)


def _ids(before: str, after: str) -> set[str]:
    return {hunk.id for hunk in change_of("x", before.encode(), after.encode()).hunks}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=TEXTS.filter(bool), after=TEXTS.filter(bool))
def test_git_applies_what_is_shown(tmp_path: Path, before: str, after: str) -> None:
    change = change_of("x", before.encode(), after.encode())
    if not change.hunks:
        return
    (tmp_path / "x").write_bytes(before.encode())
    (tmp_path / "p").write_bytes(change.patch.encode())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "apply", "--whitespace=nowarn", "p"], cwd=tmp_path, check=True, env=clean)
    assert (tmp_path / "x").read_bytes() == after.encode()


@pytest.mark.parametrize("data", [b"\0x", b"\xff\xfe", b"\xc3"])
def test_what_is_no_text_has_no_hunks(data: bytes) -> None:
    change = change_of("x", b"a\n", data)
    assert change.hunks == () and change.patch == "Binary file x changed\n"


def test_a_file_that_was_made_or_removed_is_said_to_be() -> None:
    assert change_of("x", None, b"a\n").patch == "--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n"
    assert change_of("x", b"a\n", None).patch == "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
    assert change_of("x", None, b"").hunks == ()


def test_a_selection_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="which"):
        Selection.model_validate({"which": "some"})
