"""What a line means under a question: a key decides, words never do, and the whole of it is shown before a yes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from variet.approval import Approval
from variet.surfaces.terminal.question import Decided, Question, Show

SCOPES = ("once", "session", "always")
KEYS = {"y", "yes", "s", "session", "a", "always"}
WORDS = st.text(st.sampled_from("yesanomd Y,.!/\t😀"), min_size=1, max_size=12)


def approval(preview: str = "x", summary: str = "$ make", scopes: tuple[str, ...] = SCOPES) -> Approval:
    return Approval.model_validate(
        {"id": "a1", "tool": "shell", "sink": "shell", "summary": summary, "preview": preview, "scopes": scopes,
         "payload_sha256": "0" * 64, "reason": "it may change something", "created_ms": 0}
    )  # fmt: skip


def question(preview: str = "x", **given: object) -> Question:
    made = Question(approval(preview, **given), 80, 24)  # type: ignore[arg-type]
    made.head()
    return made


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("y", Decided("approve", "once")), ("Yes ", Decided("approve", "once")), ("s", Decided("approve", "session")),
     ("n", Decided("reject")), ("stop, use another file", Decided("reject", feedback="stop, use another file")),
     ("add a test as well", Decided("reject", feedback="add a test as well")),
     ("yes but not there", Decided("reject", feedback="yes but not there")),
     ("no, the other one", Decided("reject", feedback="no, the other one")),
     ("more tests first", Decided("reject", feedback="more tests first")),
     ("", Show(())), ("   ", Show(()))],
)  # fmt: skip
def test_a_key_decides_and_words_are_a_no(typed: str, meant: object) -> None:
    assert question().answer(typed) == meant


@given(WORDS)
def test_no_words_approve(typed: str) -> None:
    meant = question().answer(typed)
    if isinstance(meant, Decided) and meant.choice == "approve":
        assert typed.strip().casefold() in KEYS


def test_always_is_asked_once_more() -> None:
    asked = question()
    assert asked.answer("a") == Show(()) and "for good" in asked.prompt
    assert asked.answer("y") == Decided("approve", "always")
    again = question()
    again.answer("always")
    assert again.answer("n") == Show(()) and again.prompt.startswith("[y]es"), "the question is open as before"
    assert again.answer("y") == Decided("approve", "once")
    words = question()
    words.answer("a")
    assert words.answer("always ask me") == Decided("reject", feedback="always ask me")
    twice = question()
    twice.answer("a")
    assert isinstance(twice.answer("a"), Show) and "for good" in twice.prompt, "the same key twice confirms nothing"


@pytest.mark.parametrize("key", ["s", "a", "session", "always"])
def test_a_scope_that_is_not_offered_is_words(key: str) -> None:
    asked = question(scopes=("once",))
    assert "ession" not in asked.prompt and "lways" not in asked.prompt
    assert asked.answer(key) == Decided("reject", feedback=key)


@given(st.integers(30, 400), st.sampled_from(["y", "s", "a"]))
def test_there_is_no_yes_before_the_end_was_shown(lines: int, key: str) -> None:
    made = Question(approval("\n".join(f"line {number}" for number in range(lines))), 60, 24)
    shown = list(made.head())
    while "[m]ore" in made.prompt:
        early = made.answer(key)
        assert isinstance(early, Show) and "before the end" in early.lines[0].text
        more = made.answer("")
        assert isinstance(more, Show)
        shown += more.lines
    assert [line.text for line in shown[2:]] == [f"  | line {number}" for number in range(lines)]
    assert isinstance(made.answer("y"), Decided)


def test_the_end_shows_all_that_is_left() -> None:
    made = question("\n".join(map(str, range(500))))
    rest = made.answer("e")
    assert isinstance(rest, Show) and rest.lines[-1].text == "  | 499" and made.prompt.startswith("[y]es")


@given(st.text(st.sampled_from("a 漢\N{WOMAN}\u0301\u200b\t\n\x1b|+-ﷺ"), max_size=400), st.integers(30, 120))
def test_every_line_fits_and_nothing_is_left_out(preview: str, columns: int) -> None:
    made = Question(approval(preview), columns, 10_000)
    lines = [line.text for line in made.head()]
    assert all(cell_len(line) <= columns for line in lines), lines
    body = "".join(line.removeprefix("  | ") for line in lines if line.startswith("  | "))
    assert preview.count("a") <= body.count("a") + ("a" in lines[0])


def test_a_long_argument_is_shown_whole() -> None:
    value = "".join(f"{number:04}" for number in range(500))
    lines = [line.text for line in Question(approval(value, "notes.add(text=0001…)"), 60, 10_000).head()]
    assert "".join(line.removeprefix("  | ") for line in lines[2:]) == value


def test_a_command_that_the_head_shows_whole_is_not_shown_twice() -> None:
    lines = [line.text for line in Question(approval("make", "$ make"), 60, 24).head()]
    assert lines == ["? $ make", "  because it may change something"]
