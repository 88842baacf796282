"""How one kind of model is spoken to: how tools are offered, calls found, results told, answers replayed.

A session takes one format and keeps it: what was sent is never written differently later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from variet.agent.events import CallPart, MessageDone, ToolEnded
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace

Message = dict[str, Any]


@dataclass
class Draft:
    """An answer as it came: text, reasoning, and the calls that the server found ([name, arguments])."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str = ""

    def take(self, index: int, name: str, arguments: str) -> None:
        """A piece of the call at place `index`."""
        while len(self.calls) <= index:
            self.calls.append(["", ""])
        self.calls[index][0] += name
        self.calls[index][1] += arguments


@dataclass(frozen=True, slots=True)
class Understood:
    """`text`: for people, without the calls. `raw`: as written, where calls were found in the text.
    `nudge`: what to tell the model about what was wrong with it; empty where all is well."""

    text: str
    calls: tuple[CallPart, ...] = ()
    raw: str | None = None
    nudge: str = ""
    code: str = ""


class Holds(Protocol):
    """What keeps back, while an answer streams, what may be a call: people need not see it."""

    def feed(self, text: str) -> str: ...

    def end(self) -> tuple[str, Any]: ...


class Format(Protocol):
    name: str
    check_failed: str  # what to tell the model beside the output of a check that fails; {files}: which may be at fault
    unwritten: str  # and where it then only talks
    idle: str  # where it only says that it changed something, and no check tells
    # Of the smallest models: files are told with the first words where they are few; the check runs after each change,
    # its files are not to be changed; each failure makes answers more various.
    small: bool
    guided: bool  # whether what follows a failed check is asked step by step, held to a schema (guide.py)

    def system(self, prompt: str, tools: Toolbox) -> str:
        """The system message."""
        ...

    def request(self, tools: Toolbox) -> dict[str, Any]:
        """Fields of every request, beside model and messages."""
        ...

    def sieve(self, tools: Toolbox) -> Holds:
        """A fresh one for each answer."""
        ...

    def enough(self, text: str, *, checked: bool, guided: bool = False) -> int | None:
        """Where an answer may be cut while it streams, since what follows can only be guesses; None: nowhere yet.
        `checked`: whether a check follows each change; `guided`: whether it was begun for the model."""
        ...

    def understand(
        self, draft: Draft, tools: Toolbox, workspace: Workspace, new_id: Callable[[], str]
    ) -> Understood: ...

    def answer(self, message: MessageDone) -> Message:
        """An answer, as it is replayed."""
        ...

    def results(self, results: Sequence[tuple[CallPart, ToolEnded]]) -> list[Message]:
        """What its calls led to, in call order."""
        ...
