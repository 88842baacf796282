"""One configuration file of somebody else, changed value by value: whatever else stands in it stays as it was written,
comments too.

A value's place is a tuple of keys. All raise DocumentProblem for a text that cannot be read, or that has something else
than a table where one is wanted: nothing is guessed in somebody's file.
"""

from __future__ import annotations

from typing import Any, Protocol

from variet.errors import VarietError

Place = tuple[str, ...]


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

    def get(self, at: Place) -> Any:
        """A value as plain data; ABSENT where there is none."""
        ...

    def set(self, at: Place, value: Any) -> None:
        """Tables that lack are made."""
        ...

    def remove(self, at: Place) -> None:
        """And each table around it that holds nothing else then. Nothing where there is none."""
        ...


def no_table(at: Place) -> DocumentProblem:
    return DocumentProblem(f"there is something else than a table at {'.'.join(at) or 'its top'}")
