"""A person's standing answers, by folder, in Variet's state: a project cannot bring any, and none is kept in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from variet import paths
from variet.policy.action import Rule


class Kept(BaseModel):
    """A rule, and the folder whose sessions it speaks of (with those below)."""

    model_config = ConfigDict(frozen=True)

    folder: str
    tool: str
    pattern: str = ""
    answer: Literal["allow", "ask", "deny"] = "allow"
    exact: bool = False
    network: bool = True

    def __str__(self) -> str:
        return f"{self.answer} {self.tool}" + (f":{self.pattern}" if self.pattern else "")


_ALL = TypeAdapter(list[Kept])


def kept() -> list[Kept]:
    """All of them. A damaged file counts for none: what was allowed is then asked for again."""
    try:
        return _ALL.validate_json(_file().read_bytes())
    except (OSError, ValidationError):
        return []


def of(folder: Path) -> tuple[Rule, ...]:
    """Those for sessions of this folder."""
    here = {str(one) for one in (folder, *folder.parents)}
    return tuple(
        Rule(
            f"always-{number}",
            one.tool,
            one.pattern,
            one.answer,
            exact=one.exact,
            network=one.network,
        )
        for number, one in enumerate(kept(), 1)
        if one.folder in here
    )


def keep(*rules: Kept) -> None:
    """Add what is not there yet. Raises OSError."""
    known = kept()
    _write(known + [one for one in dict.fromkeys(rules) if one not in known])


def drop(number: int) -> Kept:
    """Remove one by its place in `kept()`, from 1. Raises IndexError where there is none."""
    known = kept()
    if not 1 <= number <= len(known):
        raise IndexError(number)
    dropped = known.pop(number - 1)
    _write(known)
    return dropped


def _write(rules: list[Kept]) -> None:
    paths.private_dir(paths.state_dir())
    paths.write_whole(_file(), json.dumps([one.model_dump() for one in rules], indent=1) + "\n", 0o600)


def _file() -> Path:
    return paths.state_dir() / "rules.json"
