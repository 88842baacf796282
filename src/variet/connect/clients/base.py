"""What each client says of itself: which files it reads, and how it is run without a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from variet.connect.catalogue import Catalogue
from variet.connect.wishes import File

MAIN, BACKGROUND = "balanced", "resident"
KEY = "VARIET_ENGINE_KEY"  # how clients that take a key by a name are told it
PATIENCE_MS = 1_800_000  # a tier that is loaded from a slow disk, behind others in the queue


@dataclass(frozen=True, slots=True)
class Where:
    """`home`: of the user; `project`: a folder, None for all of them; `ours`: Variet's own folder for what clients are
    pointed at; `env`: of the process."""

    home: Path
    project: Path | None
    ours: Path
    env: Mapping[str, str]
    windows: bool = False

    def xdg_config(self) -> Path:
        return Path(self.env["XDG_CONFIG_HOME"]) if self.env.get("XDG_CONFIG_HOME") else self.home / ".config"

    def named(self, variable: str, otherwise: Path) -> Path:
        """A folder that a variable of the client's may name."""
        return Path(self.env[variable]).expanduser() if self.env.get(variable) else otherwise


@dataclass(frozen=True, slots=True)
class Headless:
    """How a client is run without a person: `words` follow its program's name."""

    words: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Client(Protocol):
    name: str
    title: str
    program: str  # as it is called on the search path
    only_user: str  # why it cannot be connected in one project alone; empty where it can

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        """What they are to hold."""
        ...

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        """What its files cannot say, and its process must be started with."""
        ...

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        """What its user should know, or do."""
        ...

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        """So that it does `prompt`, which is about `file`, in the current folder and asks nobody: it may edit there,
        and with `commands` it may run some. None where it always wants a person."""
        ...


def node_trusts(engine: Catalogue) -> dict[str, str]:
    """Programs on Node.js read it when they start; the system's authorities stay trusted."""
    return {"NODE_EXTRA_CA_CERTS": str(engine.authority)} if engine.authority is not None else {}


def key_file(engine: Catalogue, where: Where) -> File:
    """Of the key alone, for clients that can be pointed at it: no file of theirs holds it then."""
    return File(where.ours / "engine.key", "whole", {(): f"{engine.token}\n"}, secret=True)
