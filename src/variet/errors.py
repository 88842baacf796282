"""The one tree of errors that people meet; each says what happened, where, and what to do next.

VarietError
├── ConfigError          the configuration is wrong; carries every mistake found
├── ConnectionFailed     the engine could not be reached
├── BinaryMissing        no llama-server was found, or the one found does not run
├── ModelFileError       a model file is missing, truncated, foreign or of another checksum
│   └── PullFailed       it could not be fetched
├── LaunchFailed         a child could not be started or ended before it was ready
├── TrustError           an address, key or host that is refused
├── AnswerFailed         a model was asked and there is no answer; carries the status and code it came with
│   ├── StreamBroken     the answer broke off; asking again may help
│   └── ContextFull      what was asked is longer than the model's context
├── CheckFailed          a person's check cannot be run
├── ToolFailed           a tool could not do what a model asked; the words are for the model
├── ToolProblem          the same of the assistant's tools, with a code (assistant/problems.py)
├── RunsAlready          another broker or host of this person (rendezvous.py)
├── CheckpointFailed     how things stood could not be kept or put back
├── ConversationBusy     a turn is under way, and what was asked must not happen beside it
└── SessionError         a session's log is not there, is held by somebody else, or cannot be written
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class VarietError(Exception):
    """What happened, where (file, JSON path, tier) and what to do next."""

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.next_step = next_step
        super().__init__(self.__str__())

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.next_step}" if self.next_step else text


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a configuration: `path` is a JSON path such as `$.models.qwen.slots`."""

    path: str
    what: str
    way_out: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" + (f"; {self.way_out}" if self.way_out else "")


class ConfigError(VarietError):
    """Every mistake found in one configuration file, all at once."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        lines = "\n".join(f"  {mistake}" for mistake in self.mistakes)
        super().__init__(f"{count} in the configuration\n{lines}", where=file)


class ConnectionFailed(VarietError):
    """The engine did not answer at its address."""


class BinaryMissing(VarietError):
    """There is no usable llama-server."""


class ModelFileError(VarietError):
    """A model file cannot be used."""


class PullFailed(ModelFileError):
    """A model file could not be fetched."""


class LaunchFailed(VarietError):
    """A child process did not become ready."""


class TrustError(VarietError):
    """An address, a key or a host that this engine refuses."""


class AnswerFailed(VarietError):
    """A model gave no answer. `status`: of HTTP, 0 without one; `code`: stable, for programs."""

    def __init__(self, what: str, *, status: int = 0, code: str = "", where: str = "", next_step: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(what, where=where, next_step=next_step)

    @property
    def refuses_request(self) -> bool:
        """Whether the server may not know one of its fields, or its template refuse the messages."""
        return self.status in (400, 404, 422, 500, 501)


class CheckFailed(VarietError):
    """A person's check cannot be run."""

    code = "check"


class StreamBroken(AnswerFailed):
    """An answer that broke off, or an engine that went away."""


class ContextFull(AnswerFailed):
    """More was asked than fits into the model's context."""

    @property
    def refuses_request(self) -> bool:
        return False


class ToolFailed(VarietError):
    """A tool could not do it; nothing is half done."""


class CheckpointFailed(VarietError):
    """No undo; whatever was asked for it says what happens instead."""


class ConversationBusy(VarietError):
    """Not beside a turn that is under way."""


class SessionError(VarietError):
    """A session cannot be used."""
