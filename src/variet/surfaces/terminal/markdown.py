"""Markdown as it streams: a block is shown once it is whole, so that nothing on the screen is ever drawn again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")  # CommonMark 4.5: behind backticks there are none


def code_of(block: str) -> tuple[str, str] | None:
    """The language and the code of a fenced block, whose closing fence may lack. None: the block has no fence."""
    first, *lines = block.split("\n")
    mark = _FENCE.match(first)
    if mark is None:
        return None
    last = _FENCE.match(lines[-1]) if lines else None
    closed = last is not None and last[1].startswith(mark[1]) and not last[2].strip()
    language = mark[2].split()[0] if mark[2].strip() else ""
    return language, "\n".join(lines[:-1] if closed else lines)


@dataclass
class Blocks:
    """Cuts a stream of text behind whole blocks: at blank lines, and at both ends of a fence."""

    _lines: list[str] = field(default_factory=list)
    _rest: str = ""
    _fence: str = ""

    def feed(self, text: str) -> list[str]:
        """The blocks that became whole."""
        *lines, self._rest = (self._rest + text).split("\n")
        return [block for line in lines for block in self._take(line)]

    def end(self) -> list[str]:
        """What is left, whole or not."""
        rest, self._rest = self._rest, ""
        blocks = self._take(rest) if rest else []
        self._fence = ""
        return blocks + self._cut()

    def _take(self, line: str) -> list[str]:
        mark = _FENCE.match(line)
        if self._fence:
            self._lines.append(line)
            if mark and mark[1].startswith(self._fence) and not mark[2].strip():
                self._fence = ""
                return self._cut()
            return []
        if mark:
            before = self._cut()
            self._fence = mark[1]
            self._lines.append(line)
            return before
        if not line.strip():
            return self._cut()
        self._lines.append(line)
        return []

    def _cut(self) -> list[str]:
        lines, self._lines = self._lines, []
        return ["\n".join(lines)] if lines else []
