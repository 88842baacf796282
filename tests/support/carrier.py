"""A carrier that does nothing outside: it writes down what it did, and breaks off where it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from variet.assistant.broker.carriers import Outcome, Prepared, Uncertain
from variet.assistant.problems import ToolProblem


@dataclass
class Diary:
    """`breaks`: `before` it did it (and knows), `lost` before or `kept` after it did it (and does not know), `bug`."""

    done: list[bytes] = field(default_factory=list)
    breaks: str = ""
    looks: int = 0

    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        if "text" not in asked:
            raise ToolProblem("bad_request", "nothing to write")
        payload = json.dumps(asked, sort_keys=True).encode()
        return Prepared(payload, f"Write {asked['text']}", f"text: {asked['text']}", ("diary",), "me@example.org")

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        note({"begun": True})
        if self.breaks == "before":
            raise ToolProblem("unavailable", "no ink")
        if self.breaks == "bug":
            raise KeyError("a mistake of ours")
        if self.breaks != "lost":
            self.done.append(payload)
        if self.breaks in ("lost", "kept"):
            raise Uncertain("the line broke")
        return "written"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        self.looks += 1
        if self.breaks == "blind":
            raise OSError("cannot look")
        if payload in self.done:
            return Outcome("done", "it is written")
        return Outcome("failed", "it was not written") if notes.get("begun") else Outcome("unknown", "?")
