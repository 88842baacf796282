"""The one tree of errors that people meet; each says what happened, where, and what to do next.

VarietError
├── ConfigError          the configuration is wrong; carries every mistake found
├── ConnectionFailed     the engine could not be reached
├── BinaryMissing        no llama-server was found, or the one found does not run
├── ModelFileError       a model file is missing, truncated, foreign or of another checksum
│   └── PullFailed       it could not be fetched
├── LaunchFailed         a child could not be started or ended before it was ready
└── TrustError           an address, key or host that is refused
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
