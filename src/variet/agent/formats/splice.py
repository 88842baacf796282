"""Pure: a piece of Python put where it belongs in a file, by the names that it defines. Small models write only what
changes, and leave the rest out; as a whole file that would lose the rest."""

from __future__ import annotations

import ast
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class _Place:
    """Lines of a definition, counted from 0, with its decorators; `indent` of its first line."""

    begin: int
    end: int
    indent: str


def names_of(text: str) -> set[str]:
    """What a module defines at its top; empty where it is no Python."""
    tree = _parsed(text)
    return {one.name for one in tree.body if isinstance(one, _Definition)} if tree else set()


def values_and_names_of(text: str) -> set[str]:
    """What a module defines at its top, values too; empty where it is no Python."""
    tree = _parsed(text)
    return {name for one in tree.body if (name := _name(one))} if tree else set()


def defines_less(text: str, snippet: str) -> bool:
    """Whether a snippet, written as the whole file, would lose definitions and bring none."""
    new, old = names_of(snippet), names_of(text)
    return bool(new) and new < old


def unfinished(text: str) -> set[str]:
    """Functions at a module's top that are yet to be written: there is nothing in them, or NotImplementedError. Methods
    are left out: those of base classes stay so."""
    tree = _parsed(text)
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)] if tree else []
    return {one.name for one in functions if not one.decorator_list and all(map(_says_nothing, one.body))}


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)  # a docstring, or an ellipsis
    raised = statement.exc if isinstance(statement, ast.Raise) else None
    raised = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(statement, ast.Pass) or (isinstance(raised, ast.Name) and raised.id == "NotImplementedError")


def same_program(text: str, other: str) -> bool:
    """Whether two files of Python differ in nothing that runs: quotes, comments, white space."""
    one, two = _parsed(text), _parsed(other)
    return one is not None and two is not None and ast.dump(one) == ast.dump(two)


def with_imports(text: str, imports: Sequence[str]) -> str:
    """With these lines of import where a file's imports are."""
    piece = _parsed("\n".join(imports))
    return _with_imports(text, piece) if imports and piece is not None else text


def imported_from(text: str, module: str) -> set[str]:
    """Names that a file of Python imports from a module."""
    tree = _parsed(text)
    froms = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)] if tree else []
    return {alias.name for one in froms if one.module == module and not one.level for alias in one.names}


def splice(text: str, snippet: str, module: str = "", *, append: bool = False) -> str | None:
    """The file with the snippet's definitions and values instead of its own of these names, at the top or, definitions,
    within one class; new imports go to the top, but for those from the file itself, `module`; new values behind them,
    new definitions before the first replaced one, or where there is none and `append` says so, at the end. Other
    statements are left out: they are examples. None: there is no place for it, or more than one."""
    snippet = textwrap.dedent(snippet)
    tree, piece = _parsed(text), _parsed(snippet)
    if tree is None or piece is None or "\r" in text + snippet:
        return None
    piece.body = [one for one in piece.body if not (isinstance(one, ast.ImportFrom) and one.module == module)]
    names = [name for one in piece.body if (name := _name(one))]
    places = _places(tree, text)
    if len(set(names)) < len(names) or any(len(places.get(name, [])) > 1 for name in names):
        return None
    lines, given = _lines(text), _lines(snippet)
    edits: list[tuple[_Place, list[str]]] = []
    values: list[str] = []
    fresh: list[str] = []
    for one in piece.body:
        name = _name(one)
        source = given[_first_line(one) : one.end_lineno]
        if not name:
            continue
        if found := places.get(name, []):
            edits.append((found[0], [found[0].indent + line if line.strip() else line for line in source]))
        elif isinstance(one, _Definition):
            fresh += [*source, "", ""]
        else:
            values += source
    if not edits and not (append and fresh):
        return None
    edits.sort(key=lambda edit: edit[0].begin)
    if any(b.begin < a.end for (a, _), (b, _) in itertools.pairwise(edits)):
        return None  # one within the other
    for place, source in reversed(edits):
        lines[place.begin : place.end] = source
    if edits:
        at = min(_outer(tree, place.begin) for place, _ in edits)
        lines[at:at] = fresh
    else:
        at = len(lines)
        lines += ["", "", *fresh[:-2]]
    if values:
        at = min(at, _below_imports(tree))
        lines[at:at] = ["", *values] if at else [*values, "", ""]
    return _with_imports("\n".join(lines) + "\n", piece)


