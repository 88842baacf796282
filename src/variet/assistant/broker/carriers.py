"""What carries one kind of action out, once a person approved it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Prepared:
    """`payload`: exactly what will be done, the same bytes for the same wish; `summary`: one line of it, `preview`: all
    of it, in words for a person; `targets`: who it reaches; `etag`: of what it would change, as it stands now."""

    payload: bytes
    summary: str
    preview: str
    targets: tuple[str, ...] = ()
    account: str = ""
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended; `unknown`: nobody can tell whether it was done."""

    state: Literal["done", "failed", "unknown"]
    result: str


class Uncertain(Exception):
    """It broke off when it may have been done already."""


class Carrier(Protocol):
    """Offered by mail and calendar, one for each of their tools that act."""

    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        """Raises ToolProblem where it cannot be done as asked."""
        ...

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        """What was done, in words. `note` keeps what `reconcile` will need, before it returns.

        Raises ToolProblem where it was surely not done, Uncertain where it may have been.
        """
        ...

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        """Looks whether an action that broke off was done. Does nothing itself."""
        ...
