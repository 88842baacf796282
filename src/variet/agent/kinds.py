"""Kinds of sessions, as data: what an agent is told that it is, who answers, and what it is told of the day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from variet.agent.prompt import day, system
from variet.agent.prompt.preface import moment
from variet.agent.settings import Role

KindName = Literal["code", "ask", "assistant"]


@dataclass(frozen=True, slots=True)
class Kind:
    """`role`, `tier`: of the settings, and where these name none. `go_on`: the command that takes one up again.
    `coding`: it works on files; others are told `first`, with a conversation's first words, and `again`, with each
    later ones."""

    system: str
    role: Role
    tier: str
    go_on: str
    coding: bool = False
    first: Callable[[], str] = lambda: ""
    again: Callable[[], str] = lambda: ""


KINDS: dict[str, Kind] = {
    "code": Kind(system.CODING, "main", "balanced", "variet code --continue", coding=True),
    "ask": Kind(system.ASK, "ask", "fast", "variet ask --continue", first=moment),
    "assistant": Kind(
        system.ASSISTANT, "assistant", "balanced", "variet ask --assistant --continue", first=day.today, again=day.again
    ),
}
