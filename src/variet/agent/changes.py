"""Pure: what a session changed, file by file and hunk by hunk; a file with some of its hunks as they were before."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

_AROUND = 3  # lines that a hunk shows of what stayed
_LOOKED_AT = 8_192  # bytes of a file that tell whether it is text, as git does it


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Selection(_Model):
    """Of what a session changed. Without files and hunks: the last step (`step`), a turn (`turn`: the last one, or
    `turn_id`), or all of it. `paths`: these files alone; `hunks`: these hunks alone, by their ids in `changes`. Where
    `which` is `step` and files or hunks are named, all steps count."""

    which: Literal["step", "turn", "all"] = "step"
    turn_id: str = ""
    paths: tuple[str, ...] = ()
    hunks: tuple[str, ...] = ()


ALL, LAST = Selection(which="all"), Selection()


class Hunk(_Model):
    """Changed lines that stand together, with those around them. `id`: the same as long as the change is."""

    id: str
    patch: str


class FileChange(_Model):
    """`head`: what a unified patch begins with; of what is no text, a line that says so. Hashes are of its bytes, None
    where there was or is no file. `turns`: the turns that changed it."""

    path: str
    before_sha256: str | None
    after_sha256: str | None
    head: str
    hunks: tuple[Hunk, ...] = ()
    turns: tuple[str, ...] = ()

    @property
    def patch(self) -> str:
        """Unified, as git applies it."""
        return self.head + "".join(hunk.patch for hunk in self.hunks)


class Changes(_Model):
    """`left`: files that somebody else changed between two steps, which cannot be told apart."""

    files: tuple[FileChange, ...] = ()
    left: dict[str, str] = {}

    @property
    def patch(self) -> str:
        return "".join(file.patch for file in self.files)


def change_of(
    path: str, before: bytes | None, after: bytes | None, turns: Sequence[str] = (), *, link: bool = False
) -> FileChange:
    """What became of a file. None: there was or is none. `link`: it was or is a link, and these are where it leads."""
    old, new = text_of(before), text_of(after)
    hunks: tuple[Hunk, ...] = ()
    if link or old is None or new is None:
        head = f"{'Link' if link else 'Binary file'} {path} changed\n"
    else:
        head = _head(path, before, after)
        hunks = tuple(Hunk(id=name, patch=text) for name, text, _ in _hunks(path, _lines(old), _lines(new)))
    return FileChange(
        path=path, before_sha256=_sha256(before), after_sha256=_sha256(after), head=head, hunks=hunks,
        turns=tuple(turns),
    )  # fmt: skip


def without(path: str, before: str, after: str, hunks: Collection[str]) -> str:
    """The text `after` with these hunks as they were before."""
    old, new = _lines(before), _lines(after)
    parts: list[str] = []
    at = 0
    for name, _, (first, last) in _hunks(path, old, new):
        parts += new[at : first[3]]
        parts += old[first[1] : last[2]] if name in hunks else new[first[3] : last[4]]
        at = last[4]
    return "".join(parts + new[at:])


def text_of(data: bytes | None) -> str | None:
    """None for what is no text."""
    if data is None:
        return ""
    if b"\0" in data[:_LOOKED_AT]:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


_Opcode = tuple[str, int, int, int, int]


def _hunks(path: str, old: list[str], new: list[str]) -> Iterator[tuple[str, str, tuple[_Opcode, _Opcode]]]:
    """(its id, its patch, its first and last opcode) of each."""
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_AROUND):
        first, last = group[0], group[-1]
        span = f"@@ -{_span(first[1], last[2])} +{_span(first[3], last[4])} @@\n"
        body = "".join(_body(group, old, new))
        told = f"{path}\0{first[1]}\0{body}".encode("utf-8", "surrogateescape")
        yield hashlib.sha256(told).hexdigest()[:12], span + body, (first, last)


def _body(group: Sequence[_Opcode], old: list[str], new: list[str]) -> Iterator[str]:
    for tag, old_from, old_to, new_from, new_to in group:
        if tag == "equal":
            yield from (_line(" ", line) for line in old[old_from:old_to])
            continue
        yield from (_line("-", line) for line in old[old_from:old_to])
        yield from (_line("+", line) for line in new[new_from:new_to])


def _line(mark: str, line: str) -> str:
    return f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"


def _span(begin: int, end: int) -> str:
    """As `diff -u` counts lines."""
    length = end - begin
    start = begin + 1 if length else begin
    return f"{start}" if length == 1 else f"{start},{length}"


def _head(path: str, before: bytes | None, after: bytes | None) -> str:
    old = "/dev/null" if before is None else f"a/{path}"
    new = "/dev/null" if after is None else f"b/{path}"
    return f"--- {old}\n+++ {new}\n"


def _lines(text: str) -> list[str]:
    """With their ends. A line ends at a line feed alone: what else an editor takes for an end stays in its line."""
    return [f"{line}\n" for line in text.split("\n")[:-1]] + [rest for rest in text.split("\n")[-1:] if rest]


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
