"""A text changed as another way of writing it was: what a library writes anew is carried over line by line, so that all
lines beside those stay as somebody wrote them."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher


def carried_over(text: str, before: str, after: str) -> str:
    """`text` changed as `before`, which says the same, was to become `after`; but no line that is a comment goes, for
    libraries hang comments on what stands before them. Raises ValueError where a change falls
    into lines that the two write differently."""
    lines, old, new = (one.splitlines(keepends=True) for one in (text, before, after))
    if lines and old and not lines[-1].endswith("\n") and lines[-1] + "\n" == old[-1]:
        lines[-1] += "\n"
    places = _places(lines, old)
    made: list[str] = []
    lost = _comments(old) - _comments(new)
    done = 0
    for what, begin, end, first, last in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        at = places.get(begin, -1) if begin < end else _place(places, begin, len(old), len(lines))
        if any(places.get(index) != at + index - begin for index in range(begin, end)):
            raise ValueError("what is to be changed in it is written in another way than usual")
        made += [*lines[done:at], *new[first:last]]
        for line in old[begin:end]:
            if lost[line.rstrip("\n")] > 0:
                lost[line.rstrip("\n")] -= 1
                made.append(line)
        done = at + end - begin
    return "".join([*made, *lines[done:]])


def _comments(lines: list[str]) -> Counter[str]:
    return Counter(line.rstrip("\n") for line in lines if line.lstrip().startswith("#"))


def _places(lines: list[str], old: list[str]) -> dict[int, int]:
    """Which line of `lines` each of `old` is, for those that are the same."""
    blocks = SequenceMatcher(None, old, lines, autojunk=False).get_matching_blocks()
    return {one.a + step: one.b + step for one in blocks for step in range(one.size)}


def _place(places: dict[int, int], boundary: int, most: int, length: int) -> int:
    """Where the boundary before a line is: behind the line before it, or before its own."""
    if boundary == most:
        return length
    if boundary - 1 in places:
        return places[boundary - 1] + 1
    if boundary == 0:
        return 0
    if boundary in places:
        return places[boundary]
    raise ValueError("what is around the change is written in another way than usual")
