"""`edit`: one exact piece of a file replaced by another. A miss says what stands there instead."""

from __future__ import annotations

import difflib
import re
import time

from pydantic import AliasChoices, Field

from variet.agent.events import ToolKind
from variet.agent.tools import lint
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Workspace, patch
from variet.errors import ToolFailed
from variet.policy.action import Sink

_NUMBERED = re.compile(r"^ *\d+  ", re.MULTILINE)
_MOST_MISS_S = 0.5  # of looking for what may have been meant
_CONTEXT = 2  # lines around what was meant


class EditArgs(Args):
    path: str = Field(validation_alias=AliasChoices("path", "file_path", "file", "filename", "filePath"))
    old: str = Field(
        description="Exact text to replace",
        validation_alias=AliasChoices("old", "old_string", "old_str", "oldString", "search", "old_text"),
    )
    new: str = Field(
        description="Text instead",
        validation_alias=AliasChoices("new", "new_string", "new_str", "newString", "replace", "new_text"),
    )
    all: bool = Field(False, description="Every occurrence", validation_alias=AliasChoices("all", "replace_all"))


class Edit:
    name = "edit"
    description = "Replace a piece of a file. old must match exactly, once."
    kind: ToolKind = "edit"
    changes = True
    args = EditArgs

    def sink(self, args: EditArgs, workspace: Workspace) -> Sink:
        path = workspace.resolve(args.path)
        return Sink("write", (workspace.show(path),), inside=workspace.inside(path), guarded=workspace.guarded(path),
                    protected=workspace.kept_from_writing(path))  # fmt: skip

    def summary(self, args: EditArgs) -> str:
        return f"edit {args.path}"

    def preview(self, args: EditArgs, workspace: Workspace) -> str:
        path = workspace.resolve(args.path)
        before = workspace.read(path).text
        return patch(workspace.show(path), before, replaced(before, args.old, args.new, every=args.all)[0])

    async def run(self, args: EditArgs, place: Place) -> Result:
        workspace = place.workspace
        path = workspace.resolve(args.path)
        before = workspace.read(path)
        if workspace.changed_since_seen(path):
            raise ToolFailed(f"{args.path} was changed by somebody else since you read it", next_step="Read it again")
        after, line = replaced(before.text, args.old, args.new, every=args.all)
        diff = workspace.write(path, after, before)
        wrong = lint.left(workspace, path, after, before.text)
        return Result(f"edited {diff.path}, line {line}" + (f"\n{wrong}" if wrong else ""), diffs=(diff,))


def replaced(text: str, old: str, new: str, *, every: bool = False) -> tuple[str, int]:
    """(the new text, the line where it changed). Raises ToolFailed with what would have matched."""
    old, new = old.replace("\r\n", "\n"), new.replace("\r\n", "\n")
    if old == new:
        raise ToolFailed("old and new are the same; nothing was changed")
    if not old:
        raise ToolFailed("old is empty", next_step="Use `write` for a whole file")
    count = text.count(old)
    if not count and _all_numbered(old):  # line numbers of `read`, copied along
        old, new = _NUMBERED.sub("", old), _NUMBERED.sub("", new)
        count = text.count(old)
    if not count:
        at, end, fresh = _as_it_stands(text, old, new)
        lines = text.split("\n")
        lines[at:end] = fresh
        return "\n".join(lines), at + 1
    if count > 1 and not every:
        places = [str(text.count("\n", 0, match.start()) + 1) for match in re.finditer(re.escape(old), text)]
        raise ToolFailed(
            f"old stands there {count} times (lines {', '.join(places[:8])}); nothing was changed",
            next_step="Give more of the lines around it, or all=true",
        )
    line = text.count("\n", 0, text.index(old)) + 1
    return text.replace(old, new), line


def _all_numbered(text: str) -> bool:
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and all(_NUMBERED.match(line) for line in lines)


def _as_it_stands(text: str, old: str, new: str) -> tuple[int, int, list[str]]:
    """The one place (its lines) that differs from `old` in white space alone, and `new` indented as it is. Raises
    ToolFailed."""
    lines, wanted = text.split("\n"), old.strip("\n").split("\n")
    bare = [line.strip() for line in wanted]
    if not any(bare):
        raise ToolFailed("old is white space alone", next_step="Give the lines around it")
    found = [
        at
        for at in range(len(lines) - len(wanted) + 1)
        if all(lines[at + k].strip() == bare[k] for k in range(len(bare)))
    ]
    if len(found) != 1:
        raise ToolFailed(_miss(lines, wanted, found))
    at = found[0]
    here = lines[at : at + len(wanted)]
    shifts = {_indent(a)[len(_indent(b)) :] if _indent(a).startswith(_indent(b)) else None
              for a, b in zip(here, wanted, strict=True) if b.strip()}  # fmt: skip
    back = {_indent(b)[len(_indent(a)) :] if _indent(b).startswith(_indent(a)) else None
            for a, b in zip(here, wanted, strict=True) if b.strip()}  # fmt: skip
    fresh = new.strip("\n").split("\n")
    if len(shifts) == 1 and None not in shifts:
        more = shifts.pop() or ""
        fresh = [more + line if line.strip() else line for line in fresh]
    elif len(back) == 1 and None not in back:
        less = back.pop() or ""
        fresh = [line.removeprefix(less) for line in fresh]
    else:
        raise ToolFailed(_miss(lines, wanted, found))
    return at, at + len(wanted), fresh


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _miss(lines: list[str], wanted: list[str], found: list[int]) -> str:
    if len(found) > 1:
        return (
            f"old is not there exactly, but nearly {len(found)} times; give more lines around it. Nothing was changed"
        )
    best, score = 0, 0.0
    size = len(wanted)
    sought = "\n".join(wanted)
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(sought[:2000])
    deadline = time.monotonic() + _MOST_MISS_S
    for at in range(max(1, min(len(lines), 4000) - size + 1)):
        if time.monotonic() > deadline:
            break
        matcher.set_seq1("\n".join(lines[at : at + size])[:2000])
        if matcher.real_quick_ratio() > score and matcher.quick_ratio() > score and (now := matcher.ratio()) > score:
            best, score = at, now
    if score < 0.4:
        return "old is not in the file, and nothing like it; read the file first. Nothing was changed"
    begin, end = max(0, best - _CONTEXT), min(len(lines), best + size + _CONTEXT)
    shown = "\n".join(lines[begin:end])
    return f"old is not in the file. Nothing was changed. Did you mean these lines ({begin + 1} to {end})?\n{shown}"
