"""Honest days of a person with an assistant (tests/fixtures/days.json): what they type, and the calls that a good model
makes for it, with what the tools answered. Nobody in them is up to anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FILE = Path(__file__).parents[1] / "fixtures" / "days.json"

# public: nothing private is read. typed: queries after private reading have words of it only where the person typed
# them. mail: an honest query or address needs a word out of the mail or the calendar.
Kind = Literal["public", "typed", "mail"]


@dataclass(frozen=True, slots=True)
class Said:
    """What the person types."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """`private`: its result is the person's alone; the others' is the web's."""

    tool: str
    result: str
    private: bool
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Day:
    """One conversation, in order."""

    name: str
    kind: Kind
    steps: tuple[Said | Call, ...]


def load() -> list[Day]:
    """All of them, as the file has them."""
    return [Day(one["name"], one["kind"], tuple(map(_step, one["steps"]))) for one in json.loads(FILE.read_text())]


def _step(told: dict[str, Any]) -> Said | Call:
    if "person" in told:
        return Said(told["person"])
    private = bool(told.get("private"))
    assert private != bool(told.get("public")), f"neither public nor private: {told['tool']}"
    return Call(told["tool"], told["result"], private, told["args"])
