"""`edit`: exact, and where it misses, of use."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.agent.tools.edit import replaced
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed

CODE = "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 1\n"


def test_an_exact_piece_is_replaced() -> None:
    assert replaced(CODE, "def f(self):\n        return 1", "def f(self):\n        return 2")[1] == 2
    assert replaced("a b", "b", "") == ("a ", 1)


def test_two_places_need_more_or_all() -> None:
    with pytest.raises(ToolFailed, match=r"2 times \(lines 3, 6\)"):
        replaced(CODE, "return 1", "return 2")
    assert replaced(CODE, "return 1", "return 2", every=True)[0].count("return 2") == 2


def test_line_numbers_copied_from_read_are_taken_off() -> None:
    text, _ = replaced("x = 1\ny = 2\n", "    1  x = 1\n    2  y = 2", "    1  x = 3\n    2  y = 4")
    assert text == "x = 3\ny = 4\n"


def test_a_lost_indentation_is_found_again_and_given_to_what_comes_instead() -> None:
    text, _ = replaced(CODE, "def g(self):\n    return 1", "def g(self):\n    x = 2\n    return x")
    assert text.endswith("    def g(self):\n        x = 2\n        return x\n")


def test_an_indentation_too_deep_is_taken_back() -> None:
    text, _ = replaced("def f():\n    return 1\n", "    def f():\n        return 1", "    def f():\n        return 2")
    assert text == "def f():\n    return 2\n"


def test_a_miss_shows_what_stands_there() -> None:
    with pytest.raises(ToolFailed, match=r"Did you mean these lines .*\n(.*\n)*.*return 1"):
        replaced(CODE, "    def f(this):\n        return 1", "x")
    with pytest.raises(ToolFailed, match="nothing like it"):
        replaced(CODE, "import numpy as np\nfrom x import y", "z")


def test_what_is_nothing_is_refused() -> None:
    for old, new in (("", "x"), ("return 1", "return 1"), ("  \n ", "x")):
        with pytest.raises(ToolFailed):
            replaced(CODE, old, new)


@given(
    st.text(alphabet="ab \n\t", max_size=30),
    st.text(alphabet="ab \n\t", max_size=8),
    st.text(alphabet="abc\n", max_size=8),
)
def test_it_replaces_one_place_or_nothing(text: str, old: str, new: str) -> None:
    try:
        after, line = replaced(text, old, new)
    except ToolFailed:
        return
    assert 1 <= line <= text.count("\n") + 1
    if text.count(old) == 1:
        assert after == text.replace(old, new)


MIXED = [("a", "\r\n"), ("b", "\n"), ("c", "\r\n"), ("d", "\r\n"), ("e", "\n"), ("f", "")]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("c", "C", "a\r\nb\nC\r\nd\r\ne\nf"),
        ("c", "c1\nc2", "a\r\nb\nc1\r\nc2\r\nd\r\ne\nf"),
        ("b\nc\n", "", "a\r\nd\r\ne\nf"),
        ("f", "f\n", "a\r\nb\nc\r\nd\r\ne\nf\r\n"),
        ("e\nf", "e", "a\r\nb\nc\r\nd\r\ne"),
        ("a", "0\na", "0\r\na\r\nb\nc\r\nd\r\ne\nf"),
    ],
)
def test_each_line_keeps_its_own_end(tmp_path: Path, old: str, new: str, changed: str) -> None:
    path = tmp_path / "mixed"
    path.write_bytes("".join(line + end for line, end in MIXED).encode())
    workspace = Workspace(tmp_path)
    before = workspace.read(workspace.resolve("mixed"))
    assert before.text == "a\nb\nc\nd\ne\nf"
    workspace.write(workspace.resolve("mixed"), before.text.replace(old, new, 1), before)
    assert path.read_bytes().decode() == changed


@given(
    st.lists(st.tuples(st.text(alphabet="ab", max_size=2), st.sampled_from(["\n", "\r\n"])), min_size=1, max_size=8),
    st.text(alphabet="ab\n", max_size=12),
)
def test_whatever_is_written_holds_its_text_and_nothing_else(lines: list[tuple[str, str]], text: str) -> None:
    data = "".join(line + end for line, end in lines)
    with tempfile.TemporaryDirectory() as name:
        workspace = Workspace(Path(name))
        path = workspace.resolve("file")
        path.write_bytes(data.encode())
        before = workspace.read(path)
        assert before.encode(before.text) == data.encode(), "as it was"
        workspace.write(path, text, before)
        assert path.read_bytes().decode().replace("\r\n", "\n") == text
