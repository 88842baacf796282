"""What comes after each answer of a turn."""

from __future__ import annotations

import pytest

from variet.agent.attempts import Attempts, LimitMet, Next
from variet.agent.events import CallPart, Diff, ToolEnded
from variet.agent.formats.base import Draft
from variet.agent.guards import Limits, Nudge, nudge_for, only_says

LIMITS = Limits(nudges=1, checks=3, repeats=2)
NUDGE = Nudge("empty", "You said nothing.")


def results(tool: str = "write", *, changed: bool = True, content: str = "wrote") -> list[tuple[CallPart, ToolEnded]]:
    diffs = (Diff(path="a.py", before_sha256=None, after_sha256="0", patch=""),) if changed else ()
    call = CallPart(call_id="c", tool=tool, args={"path": "a.py"})
    return [(call, ToolEnded(call_id="c", status="ok", content=content, diffs=diffs))]


def test_most_models_are_done_when_they_call_nothing_more() -> None:
    attempts = Attempts(LIMITS, checked=False, small=False)
    assert attempts.after_calls(results()).do == "ask"
    assert attempts.after_words(None, steered=True).do == "ask", "the person said something"
    assert attempts.after_words(None, steered=False).do == "done"
    assert attempts.sampling(7) == {}


def test_a_check_decides_where_there_is_one() -> None:
    attempts = Attempts(LIMITS, checked=True, small=False)
    assert attempts.after_calls(results()).do == "ask", "only at the end"
    for _ in range(LIMITS.checks):
        assert attempts.after_words(None, steered=False).do == "check"
        attempts.check_failed()
    with pytest.raises(LimitMet, match="check") as met:
        attempts.check_failed()
    assert met.value.weak and attempts.sampling(7) == {}


def test_an_empty_answer_is_nudged_so_often_in_a_row() -> None:
    attempts = Attempts(LIMITS, checked=False, small=False)
    assert attempts.after_words(NUDGE, steered=False) == Next("ask", NUDGE)
    assert attempts.after_calls(results()).do == "ask"
    assert attempts.after_words(NUDGE, steered=False) == Next("ask", NUDGE), "it worked in between"
    with pytest.raises(LimitMet, match="empty"):
        attempts.after_words(NUDGE, steered=False)


def test_the_smallest_are_checked_after_each_change_and_begin_again_where_nothing_changed() -> None:
    attempts = Attempts(LIMITS, checked=True, small=True, unwritten="Write it.")
    assert attempts.after_calls(results("shell", changed=False)).do == "ask"
    assert attempts.after_calls(results()).do == "check"
    attempts.check_failed()
    assert attempts.sampling(7) == {"temperature": 0.4, "seed": 1007}
    assert attempts.after_calls(results(changed=False, content="as it is")) == Next(
        "begin_again", Nudge("unchanged", "as it is")
    )
    assert attempts.after_words(None, steered=False) == Next("begin_again", Nudge("unwritten", "Write it."))
    assert attempts.sampling(None) == {"temperature": 0.8}
    with pytest.raises(LimitMet, match="check"):
        attempts.after_words(NUDGE, steered=False)


def test_the_same_again_and_again_ends_a_turn_but_lets_the_smallest_begin_again() -> None:
    same = results("read", changed=False)
    attempts = Attempts(LIMITS, checked=False, small=False)
    assert [(attempts.after_calls(same).nudge or NUDGE).code for _ in range(2)] == ["repeat", "repeat"]
    with pytest.raises(LimitMet, match="repeats"):
        attempts.after_calls(same)
    small = Attempts(LIMITS, checked=True, small=True)
    assert [small.after_calls(same).do for _ in range(4)] == ["ask", "ask", "begin_again", "ask"]


def test_the_smallest_are_done_once_they_write_what_they_wrote() -> None:
    attempts = Attempts(LIMITS, checked=False, small=True, unwritten="Write it.")
    assert attempts.after_calls(results()).do == "ask"
    assert attempts.after_calls(results(changed=False)).do == "done"


def test_one_who_only_copied_a_file_hears_so_once() -> None:
    attempts = Attempts(LIMITS, checked=False, small=True, unwritten="Write it.")
    assert attempts.after_calls(results(changed=False)) == Next("ask", Nudge("unwritten", "Write it."))
    assert attempts.after_calls(results(changed=False)).do == "done"


def test_who_says_that_something_was_changed_and_changed_nothing_hears_so_once() -> None:
    attempts = Attempts(LIMITS, checked=False, small=False, unwritten="Nothing was.")
    assert attempts.after_words(None, steered=False, idle=True) == Next("ask", Nudge("unwritten", "Nothing was."))
    assert attempts.after_words(None, steered=False, idle=True).do == "done"
    acted = Attempts(LIMITS, checked=False, small=False, unwritten="Nothing was.")
    acted.after_calls(results("shell", changed=False))
    assert acted.after_words(None, steered=False, idle=True).do == "done", "a command may have"
    refused = Attempts(LIMITS, checked=False, small=False, unwritten="Nothing was.")
    (call, end) = results("edit", changed=False)[0]
    refused.after_calls([(call, end.model_copy(update={"status": "denied"}))])
    assert refused.after_words(None, steered=False, idle=True).do == "done", "its person does not want it"
    none = Attempts(Limits(nudges=0), checked=False, small=False, unwritten="Nothing was.")
    assert none.after_words(None, steered=False, idle=True).do == "done"
    for more in ({"held": True}, {"checked": True}):
        others = Attempts(LIMITS, **{"checked": False, "small": False, "unwritten": "Nothing was.", **more})  # type: ignore[arg-type]
        assert others.after_words(None, steered=False, idle=True).do in ("done", "check")


@pytest.mark.parametrize(
    "text",
    [
        "I read the file, found the docstring, and added the implementation.",
        "I've updated `sums.py` so that it adds.",
        "Done. I have now fixed the bug.",
        "The function has been corrected.",
        "Both files have been updated:\n```python\nx = 1\n```",
        "I will add the implementation of count_differences in strands.py.",
        "The cause is the sign. Let me fix that now.",
        "To fix it, we replace the line. Here's the updated code:\n\n```python\nx = 1\n```\n\nThis returns one.",
        "This is the corrected `add` function:\n```python\nx = 1\n```",
    ],
)
def test_an_answer_that_only_says_so_is_heard(text: str) -> None:
    assert only_says(text)


@pytest.mark.parametrize(
    "text",
    [
        "I would have added a test.",
        "I have not changed anything.",
        "It was written by somebody else.",
        "You changed the file; I read it.",
        "I can rename it if you like.",
        "If I changed this, the test would fail.",
        "The bug: `a - b` should be `a + b`. Shall I fix it?",
        "```\nI added this\n```\nThat is what the log says.",
        "Nothing has been changed.",
        "I will not make any changes.",
        "I will add it once you tell me where.",
        "An example:\n```python\nx = 1\n```\nIt binds a name.",
        "The new version of Python is out.",
    ],
)
def test_an_answer_that_says_nothing_of_the_kind_is_left_alone(text: str) -> None:
    assert not only_says(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('So:\n\n```json\n{\n  "name": "write",\n  "arguments": {"path": """a"""}\n}\n```\n\nThat does it.', "shown"),
        ('An example of JSON:\n\n```json\n{\n  "name": "Ada",\n  "arguments": 3\n}\n```\n', None),
        ("All is well.", None),
    ],
)  # fmt: skip
def test_a_call_that_is_only_shown_is_told(text: str, code: str | None) -> None:
    found = nudge_for(Draft(text=text, finish="stop"), ["read", "write"])
    assert (found.code if found else None) == code
