"""What an edit left broken, said at once: syntax, and in Python names that are defined nowhere. Only what keeps a
program from running; nothing of taste.

Python's own parser and pyflakes for Python, tree-sitter's grammars for others.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from variet.agent.formats.splice import values_and_names_of
from variet.agent.prompt.preface import is_test
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed

if TYPE_CHECKING:
    from pyflakes.messages import Message
    from tree_sitter import Parser

_MOST_TEXT = 1_000_000  # characters that are looked at
_MOST_TOLD = 5
_MOST_SOUGHT_S = 0.3  # for where names are defined
_LINE_END = re.compile(r"\r\n?|\n")  # as Python counts lines
_DEFINES = ("def ", "async def ", "class ")
_PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
_GRAMMARS = {".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript",
             ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx", ".go": "go", ".rs": "rust", ".sh": "bash",
             ".bash": "bash"}  # fmt: skip
# Of pyflakes: what fails when it runs, or silently is not what it says.
_ERRORS = frozenset({
    "UndefinedName", "UndefinedLocal", "UndefinedExport", "DuplicateArgument", "ReturnOutsideFunction",
    "YieldOutsideFunction", "ContinueOutsideLoop", "BreakOutsideLoop", "DefaultExceptNotLast", "RedefinedWhileUnused",
    "TwoStarredExpressions", "LateFutureImport",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Complaint:
    """`undefined`: the name of Python that is defined nowhere, where that is what is wrong."""

    words: str
    undefined: str = ""


def left(workspace: Workspace, path: Path, text: str, before: str | None = None) -> str:
    """What is wrong with a file that was just written, for the model; empty where nothing is known to be. `before`:
    what it held; what was wrong then already is not told again."""
    told = complaints(path, text, before)
    if not told:
        return ""
    more = [f"(and {len(told) - _MOST_TOLD} more)"] if len(told) > _MOST_TOLD else []
    lines = with_homes(told[:_MOST_TOLD], workspace, path)
    return "\n".join([*lines, *more, "The file is written; mend it."])


def complaints(path: Path, text: str, before: str | None = None) -> list[Complaint]:
    """Pure. In the order of lines; a syntax error stands alone."""
    if len(text) > _MOST_TEXT:
        return []
    suffix = path.suffix.lower()
    if suffix in (".py", ".pyi"):
        return _python(path, text, before)
    if (suffix == ".json" and not _with_comments(path)) or suffix == ".toml":
        found = _data(suffix, text)
        return [] if before is not None and _data(suffix, before) else found
    if suffix in _GRAMMARS:
        found = _parsed(_GRAMMARS[suffix], text)
        # A grammar that did not understand what stood there is no judge of what stands there now.
        return [] if found and before is not None and _parsed(_GRAMMARS[suffix], before) else found
    return []


def _with_comments(path: Path) -> bool:
    """Whether it is a file whose program allows comments in JSON."""
    return path.parent.name == ".vscode" or path.name.startswith(("tsconfig", "jsconfig", ".eslintrc", "devcontainer"))


def _data(suffix: str, text: str) -> list[Complaint]:
    try:
        if suffix == ".json":
            json.loads(text)
        else:
            tomllib.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        return [Complaint(f"NOT VALID {suffix[1:].upper()}: {error}")]
    return []


def _python(path: Path, text: str, before: str | None) -> list[Complaint]:
    try:
        found = _flaws(path, text)
    except SyntaxError as error:
        if before is not None and _syntax(before) == error.msg:
            return []  # it may be newer than this Python
        line = f"\n  {error.text.strip()}" if error.text else ""
        return [Complaint(f"SYNTAX ERROR in line {error.lineno} ({_PYTHON}): {error.msg}{line}")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Complaint(f"NOT VALID PYTHON: {error}")]
    known: Counter[tuple[str, object]] = Counter()
    if before is not None:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            known = Counter(map(_key, _flaws(path, before)))
    told = []
    for flaw in found:
        known[_key(flaw)] -= 1
        if known[_key(flaw)] < 0:
            undefined = str(flaw.message_args[0]) if type(flaw).__name__ == "UndefinedName" else ""
            words = flaw.message % flaw.message_args
            told.append(Complaint(f"ERROR in line {flaw.lineno}: {words}", undefined))
    return told


def _key(flaw: Message) -> tuple[str, object]:
    """What makes it the same flaw in another line."""
    return type(flaw).__name__, flaw.message_args[:1]


def _syntax(text: str) -> str:
    """What is wrong with it, without the place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        return error.msg
    except (ValueError, RecursionError, MemoryError):
        pass
    return ""


