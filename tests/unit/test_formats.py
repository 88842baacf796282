"""How models are spoken to: calls found in what they write, pieces put where they belong, replays as written."""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.agent.events import CallPart, MessageDone, TextPart, ToolEnded
from variet.agent.formats.base import Draft
from variet.agent.formats.blocks import Blocks, path_of
from variet.agent.formats.guide import guide
from variet.agent.formats.native import Native
from variet.agent.formats.repair import arguments_of
from variet.agent.formats.splice import defines_less, splice, unfinished, with_imports
from variet.agent.prompt.preface import files
from variet.agent.tools import coding_tools
from variet.agent.workspace import Workspace

CODE = '''"""A module."""

import os

LIMIT = 3


def f(x):
    return x


class A:
    def g(self):
        return 1

    @property
    def h(self):
        return 2
'''


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "a.py").write_text(CODE)
    (tmp_path / "test_a.py").write_text("from a import f\n\n\ndef test_f():\n    assert f(1) == 2\n")
    return Workspace(tmp_path)


def found(text: str, workspace: Workspace, finish: str = "stop") -> list[tuple[str, dict[str, object]]]:
    numbers = itertools.count()
    understood = Blocks().understand(
        Draft(text=text, finish=finish), coding_tools(), workspace, lambda: f"c{next(numbers)}"
    )
    return [(call.tool, call.args) for call in understood.calls]


@pytest.mark.parametrize(
    "head",
    ["new.py\n```python", "`new.py`\n```python", "**new.py**:\n```", "### new.py\n\n```py", "File: new.py\n```python",
     "# new.py\n```python", "Here it is:\n```python new.py", "So:\n```python:new.py", "```new.py"],
)  # fmt: skip
def test_a_file_is_known_by_the_path_before_or_in_its_fence(head: str, workspace: Workspace) -> None:
    assert found(f"Words.\n\n{head}\nx = 1\n```\nMore words.", workspace) == [
        ("write", {"path": "new.py", "content": "x = 1\n"})
    ]


@pytest.mark.parametrize(
    "line", ["Now run the tests:", "This is it.", "e.g.", "a b.py", "...", "", "v1.2 and so on", "```"]
)
def test_prose_is_no_path(line: str) -> None:
    assert path_of(line) == ""


def test_commands_are_what_stands_behind_the_prompt_where_there_is_one(workspace: Workspace) -> None:
    assert found("```bash\nls\npwd\n```", workspace) == [("shell", {"command": "ls\npwd"})]
    assert found("```console\n$ ls\na.py\nb.py\n```", workspace) == [("shell", {"command": "ls"})]


def test_a_fence_in_a_longer_fence_belongs_to_the_file(workspace: Workspace) -> None:
    text = "doc.md\n````markdown\nSay:\n```\nx\n```\n````"
    assert found(text, workspace) == [("write", {"path": "doc.md", "content": "Say:\n```\nx\n```\n"})]


def test_half_a_file_is_not_written_but_a_forgotten_end_is_forgiven(workspace: Workspace) -> None:
    text = "new.py\n```python\nx = 1"
    assert found(text, workspace, "length") == []
    assert found(text, workspace) == [("write", {"path": "new.py", "content": "x = 1\n"})]


def test_a_piece_without_a_path_goes_where_its_names_are(workspace: Workspace) -> None:
    [(tool, args)] = found("Fixed:\n\n```python\ndef f(x):\n    return x + 1\n```", workspace)
    assert (tool, args["path"]) == ("write", "a.py")
    assert args["content"] == CODE.replace("return x\n", "return x + 1\n")


def test_a_named_file_of_which_only_a_part_was_written_keeps_the_rest(workspace: Workspace) -> None:
    [(_, args)] = found("a.py\n```python\ndef f(x):\n    return 7\n```", workspace)
    assert "class A" in str(args["content"]) and "return 7" in str(args["content"])


def test_a_wrong_folder_means_the_file_that_is_there(workspace: Workspace) -> None:
    whole = CODE.replace("return x\n", "return 9\n")
    assert found(f"src/a.py\n```python\n{whole}```", workspace) == [("write", {"path": "a.py", "content": whole})]


