"""Files of `NAME=value` lines, as dotenv reads them. A value's place is its name alone."""

from __future__ import annotations

import re
from typing import Any

from variet.connect.documents.base import ABSENT, DocumentProblem, Frame, Spot

_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*(?P<value>[^\n]*)", re.MULTILINE)


class EnvDocument:
    def __init__(self, text: str) -> None:
        self._frame = Frame.of(text)
        self._bare = self._frame.bare(text)

    @property
    def text(self) -> str:
        return self._frame.around(self._bare)

    def get(self, at: Spot) -> Any:
        if not at:
            return {one["name"]: self.get((one["name"],)) for one in _LINE.finditer(self._bare)}
        line = self._line(at[0])
        if line is None:
            return ABSENT
        value = line["value"].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            return value[1:-1]
        return value.split(" #", 1)[0].strip()

    def set(self, at: Spot, value: Any) -> None:
        written = f"{at[0]}={_quoted(str(value))}"
        line = self._line(at[0])
        if line is not None:
            self._bare = self._bare[: line.start()] + written + self._bare[line.end() :]
            return
        broken = "" if not self._bare or self._bare.endswith("\n") else "\n"
        self._bare = f"{self._bare}{broken}{written}\n"

    def remove(self, at: Spot, *, keep: int = 0) -> None:
        line = self._line(at[0])
        if line is not None:
            self._bare = self._bare[: line.start()] + self._bare[line.end() :].removeprefix("\n")

    def _line(self, name: str | int) -> re.Match[str] | None:
        """The last of that name, which is the one that counts."""
        found = [one for one in _LINE.finditer(self._bare) if one["name"] == name]
        return found[-1] if found else None


def _quoted(value: str) -> str:
    if re.fullmatch(r"[\w./:@%+,=-]*", value):
        return value
    quote = next((one for one in "'\"" if one not in value), "")
    if not quote or "\n" in value:
        raise DocumentProblem("a value with both kinds of quotes cannot be written")
    return f"{quote}{value}{quote}"
