"""Pure: one approval as a question: what is shown of it, page by page, and what a typed line means.

Only a line that was ended by Enter decides. A line is a key (`y` or `yes`), or it is words, and words are a no. There
is no yes before the last page was shown, and "always" is asked once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.cells import chop_cells

from variet.approval import Approval, Decision, Scope
from variet.visible import one_line, visible

BAR = "  | "
_KEYS: dict[str, str] = {
    "y": "once", "yes": "once", "s": "session", "session": "session", "a": "always", "always": "always",
    "n": "no", "no": "no", "m": "more", "more": "more", "e": "end", "end": "end",
}  # fmt: skip
_SPARE_ROWS = 6  # of a screen: what stands around a page


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a question, and its style for rich."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Show:
    """More of the question is printed; it is still open."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    choice: Literal["approve", "reject"]
    scope: Scope = "once"
    feedback: str | None = None


class Question:
    """Of one approval, on a screen of `columns` and `rows`. Print `head()`, then put `prompt` to the person and hand
    each line that they type to `answer`."""

    def __init__(self, approval: Approval, columns: int, rows: int) -> None:
        self.approval = approval
        self._width = max(20, columns - len(BAR) - 1)
        self._page = max(8, rows - _SPARE_ROWS)
        self._left = self._body()
        self._lines = len(self._left)
        self._confirms = False

    def head(self) -> tuple[Line, ...]:
        """What it is about, why it is asked, and the first page."""
        approval = self.approval
        lines = self._folded(f"? {one_line(approval.summary, 1_000)}", "bold yellow")
        lines += self._folded(f"  because {one_line(approval.reason, 1_000)}", "yellow")
        return (*lines, *self._next_page())

    @property
    def prompt(self) -> str:
        if self._confirms:
            return "Allow this in this folder for good, in later sessions too? [y]es, [n]o › "
        if self._left:
            shown = self._lines - len(self._left)
            return f"{shown} of {self._lines} lines: Enter shows [m]ore, [e]nd shows all, [n]o, or say what instead › "
        scopes = self.approval.scopes
        keys = [key for scope, key in (("session", "[s]ession"), ("always", "[a]lways here")) if scope in scopes]
        return ", ".join(["[y]es", *keys, "[n]o", "or say what instead › "])

    def answer(self, typed: str) -> Show | Decided:
        """What a line means that was typed under this question, and ended by Enter."""
        words = typed.strip()
        key = _KEYS.get(words.casefold(), "" if words else "more")
        if self._confirms:
            self._confirms = False
            if key == "once":
                return Decided("approve", "always")
            return Show(()) if key in ("no", "more") else self._answer(key, words)
        return self._answer(key, words)

    def _answer(self, key: str, words: str) -> Show | Decided:
        if key == "no":
            return Decided("reject")
        if key == "more" or (key == "end" and self._left):
            return Show(self._next_page(whole=key == "end"))
        if key not in self.approval.scopes:
            return Decided("reject", feedback=words)
        if self._left:
            return Show(
                (Line("there is no yes before the end was shown: Enter shows more, `end` shows all", "yellow"),)
            )
        if key == "always":
            self._confirms = True
            return Show(())
        return Decided("approve", "session" if key == "session" else "once")

    def _next_page(self, *, whole: bool = False) -> tuple[Line, ...]:
        most = len(self._left) if whole or len(self._left) <= self._page + 2 else self._page
        page, self._left = self._left[:most], self._left[most:]
        return tuple(page)

    def _body(self) -> list[Line]:
        """The whole of what would be done, folded behind a bar: no line is left to the terminal to fold."""
        text = visible(self.approval.preview).expandtabs(4).strip("\n")
        if text and one_line(self.approval.summary, 1_000).removeprefix("$ ") == text and len(text) <= self._width:
            return []  # the head says all of it
        patch = text.startswith("--- ")
        lines = []
        for line in text.split("\n") if text else []:
            style = ("green" if line.startswith("+") else "red" if line.startswith("-") else "dim") if patch else ""
            lines += [Line(f"{BAR}{piece}", style) for piece in chop_cells(line, self._width) or [""]]
        return lines

    def _folded(self, text: str, style: str) -> list[Line]:
        pieces = chop_cells(text, self._width)
        return [Line(piece if at == 0 else f"    {piece}", style) for at, piece in enumerate(pieces)]


def decision_of(approval: Approval, decided: Decided) -> Decision:
    """As the agent takes it."""
    return Decision(
        approval_id=approval.id, payload_sha256=approval.payload_sha256, choice=decided.choice, scope=decided.scope,
        feedback=decided.feedback, surface="terminal",
    )  # fmt: skip