def test_code_that_belongs_nowhere_is_asked_about(workspace: Workspace) -> None:
    understood = Blocks().understand(
        Draft(text="```python\nprint(1)\n```", finish="stop"), coding_tools(), workspace, lambda: "c"
    )
    assert understood.calls == () and "which file" in understood.nudge


def test_an_answer_is_cut_behind_its_command_or_before_one_that_follows_a_file() -> None:
    form, answer = Blocks(), "x.py\n```python\nx\n```\nNow run:\n```bash\npytest\n```\n3 passed"
    for at in range(len(answer)):
        cut = form.enough(answer[: at + 1], checked=True)
        if cut is not None:
            break
    assert cut is not None and answer[:cut].endswith("Now run:\n")
    plain = "```bash\nls\n```\nThat shows a.py."
    cuts = [cut for at in range(len(plain)) if (cut := form.enough(plain[: at + 1], checked=False)) is not None]
    assert plain[: cuts[0]].rstrip().endswith("```") and "That" not in plain[: cuts[0]]
    assert all(form.enough("x.py\n```python\nx\n```\n"[:at], checked=True) is None for at in range(25))


@pytest.mark.parametrize(
    ("snippet", "expected"),
    [
        ("def f(x):\n    return 5", {"return 5": True, "return x": False, "class A": True}),
        ("def g(self):\n    return 8", {"        return 8": True, "return 2": True}),
        ("    def g(self):\n        return 8", {"        return 8": True}),
        ("import re\nimport os\n\ndef f(x):\n    return re", {"import os\nimport re": True}),
        ("def helper():\n    pass\n\ndef f(x):\n    return helper()", {"def helper():\n    pass\n\n\ndef f": True}),
        ("@property\ndef h(self):\n    return 3", {"@property\n    def h(self):\n        return 3": True}),
        ("class A:\n    pass", {"def g": False, "class A:\n    pass": True}),
        ("from a import f\n\ndef f(x):\n    return 0", {"from a": False}),
    ],
)
def test_pieces_are_put_where_they_belong(snippet: str, expected: dict[str, bool]) -> None:
    after = splice(CODE, snippet)
    assert after is not None
    ast.parse(after)
    for words, there in expected.items():
        assert (words in after) is there, after


@pytest.mark.parametrize("snippet", ["def unknown(): pass", "print(1)", "def f(x:", "", "x = 1"])
def test_what_belongs_nowhere_is_left(snippet: str) -> None:
    assert splice(CODE, snippet) is None


def test_less_than_the_file_is_told_from_another_file() -> None:
    assert defines_less(CODE, "def f(x): pass")
    assert not defines_less(CODE, CODE) and not defines_less(CODE, "def f(x): pass\ndef new(): pass")
    assert not defines_less(CODE, "x = 1")


NAMES = st.sampled_from(["f", "g", "h", "A", "k"])


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=3))
def test_a_splice_of_anything_is_python_and_loses_no_name(file: list[str], piece: list[str]) -> None:
    text = "\n\n".join(f"def {name}(a):\n    return {at}" for at, name in enumerate(file)) + "\n"
    after = splice(text, "\n".join(f"def {name}(b):\n    return 'new'" for name in piece))
    if after is not None:
        names = {one.name for one in ast.parse(after).body if isinstance(one, ast.FunctionDef)}
        assert names >= set(file)


# --- arguments and replays ---


@pytest.mark.parametrize(
    ("written", "args"),
    [
        ('{"a": 1}', {"a": 1}), ("", {}), ('"{\\"a\\": 1}"', {"a": 1}), ('{"a": "x\ny"}', {"a": "x\ny"}),
        ("{'a': 1}", {"a": 1}), ('{"a": 1,}', {"a": 1}), ('{"a": "b"', None), ('{"a": "b', None),
        ('{"a": "b"} or {"a": "c"}', None), ("[1]", None), ("oops", None),
    ],
)  # fmt: skip
def test_arguments_are_mended_where_there_is_no_doubt(written: str, args: dict[str, object] | None) -> None:
    assert arguments_of(written)[0] == args


