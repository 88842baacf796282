"""Pure: which tier does a helper's work. A swap under the main conversation must be worth it, or there is none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from variet.agent.settings import Role

# A stronger model's thought, which a person asks for in their settings, is worth a swap; looking around never is.
_WORTH_A_SWAP: frozenset[Role] = frozenset({"plan", "review"})


@dataclass(frozen=True, slots=True)
class Choice:
    tier: str
    reason: str


def tier_for(role: Role, roles: Mapping[Role, str], main: str, beside: Mapping[str, Collection[str]]) -> Choice:
    """`main`: the tier of the conversation. `beside`: by tier, the tiers that can be loaded at the same time as it."""
    wanted = roles.get(role, main)
    if wanted == main:
        return Choice(main, "the conversation's own tier")
    if wanted in beside.get(main, ()):
        return Choice(wanted, f"it lives beside {main}")
    if role in _WORTH_A_SWAP:
        return Choice(wanted, f"{role} is worth a swap")
    return Choice("resident", f"{wanted} would take {main} off the GPU")