def _name(statement: ast.stmt) -> str:
    """Of a definition, or of a value that has one."""
    if isinstance(statement, _Definition):
        return statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


def _below_imports(tree: ast.Module) -> int:
    """The line behind the docstring and the imports that follow it."""
    at = 0
    for index, one in enumerate(tree.body):
        docstring = index == 0 and isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
        if not docstring and not isinstance(one, ast.Import | ast.ImportFrom):
            break
        at = one.end_lineno or at
    return at


def _lines(text: str) -> list[str]:
    """As the parser counts them: whatever else Unicode takes for a line end is none."""
    return text.removesuffix("\n").split("\n")


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _places(tree: ast.Module, text: str) -> dict[str, list[_Place]]:
    """By name: at the top, or where there is none, the methods of classes."""
    lines = _lines(text)
    top: dict[str, list[_Place]] = {}
    inner: dict[str, list[_Place]] = {}
    for one in tree.body:
        if name := _name(one):
            top.setdefault(name, []).append(_place(one, lines))
        if isinstance(one, ast.ClassDef):
            for method in one.body:
                if isinstance(method, _Definition):
                    inner.setdefault(method.name, []).append(_place(method, lines))
    return {**inner, **top}


def _place(one: ast.stmt, lines: list[str]) -> _Place:
    begin = _first_line(one)
    return _Place(begin, one.end_lineno or begin + 1, lines[begin][: len(lines[begin]) - len(lines[begin].lstrip())])


def _first_line(one: ast.stmt) -> int:
    decorators = one.decorator_list if isinstance(one, _Definition) else []
    return min([one.lineno, *(decorator.lineno for decorator in decorators)]) - 1


def _outer(tree: ast.Module, line: int) -> int:
    """The line where the top-level definition around a line begins."""
    return max(
        (_first_line(one) for one in tree.body if isinstance(one, _Definition) and _first_line(one) <= line),
        default=line,
    )


def _with_imports(text: str, piece: ast.Module) -> str:
    """With the imports of a piece; one that brings all that one of the file brings stands in its place."""
    tree = _parsed(text)
    if tree is None or "\r" in text:
        return text
    present = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
    known, own = {ast.unparse(one) for one in present}, names_of(text)
    lacking = [
        one
        for one in piece.body
        if isinstance(one, ast.Import | ast.ImportFrom)
        and ast.unparse(one) not in known
        and not {alias.name for alias in one.names} <= own  # of itself
        and not any(_brings(older, one) for older in present)
    ]
    if not lacking:
        return text
    lines = _lines(text)
    future = [ast.unparse(one) for one in lacking if _of_future(one)]
    fresh: list[str] = []
    for one in lacking:
        older = next((older for older in present if _brings(one, older) and _alone(older, lines)), None)
        if _of_future(one):
            continue
        if older is None:
            fresh.append(ast.unparse(one))
            continue
        present.remove(older)
        begin, end = older.lineno - 1, older.end_lineno or older.lineno
        lines[begin:end] = [ast.unparse(one), *[_GONE] * (end - begin - 1)]  # as many lines as before
    at = _below_imports(tree)
    if fresh:
        lines[at:at] = fresh if present or len(fresh) < len(lacking) else ["", *fresh] if at else [*fresh, ""]
    if future:  # before all but the docstring
        first = next((one.lineno - 1 for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)), at)
        lines[first:first] = future
    return "\n".join(line for line in lines if line is not _GONE) + "\n"


def _of_future(one: ast.stmt) -> bool:
    return isinstance(one, ast.ImportFrom) and one.module == "__future__"


def _alone(one: ast.Import | ast.ImportFrom, lines: list[str]) -> bool:
    """Whether nothing else stands on its lines, no comment either."""
    own = "\n".join(lines[one.lineno - 1 : one.end_lineno])
    tree = _parsed(own)
    return "#" not in own and tree is not None and len(tree.body) == 1


_GONE = "\0gone"


def _brings(more: ast.Import | ast.ImportFrom, less: ast.Import | ast.ImportFrom) -> bool:
    """Whether one import from a module brings all that the other does."""
    if not isinstance(more, ast.ImportFrom) or not isinstance(less, ast.ImportFrom):
        return False
    same = (more.module, more.level) == (less.module, less.level)
    return same and {(one.name, one.asname) for one in less.names} <= {(one.name, one.asname) for one in more.names}