@given(st.text(max_size=60) | st.sampled_from([" ", '{"a": NaN}', '{"a": "\\ud800"}', '"{}"', '{"a": "x\ny"}']))
def test_whatever_arguments_a_model_writes_the_replay_is_json(written: str) -> None:
    here = Workspace(Path.cwd())
    understood = Native().understand(Draft(calls=[["read", written]]), coding_tools(), here, lambda: "c1")
    replay = Native().answer(MessageDone(message_id="m", content=understood.calls))
    understood.calls[0].model_dump_json()
    assert isinstance(json.loads(replay["tool_calls"][0]["function"]["arguments"]), dict)


def test_results_come_back_as_each_format_tells_them() -> None:
    call = CallPart(call_id="c1", tool="shell", args={"command": "ls"}, written='{"command": "ls"}')
    end = ToolEnded(call_id="c1", status="ok", content="a.py")
    assert Native().results([(call, end)]) == [{"role": "tool", "tool_call_id": "c1", "content": "a.py"}]
    assert Blocks().results([(call, end)]) == [{"role": "user", "content": "$ ls\na.py"}]
    said = MessageDone(message_id="m", content=(TextPart(text="I look."), call), raw="as written")
    assert Blocks().answer(said) == Native().answer(said) == {"role": "assistant", "content": "as written"}


def test_tests_that_are_written_under_another_name_are_the_tests(workspace: Workspace) -> None:
    tests = "from a import f\n\n\ndef test_f():\n    assert f(1) == 1\n"
    (workspace.root / "test_a.py").write_text(tests)
    written = found(f"a.py\n```python\n{tests}```", workspace)
    assert [one[1]["path"] for one in written] == ["test_a.py"], "where a rule keeps them as they are"


@pytest.mark.parametrize(
    ("own", "given", "after"),
    [
        ("from p import a\n", "from p import a, b\n", "from p import a, b\n"),
        ("from p import (\n    a,\n    c,\n)\nimport os\n", "from p import c, b, a\n",
         "from p import c, b, a\nimport os\n"),
        ("from p import a, b\n", "from p import a\n", "from p import a, b\n"),
        ("from p import a\n", "from q import a\n", "from p import a\nfrom q import a\n"),
        ("from p import a\n", "from p import a as b\n", "from p import a\nfrom p import a as b\n"),
    ],
)  # fmt: skip
def test_an_import_takes_the_place_of_one_that_it_covers(own: str, given: str, after: str) -> None:
    body = "\n\ndef f():\n    return {}\n"
    assert splice(own + body.format(1), given + body.format(2)) == after + body.format(2)


def test_a_path_in_a_fence_of_its_own_names_the_next(workspace: Workspace) -> None:
    text = "```\nb.py\n```python\nx = 1\n```\n```\nc.py\n```python\ny = 1\n```\n"
    assert found(text, workspace) == [
        ("write", {"path": "b.py", "content": "x = 1\n"}), ("write", {"path": "c.py", "content": "y = 1\n"})
    ]  # fmt: skip


def test_what_cannot_run_or_loses_everything_is_not_written(workspace: Workspace) -> None:
    def nudge(text: str) -> str:
        return Blocks().understand(Draft(text=text), coding_tools(), workspace, lambda: "c").nudge

    assert "it would lose A, f" in nudge("a.py\n```python\nimport os\n```")
    assert "undefined name 'z'" in nudge("a.py\n```python\ndef f(x):\n    return z\n```")
    (workspace.root / "a.py").write_text(CODE.replace("return x", "return z"))
    assert nudge("a.py\n```python\ndef f(x):\n    return z + 1\n```") == "", "that was so before"
    assert nudge("new.py\n```python\ndef f(x):\n    return (\n```").startswith("new.py was not written: SYNTAX")


def test_a_piece_of_a_file_is_put_into_it(workspace: Workspace) -> None:
    held = "LIMIT = 2\n\n\ndef full(a, b):\n    return a + b\n"
    short = "def short(a, b):\n    return a[0] + b[0]\n"
    (workspace.root / "names.py").write_text(held)
    own = found(f"names.py\n```python\nfrom names import full\nimport os\n\n\n{short}```", workspace)
    assert own[0][1]["content"] == f"import os\n\n{held}\n\n{short}", "it imports from itself"
    (alone,) = found(f"names.py\n```python\n{short}```", workspace)
    assert alone[1]["content"] == short, "nobody misses what it leaves out"
    (workspace.root / "badge.py").write_text("from names import full\n\nprint(full('a', 'b'))\n")
    (missed,) = found(f"names.py\n```python\n{short}```", workspace)
    assert missed[1]["content"] == f"{held}\n\n{short}"


