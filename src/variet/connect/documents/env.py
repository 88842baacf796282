"""Files of `NAME=value` lines, as dotenv reads them. A value's place is its name alone."""

from __future__ import annotations

import re
from typing import Any

from variet.connect.documents.base import ABSENT, Place

_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*(?P<value>[^\n\r]*)", re.MULTILINE)


class EnvDocument:
    def __init__(self, text: str) -> None:
        self.text = text

    def get(self, at: Place) -> Any:
        if not at:
            return {one["name"]: self.get((one["name"],)) for one in _LINE.finditer(self.text)}
        line = self._line(at[0])
        if line is None:
            return ABSENT
        value = line["value"].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            return value[1:-1]
        return value.split(" #", 1)[0].strip()

    def set(self, at: Place, value: Any) -> None:
        written = f"{at[0]}={_quoted(str(value))}"
        line = self._line(at[0])
        if line is not None:
            self.text = self.text[: line.start()] + written + self.text[line.end() :]
            return
        broken = "" if not self.text or self.text.endswith("\n") else "\n"
        self.text = f"{self.text}{broken}{written}\n"

    def remove(self, at: Place) -> None:
        line = self._line(at[0])
        if line is not None:
            rest = re.sub(r"\A\r?\n", "", self.text[line.end() :])
            self.text = self.text[: line.start()] + rest

    def _line(self, name: str) -> re.Match[str] | None:
        """The last of that name, which is the one that counts."""
        found = [one for one in _LINE.finditer(self.text) if one["name"] == name]
        return found[-1] if found else None


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w./:@%+,=-]*", value) else "'" + value.replace("'", "\\'") + "'"
