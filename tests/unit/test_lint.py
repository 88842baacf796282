"""What an edit left broken: told where it is sure, and only what is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from variet.agent.tools.lint import Complaint, complaints, left, module_of, of_files
from variet.agent.workspace import Workspace


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.py", "x = f(1\n", "SYNTAX ERROR in line 1"),
        ("a.py", "def g():\n    return tax(1)\n", "ERROR in line 2: undefined name 'tax'"),
        ("a.py", "x = 1\n\n\ndef g():\n    print(x)\n    x = 2\n", "ERROR in line 5: local variable 'x'"),
        ("a.py", "def a(): ...\ndef a(): ...\n", "ERROR in line 2: redefinition of unused 'a'"),
        ("a.py", "return 1\n", "ERROR in line 1"),
        ("a.js", "let a = (1;\n", "SYNTAX ERROR in line 1: ) is missing"),
        ("a.ts", "const a: number = 1;\nfunction (x: {\n}\n", "SYNTAX ERROR in line 2"),
        ("a.tsx", "const a = <div>hi</span;\n", "SYNTAX ERROR in line 1"),
        ("a.go", "package main\nfunc main() { x := }\n", "SYNTAX ERROR in line 2"),
        ("a.rs", "fn main() { let x = ; }\n", "SYNTAX ERROR in line 1"),
        ("a.sh", "if [ -f x ]; then\necho\n", "fi is missing"),
        ("a.json", "{,}", "NOT VALID JSON"),
        ("a.toml", "x=", "NOT VALID TOML"),
    ],
)
def test_what_cannot_run_is_told(name: str, text: str, told: str) -> None:
    (first, *_) = complaints(Path(name), text)
    assert told in first.words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "import os\nimport sys\nprint(os)\n"),  # a matter of taste
        ("a.py", "try:\n    import json\nexcept ImportError:\n    import simplejson as json\nprint(json)\n"),
        ("a.py", "from a import f\nfrom a import f\nprint(f)\n"),
        ("a.py", "print(gone)  # noqa: F821\n"),
        ("a.py", "def f():\n    global x\n    x = 1\n"),
        ("a.ts", "export default class A<T extends string> { private readonly x?: T; }\n"),
        ("a.jsx", "export const A = () => <b>{1}</b>;\n"),
        ("a.pyi", "def f(x: Later) -> None: ...\nclass Later: ...\n"),
        ("a.py", "x = 1\ry = x\r"),
        ("steps.py", "from b import given\n\n@given('a')\ndef step(): ...\n\n@given('b')\ndef step(): ...\n"),
        ("a.sh", "#!/bin/bash\nset -e\nfor f in *.txt; do echo \"$f\"; done\n"),
        ("tsconfig.json", '{ // comments are allowed\n "a": 1 }'),
        ("notes.txt", "x = f(1\n"),
        ("a.py", ""),
    ],
)  # fmt: skip
def test_what_runs_is_not_complained_of(name: str, text: str) -> None:
    assert complaints(Path(name), text) == []


def test_only_what_is_new_is_told() -> None:
    before = "print(x)\n"
    (new,) = complaints(Path("a.py"), "print(x)\nprint(y)\n", before)
    assert new == Complaint("ERROR in line 2: undefined name 'y'", "y")
    assert complaints(Path("a.js"), "let a = (2;\n", "let a = (1;\n") == [], "a grammar that did not understand before"
    assert complaints(Path("a.py"), "type X = int\nx = 1\n", "type X = int\n") == [], "newer than this Python"
    assert complaints(Path("a.py"), "x = (\n", "type X = int\n") != []
    assert complaints(Path("a.json"), '{"a": 2} // so', '{"a": 1} // so') == []
    twice = "def f(): ...\ndef f(): ...\n"
    assert complaints(Path("a.py"), f"import os\n{twice}print(os)\n", twice) == [], "it only moved"


def test_the_import_that_lacks_is_told_with_where_the_name_is(tmp_path: Path) -> None:
    (tmp_path / "src" / "shop").mkdir(parents=True)
    (tmp_path / "src" / "shop" / "prices.py").write_text("RATE = 2\n\n\ndef tax(a):\n    return a\n")
    text = "def total():\n    return tax(RATE)\n"
    (tmp_path / "cart.py").write_text(text)
    workspace = Workspace(tmp_path)
    told = left(workspace, tmp_path / "cart.py", text)
    assert "src/shop/prices.py" in told and "`from shop.prices import tax`" in told
    assert "`from shop.prices import RATE`" in told and told.endswith("mend it.")
    assert of_files(workspace, ["cart.py", "not there.py"]).startswith("cart.py: ERROR in line 2")
    (tmp_path / "other.py").write_text("def tax(b):\n    return b\n")
    assert "import tax" not in left(workspace, tmp_path / "cart.py", text), "it may be either"


@pytest.mark.parametrize(
    ("shown", "module"),
    [("prices.py", "prices"), ("src/a/b.py", "a.b"), ("a/__init__.py", "a"), ("src.py", "src"), ("a/b/c.py", "a.b.c")],
)
def test_paths_as_modules(shown: str, module: str) -> None:
    assert module_of(shown) == module
