"""What a client's files are to hold, so that it talks to this engine: data alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from variet.connect.documents import Place

Values = dict[Place, Any]
Kind = Literal["json", "toml", "yaml", "env", "whole"]


@dataclass(frozen=True, slots=True)
class Entries:
    """Tables that are to be in a list beside others'; `names`: the keys by which two are the same."""

    names: tuple[str, ...]
    tables: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that a person may change in the client's own menu to another of ours: it stays then, and goes with us."""

    value: str
    among: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """`values` by their place in the document, `first` those of a file that was not there before; of kind `whole` the
    one value is the whole text, of a file that is ours alone. `secret`: for its owner's eyes only."""

    path: Path
    kind: Kind
    values: Values = field(default_factory=dict)
    secret: bool = False
    first: Values = field(default_factory=dict)


def whole(path: Path, text: str) -> File:
    return File(path, "whole", {(): text})
