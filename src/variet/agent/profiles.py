"""How a model is spoken to, as data: which format, which fields of its requests. Chosen when a session starts, frozen
with it: by what a person set, by the model's size, by what it did when it was tried (probe.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from variet.agent import abilities
from variet.agent.abilities import Abilities
from variet.agent.formats.base import Format
from variet.agent.formats.blocks import Blocks
from variet.agent.formats.native import Native
from variet.agent.model import ModelFacts
from variet.agent.probe import PRESERVED, SWITCHED_OFF
from variet.errors import SessionError

# Models up to about two billion call tools in good form and with invented arguments; whole files in fences suit them.
# The bench `exercises` has both beside each other for 1.5 billion (docs/benchmarks.md); larger ones nobody tried.
SMALL_PARAMETERS = 2_100_000_000


@dataclass(frozen=True, slots=True)
class Profile:
    """`fields`: of every request, beside those of the format. `evidence`: what it rests on."""

    name: str
    form: Callable[[], Format]
    fields: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""


PROFILES = {
    one.name: one
    for one in (
        Profile(
            "native", Native,
            evidence="The template has no place for earlier reasoning: only the last answer is read again.",
        ),
        Profile(
            "replayed", partial(Native, replay_reasoning=True),
            evidence="The template shows earlier reasoning, for good or within a turn of the person: what was read of "
            "that turn stays as it was.",
        ),
        Profile(
            "preserved", partial(Native, replay_reasoning=True),
            PRESERVED,
            "The template drops earlier reasoning at each turn of the person, unless it is told to preserve it.",
        ),
        Profile(
            "unthinking", Native, SWITCHED_OFF,
            "The template drops earlier reasoning whatever it is told, so that the last turn would be read again; "
            "without any, nothing is. A tier with \"reasoning\": true keeps it.",
        ),
        Profile(
            "blocks", Blocks, {"temperature": 0.2, **SWITCHED_OFF},
            "Models up to 2 billion parameters: exercises, and three repositories mended (docs/decisions/022).",
        ),
        Profile(
            "open-blocks", partial(Blocks, guided=False), {"temperature": 0.2, **SWITCHED_OFF},
            "As blocks, behind a server that holds no answer to a schema, or goes on with none that was begun.",
        ),
    )
}  # fmt: skip

_BY_REASONING = {
    "kept": "replayed", "dropped": "replayed", "preserved": "preserved", "switched_off": "unthinking",
    "ignored": "native",
}  # fmt: skip


def suited(facts: ModelFacts, known: Abilities | None, *, coding: bool) -> str:
    """The profile for a model. `coding`: tools are to be called, which not all models can."""
    if coding and (small(facts) or (known is not None and known.calls is False)):
        lacks = known is not None and False in (known.schema_held, known.goes_on)
        return "open-blocks" if lacks else "blocks"
    return _BY_REASONING[known.reasoning] if known is not None else "native"


def small(facts: ModelFacts) -> bool:
    return 0 < facts.parameters <= SMALL_PARAMETERS


def chosen(facts: ModelFacts, wanted: Mapping[str, str], *, coding: bool) -> tuple[Profile, bool]:
    """(the profile for a model, whether it was never tried what would suit it). `wanted`: what a person set, by tier or
    model. Raises SessionError."""
    named = wanted.get(facts.name) or wanted.get(facts.model)
    if named:
        return profile(named), False
    found = abilities.known(facts, coding=coding)
    return profile(suited(facts, found, coding=coding)), found is None and facts.settled


def profile(name: str) -> Profile:
    """Raises SessionError for a name that is none."""
    if name not in PROFILES:
        raise SessionError(f"there is no profile {name!r}", next_step=f"There are: {', '.join(PROFILES)}")
    return PROFILES[name]