def test_what_a_file_lacks_is_imported_and_what_changes_nothing_is_not_written(workspace: Workspace) -> None:
    (workspace.root / "names.py").write_text("import os\n\n\ndef short(a):\n    return a[0]\n")
    (workspace.root / "badge.py").write_text("import os\n\n\ndef badge(a):\n    return os.sep + a\n")
    text = "badge.py\n```python\nimport os\n\n\ndef badge(a):\n    return os.sep + {}\n```"
    (used,) = found(text.format("short(a)"), workspace)
    assert str(used[1]["content"]).startswith("import os\nfrom names import short\n")
    (new,) = found("new.py\n```python\nprint(short('a'))\n```", workspace)
    assert new[1]["content"] == "from names import short\n\nprint(short('a'))\n"
    (same,) = found(text.format("a  # it is right"), workspace)
    assert same[1]["content"] == (workspace.root / "badge.py").read_text()
    (own,) = found("names.py\n```python\nfrom names import short\n\n\ndef short(a):\n    return a[1]\n```", workspace)
    assert own[1]["content"] == "import os\n\n\ndef short(a):\n    return a[1]\n"


def test_a_guide_offers_programs_and_holds_to_them(workspace: Workspace) -> None:
    made = guide(workspace, "Write slug() in slugs.py, see test_x.py, v1.2, e.g. Node.js, out.json; not no.py")
    assert made is not None and made.files == ("a.py", "slugs.py")
    assert made.request["response_format"]["json_schema"]["schema"]["properties"]["file"] == {"enum": list(made.files)}
    told = json.dumps({"why": "It is ```wrong```.", "file": "a.py", "change": "```python\nreturn 1\n```"})
    assert made.opening(told) == "It is wrong. `return 1`\n\na.py\n```python\n"
    for wrong in ("prose", "[]", json.dumps({"why": "x", "file": "/etc/passwd", "change": ""})):
        with pytest.raises(ValueError, match=r"none of|Expecting value"):
            made.opening(wrong)
    only = guide(workspace, "", ["a.py"], ["a.py"])
    assert only is not None and only.files == ("a.py",), "there is no other"
    (workspace.root / "b.py").write_text("y = 1\n")
    (workspace.root / "c.py").write_text("z = 1\n")
    for written, fruitless, offered in (
        ([], [], "abc"), (["b.py"], [], "c"), (["b.py", "c.py"], ["c.py"], "ab"), (["b.py", "c.py"], [], "abc"),
        (["b.py", "c.py"], ["b.py", "a.py", "c.py"], "ab"),
    ):  # fmt: skip
        made = guide(workspace, "b.py must use what c.py has, but do not touch a.py", written, fruitless)
        assert made is not None and made.files == tuple(f"{name}.py" for name in offered)
    (workspace.root / "large.py").write_text("x = 1\n" * 5_000)
    assert guide(workspace, "") is None, "it has not seen what is in it"


def test_whoever_strayed_goes_on_from_the_first_line_of_the_file(workspace: Workspace) -> None:
    (workspace.root / "b.py").write_text('\n"""Words."""\nx = 1\n')
    (workspace.root / "c.py").write_text("")
    made = guide(workspace, "", strayed=True)
    assert made is not None and made.files == ("a.py", "b.py", "c.py")
    for name, begun in (("b.py", '\n"""Words."""\n'), ("c.py", "")):
        told = json.dumps({"why": "x", "file": name, "change": "y"})
        assert made.opening(told) == f"x `y`\n\n{name}\n```python\n{begun}"


