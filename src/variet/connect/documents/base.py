"""One configuration file of somebody else, changed value by value: whatever else stands in it stays as it was written,
comments too.

A value's place is a tuple of keys; a spot may go on into a list, by the number of its item. All raise DocumentProblem
for a text that cannot be read, or that has something else than a table where one is wanted: nothing is guessed in
somebody's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from variet.errors import VarietError

Place = tuple[str, ...]
Spot = tuple[str | int, ...]


class DocumentProblem(VarietError):
    """A file that cannot be changed with care."""


class Absent:
    """No value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


class Document(Protocol):
    @property
    def text(self) -> str: ...

    def get(self, at: Spot) -> Any:
        """A value as plain data; ABSENT where there is none."""
        ...

    def set(self, at: Spot, value: Any) -> None:
        """Tables that lack are made. The number behind the last item of a list adds one."""
        ...

    def remove(self, at: Spot, *, keep: int = 0) -> None:
        """And each table around it that holds nothing else then, but for the first `keep`; of a list the item alone.
        Nothing where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """How a text begins and ends its lines, so that it can be worked on without."""

    mark: str
    newline: str

    @classmethod
    def of(cls, text: str) -> Frame:
        """Raises DocumentProblem."""
        if 0 < text.count("\r\n") < text.count("\n"):
            raise DocumentProblem("some of its lines end as on Windows, and some do not")
        return cls("\ufeff" if text.startswith("\ufeff") else "", "\r\n" if "\r\n" in text else "\n")

    def bare(self, text: str) -> str:
        return text.removeprefix(self.mark).replace("\r\n", "\n")

    def around(self, bare: str) -> str:
        return self.mark + (bare if self.newline == "\n" else bare.replace("\n", self.newline))


def no_table(at: Spot) -> DocumentProblem:
    return DocumentProblem(f"there is something else than a table at {'.'.join(map(str, at)) or 'its top'}")
