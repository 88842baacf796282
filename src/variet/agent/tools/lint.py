"""What an edit left broken, said at once: syntax, and in Python names that are defined nowhere. Only what keeps a
program from running; nothing of taste.

Python's own parser and pyflakes for Python, tree-sitter's grammars for others.
"""

from __future__ import annotations

import ast
import json
import sys
import tomllib
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from variet.agent.prompt.preface import is_test
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed

if TYPE_CHECKING:
    from pyflakes.messages import Message
    from tree_sitter import Parser

_MOST_TEXT = 1_000_000  # characters that are looked at
_MOST_TOLD = 5
_PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
_GRAMMARS = {".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript",
             ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx", ".go": "go", ".rs": "rust", ".sh": "bash",
             ".bash": "bash"}  # fmt: skip
# Of pyflakes: what fails when it runs, or silently is not what it says.
_ERRORS = frozenset({
    "UndefinedName", "UndefinedLocal", "UndefinedExport", "DuplicateArgument", "ReturnOutsideFunction",
    "YieldOutsideFunction", "ContinueOutsideLoop", "BreakOutsideLoop", "DefaultExceptNotLast", "RedefinedWhileUnused",
    "ForwardAnnotationSyntaxError", "TwoStarredExpressions",
})  # fmt: skip


def left(workspace: Workspace, path: Path, text: str, before: str | None = None) -> str:
    """What is wrong with a file that was just written, for the model; empty where nothing is known to be. `before`:
    what it held; what was wrong then already is not told again."""
    told = complaints(path, text, before)
    if not told:
        return ""
    more = [f"(and {len(told) - _MOST_TOLD} more)"] if len(told) > _MOST_TOLD else []
    lines = [with_home(one, workspace, path) for one in told[:_MOST_TOLD]]
    return "\n".join([*lines, *more, "The file is written; mend it."])


def complaints(path: Path, text: str, before: str | None = None) -> list[str]:
    """Pure. In the order of lines; a syntax error stands alone."""
    if len(text) > _MOST_TEXT:
        return []
    suffix = path.suffix.lower()
    if suffix in (".py", ".pyi"):
        return _python(path, text, before)
    if (suffix == ".json" and not _with_comments(path)) or suffix == ".toml":
        return _data(suffix, text)
    if suffix in _GRAMMARS:
        found = _parsed(_GRAMMARS[suffix], text)
        # A grammar that did not understand what stood there is no judge of what stands there now.
        return [] if found and before is not None and _parsed(_GRAMMARS[suffix], before) else found
    return []


def _with_comments(path: Path) -> bool:
    """Whether it is a file whose program allows comments in JSON."""
    return path.parent.name == ".vscode" or path.name.startswith(("tsconfig", "jsconfig", ".eslintrc", "devcontainer"))


def _data(suffix: str, text: str) -> list[str]:
    try:
        if suffix == ".json":
            json.loads(text)
        else:
            tomllib.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        return [f"NOT VALID {suffix[1:].upper()}: {error}"]
    return []


def _python(path: Path, text: str, before: str | None) -> list[str]:
    try:
        found = _flaws(path, text)
    except SyntaxError as error:
        line = f"\n  {error.text.strip()}" if error.text else ""
        return [f"SYNTAX ERROR in line {error.lineno} ({_PYTHON}): {error.msg}{line}"]
    except (ValueError, RecursionError, MemoryError) as error:
        return [f"NOT VALID PYTHON: {error}"]
    try:
        known = {words for _, words in _flaws(path, before)} if before is not None else set()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        known = set()
    return [f"ERROR in line {line}: {words}" for line, words in found if words not in known]


def _flaws(path: Path, text: str) -> list[tuple[int, str]]:
    """(line, words). Raises SyntaxError and what else a parser raises."""
    from pyflakes.checker import Checker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker = Checker(ast.parse(text), filename=str(path))
    lines = text.split("\n")
    return [
        (one.lineno, one.message % one.message_args)
        for one in sorted(checker.messages, key=lambda one: (one.lineno, one.col))
        if type(one).__name__ in _ERRORS and "noqa" not in lines[one.lineno - 1] and not _import_again(one, lines)
    ]


def _import_again(message: Message, lines: list[str]) -> bool:
    """A name that is imported twice does no harm; a function that is defined twice loses one."""
    again = type(message).__name__ == "RedefinedWhileUnused"
    return again and lines[message.message_args[1] - 1].lstrip().startswith(("import ", "from "))


def _parsed(language: str, text: str) -> list[str]:
    """The first place that the grammar does not understand."""
    data = text.encode(errors="replace")
    tree = _parser(language).parse(data)
    node = tree.root_node
    if not node.has_error:
        return []
    while not (node.is_error or node.is_missing):
        inner = next((one for one in node.children if one.has_error or one.is_missing), None)
        if inner is None:
            break
        node = inner
    row = node.start_point[0]
    lacks = f": {node.type} is missing" if node.is_missing else ""
    return [f"SYNTAX ERROR in line {row + 1}{lacks}\n  {text.split(chr(10))[row].strip()[:200]}"]


@cache
def _parser(language: str) -> Parser:
    import importlib

    from tree_sitter import Language, Parser

    module = importlib.import_module(f"tree_sitter_{'typescript' if language == 'tsx' else language}")
    name = f"language_{language}" if language in ("typescript", "tsx") else "language"
    return Parser(Language(getattr(module, name)()))


def with_home(complaint: str, workspace: Workspace, path: Path) -> str:
    """With the import that an undefined name of Python may lack."""
    name = _undefined(complaint)
    home = _home_of(name, workspace, path) if name and path.suffix == ".py" else ""
    if not home:
        return complaint
    return f"{complaint}: it is defined in {home}; is `from {module_of(home)} import {name}` missing?"


def missing_imports(workspace: Workspace, path: Path, text: str) -> list[str]:
    """Lines of import for names of Python that are undefined, each defined in one file of the workspace alone."""
    names = dict.fromkeys(filter(None, map(_undefined, complaints(path, text))))
    homes = {name: _home_of(name, workspace, path) for name in names}
    return [f"from {module_of(home)} import {name}" for name, home in homes.items() if home]


def _undefined(complaint: str) -> str:
    return complaint.partition("undefined name '")[2].partition("'")[0]


def _home_of(name: str, workspace: Workspace, path: Path) -> str:
    """The one file that defines a name, tests aside; empty where there is none, or it may be several."""
    homes = [shown for shown, text in workspace.python_files() if not is_test(shown) and name in _top_names(text)]
    return homes[0] if len(homes) == 1 and homes[0] != workspace.show(path) else ""


def module_of(shown: str) -> str:
    """`src/shop/prices.py` as Python imports it: `shop.prices`."""
    parts = shown.removesuffix(".py").split("/")
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _top_names(text: str) -> set[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {name for one in tree.body for name in _defined(one)}


def _defined(statement: ast.stmt) -> Iterable[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (statement.name,)
    targets = statement.targets if isinstance(statement, ast.Assign) else ()
    return [one.id for one in targets if isinstance(one, ast.Name)]


def of_files(workspace: Workspace, paths: Iterable[str]) -> str:
    """All that is wrong with files as they are now, each named."""
    told: list[str] = []
    for shown in paths:
        path = workspace.resolve(shown)
        try:
            text = workspace.read(path).text
        except ToolFailed:
            continue
        told += [f"{shown}: {with_home(one, workspace, path)}" for one in complaints(path, text)[:_MOST_TOLD]]
    return "\n".join(told)
