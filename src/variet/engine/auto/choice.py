"""Pure: which tier answers, by what each would cost in seconds.

A tier that lacks what the rules ask for costs what that is worth; one that has to be loaded costs the load, and the way
back of whatever goes for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from variet.engine.auto.rules import HEIGHT, Need
from variet.tiers import Tier

_SIDEWAYS = 1 / 3  # of what a tier is worth is lost with its neighbour of the same height
_MOST_CHARACTERS = 400
_NOT_IN_A_HEADER = re.compile(r"[^ -~]+")
_DOUBT_S = 1e6
_MATTERS_S = 1.0  # a smaller difference is noise: the tier that was asked for answers


@dataclass(frozen=True, slots=True)
class Option:
    """What one tier would take, in seconds. `load_s` 0: it is loaded; `back_s`: loading what would have to go for it;
    `problem`: why it cannot answer this; `doubt`: why it probably cannot, in which case it is asked before one that
    certainly cannot."""

    tier: Tier
    model: str
    load_s: float = 0.0
    back_s: float = 0.0
    read_s: float = 0.0
    write_s: float = 0.0
    problem: str = ""
    doubt: str = ""

    @property
    def objection(self) -> str:
        return self.problem or self.doubt


@dataclass(frozen=True, slots=True)
class Weighed:
    """An option with what it lacks; `total_s` is infinite for one that cannot answer."""

    option: Option
    lack_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The tier that answers, why, and all that was weighed."""

    tier: Tier
    model: str
    need: Need
    reason: str
    weighed: tuple[Weighed, ...]


def choose(need: Need, options: Sequence[Option], worth_s: Mapping[Tier, float]) -> Choice:
    """The cheapest option; where that is the needed tier within a second, the needed one.

    `worth_s`: how long a person would wait for a tier when the rules ask for it.
    """
    weighed = tuple(_weigh(one, need.tier, worth_s) for one in options)
    wanted = next(one for one in weighed if one.option.tier == need.tier)

    def rank(one: Weighed) -> tuple[float, int, int]:
        height = HEIGHT[one.option.tier]
        return one.total_s, abs(height - HEIGHT[need.tier]), height

    best = min(weighed, key=rank)
    if wanted.total_s <= best.total_s + _MATTERS_S:
        best = wanted
    reason = _NOT_IN_A_HEADER.sub(" ", _reason(need, wanted, best))[:_MOST_CHARACTERS]
    return Choice(best.option.tier, best.option.model, need, reason, weighed)


def _weigh(one: Option, needed: Tier, worth_s: Mapping[Tier, float]) -> Weighed:
    lack = _lack_s(one.tier, needed, worth_s)
    took = one.load_s + one.back_s + one.read_s + one.write_s + lack
    return Weighed(one, lack, math.inf if one.problem else took + (_DOUBT_S if one.doubt else 0.0))


def _lack_s(tier: Tier, needed: Tier, worth_s: Mapping[Tier, float]) -> float:
    if tier == needed or HEIGHT[tier] > HEIGHT[needed]:
        return 0.0
    if HEIGHT[tier] == HEIGHT[needed]:
        return worth_s.get(needed, 0.0) * _SIDEWAYS
    return max(0.0, worth_s.get(needed, 0.0) - worth_s.get(tier, 0.0))


def _reason(need: Need, wanted: Weighed, best: Weighed) -> str:
    """In a sentence, ASCII, without a word of what was asked."""
    asks = need.explained()
    if best is wanted:
        how = "it is loaded" if not best.option.load_s else f"loading it takes {best.option.load_s:.0f} s"
        return f"{asks}; {how}" if not best.option.objection else f"{asks}; {best.option.objection}"
    if wanted.option.objection:
        return f"{asks}; {wanted.option.objection}; {best.option.tier} answers"
    loaded = ", which is loaded," if not best.option.load_s else ""
    if HEIGHT[best.option.tier] > HEIGHT[need.tier]:
        saved = wanted.total_s - best.total_s
        return f"{asks}; {best.option.tier}{loaded} is {saved:.0f} s quicker"
    price = wanted.option.load_s + wanted.option.back_s
    return f"{asks}; bringing it costs {price:.0f} s, more than it is worth over {best.option.tier}{loaded.rstrip(',')}"