def test_a_function_that_nobody_wrote_yet_is_written_before_anything_is_asked(workspace: Workspace) -> None:
    (workspace.root / "leap.py").write_text('def leap(year):\n    """29?"""\n    raise NotImplementedError\n')
    for words, failure in (("Write leap in leap.py", ""), ("Make the tests pass", "leap.py:3: in leap")):
        made = guide(workspace, words, failure=failure)
        assert made is not None and not made.asks and made.opening("") == "leap.py\n```python\n"
    for words, written, fruitless in (
        ("Mend a.py", [], []), ("Write what leap wants, not leap.py", [], []), ("Write leap", ["leap.py"], []),
        ("Write leap", [], ["leap.py"]),
    ):  # fmt: skip
        made = guide(workspace, words, written, fruitless)
        assert made is not None and made.asks, "not spoken of, or it was tried already"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('def f():\n    """D."""\n\ndef g(): ...\ndef h(): pass\nasync def i(): raise NotImplementedError("i")\n',
         {"f", "g", "h", "i"}),
        ("def f(): raise ValueError\ndef g(): return None\ndef h(): raise\n", set()),
        ("class A:\n    def f(self): raise NotImplementedError\n", set()),
        ("@overload\ndef f(x): ...\n", set()),
        ("def f(:\n", set()),
    ],
)  # fmt: skip
def test_functions_that_are_yet_to_be_written_are_found(text: str, names: set[str]) -> None:
    assert unfinished(text) == names


def test_a_file_that_is_refused_is_told_beside_one_that_is_written(workspace: Workspace) -> None:
    text = "b.py\n```python\nx = 1\n```\n\nc.py\n```python\nx = (\n```"
    understood = Blocks().understand(Draft(text=text), coding_tools(), workspace, lambda: "c")
    assert [call.args["path"] for call in understood.calls] == ["b.py"] and "c.py was not written" in understood.nudge


def test_a_piece_without_one_place_is_never_the_whole_file(workspace: Workspace) -> None:
    cart = "class Cart:\n    @property\n    def x(self): return 1\n\n    @x.setter\n    def x(self, y): pass\n"
    held = f"{cart}\n\ndef keep(): ...\n"
    (workspace.root / "cart.py").write_text(held)
    (workspace.root / "test_cart.py").write_text("from cart import Cart, keep\n")
    text = "cart.py\n```python\ndef x(self):\n    return 2\n```"
    understood = Blocks().understand(Draft(text=text), coding_tools(), workspace, lambda: "c")
    assert not understood.calls and "Write all of the file" in understood.nudge


def test_values_go_with_the_piece_that_uses_them() -> None:
    held = '"""A."""\n\nimport os\n\nRATE = 1\n\n\ndef f():\n    return RATE\n\n\ndef g():\n    return os\n'
    after = splice(held, "RATE = 2\nTAX: int = 3\n\n\ndef f():\n    return RATE + TAX\n\n\nprint(f())\n")
    assert after == held.replace("import os\n", "import os\n\nTAX: int = 3\n").replace("RATE = 1", "RATE = 2").replace(
        "return RATE", "return RATE + TAX"
    )


@pytest.mark.parametrize(
    ("own", "given", "after"),
    [
        ("from a import b; import os\n", "from a import b, c\n", "from a import b; import os\nfrom a import b, c\n"),
        ("from a import b  # noqa\n", "from a import b, c\n", "from a import b  # noqa\nfrom a import b, c\n"),
        ('"""D."""\n\nimport os\n', "from __future__ import annotations\n",
         '"""D."""\n\nfrom __future__ import annotations\nimport os\n'),
    ],
)  # fmt: skip
def test_imports_are_put_where_they_do_no_harm(own: str, given: str, after: str) -> None:
    assert with_imports(own, given.splitlines()) == after


@pytest.mark.parametrize(
    "text",
    [
        "a.py\n```python\ndef f(x):\r    return x\n```",
        f"{'n' * 300}.py\n```python\nx = 1\n```",
        "a.py\n```python\n\0\n```",
    ],
)
def test_odd_answers_are_understood_or_refused(workspace: Workspace, text: str) -> None:
    understood = Blocks().understand(Draft(text=text), coding_tools(), workspace, lambda: "c")
    assert understood.calls or "was not written" in understood.nudge
    made = guide(workspace, text)
    assert made is not None and made.files == ("a.py",)


def test_files_that_are_not_text_are_named_and_hide_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "p.png").write_bytes(b"\x89PNG\0" + b"x" * 100_000)
    (tmp_path / "l.txt").write_bytes(b"\xe9t\xe9\n")
    told = files(tmp_path)
    assert "p.png (not text)" in told and "l.txt (not text)" in told and "x = 1" in told
    (tmp_path / "long.txt").write_text("ä" * 20_000)
    assert files(tmp_path) == ""