def _flaws(path: Path, text: str) -> list[Message]:
    """In the order of lines. Raises SyntaxError and what else a parser raises."""
    from pyflakes.checker import Checker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
        if path.suffix == ".pyi":
            return []  # names may stand anywhere in it
        checker = Checker(tree, filename=str(path))
    lines = _LINE_END.split(text)
    return [
        one
        for one in sorted(checker.messages, key=lambda one: (one.lineno, one.col))
        if type(one).__name__ in _ERRORS and "noqa" not in lines[one.lineno - 1] and _counts(one, lines)
    ]


def _counts(message: Message, lines: list[str]) -> bool:
    """A function that is defined twice loses one; other names may well be given again, and decorators may keep both."""
    if type(message).__name__ != "RedefinedWhileUnused":
        return True
    both = [lines[message.lineno - 1], lines[message.message_args[1] - 1]]
    above = lines[message.lineno - 2] if message.lineno > 1 else ""
    return all(one.lstrip().startswith(_DEFINES) for one in both) and not above.lstrip().startswith("@")


def _parsed(language: str, text: str) -> list[Complaint]:
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
    shown = text.split("\n")[row].strip()[:200]
    return [Complaint(f"PERHAPS A SYNTAX ERROR in line {row + 1}{lacks}\n  {shown}")]


@cache
def _parser(language: str) -> Parser:
    import importlib

    from tree_sitter import Language, Parser

    module = importlib.import_module(f"tree_sitter_{'typescript' if language == 'tsx' else language}")
    name = f"language_{language}" if language in ("typescript", "tsx") else "language"
    return Parser(Language(getattr(module, name)()))


def with_homes(complaints: Sequence[Complaint], workspace: Workspace, path: Path) -> list[str]:
    """In words, with the imports that undefined names of Python may lack."""
    homes = _homes([one.undefined for one in complaints if one.undefined], workspace, path)

    def told(one: Complaint) -> str:
        home = homes.get(one.undefined, "")
        lacks = f"`from {module_of(home)} import {one.undefined}`"
        return f"{one.words}: it is defined in {home}; is {lacks} missing?" if home else one.words

    return [told(one) for one in complaints]


def missing_imports(workspace: Workspace, path: Path, text: str) -> list[str]:
    """Lines of import for names of Python that are undefined, each defined in one file of the workspace alone."""
    homes = _homes([one.undefined for one in complaints(path, text) if one.undefined], workspace, path)
    return [f"from {module_of(home)} import {name}" for name, home in homes.items()]


def _homes(names: Sequence[str], workspace: Workspace, path: Path) -> dict[str, str]:
    """For each name the one file that defines it, tests aside; none where it may be several, or it takes too long."""
    if not names or path.suffix != ".py":
        return {}
    found: dict[str, list[str]] = {name: [] for name in names}
    deadline = time.monotonic() + _MOST_SOUGHT_S
    for shown, text in workspace.python_files():
        if time.monotonic() > deadline:
            return {}
        if is_test(shown) or shown == workspace.show(path) or not any(name in text for name in names):
            continue
        for name in values_and_names_of(text) & set(names):
            found[name].append(shown)
    return {name: homes[0] for name, homes in found.items() if len(homes) == 1}


def module_of(shown: str) -> str:
    """`src/shop/prices.py` as Python imports it: `shop.prices`."""
    parts = shown.removesuffix(".py").split("/")
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def of_files(workspace: Workspace, paths: Iterable[str]) -> str:
    """All that is wrong with files as they are now, each named."""
    told: list[str] = []
    for shown in paths:
        path = workspace.resolve(shown)
        try:
            text = workspace.read(path).text
        except ToolFailed:
            continue
        told += [f"{shown}: {one}" for one in with_homes(complaints(path, text)[:_MOST_TOLD], workspace, path)]
    return "\n".join(told)
