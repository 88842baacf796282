"""Which tier does a helper's work."""

from __future__ import annotations

import pytest

from variet.agent.routing import tier_for
from variet.agent.settings import Role


@pytest.mark.parametrize(
    ("role", "roles", "beside", "tier"),
    [
        ("explore", {}, {}, "balanced"),
        ("explore", {"explore": "balanced"}, {}, "balanced"),
        ("explore", {"explore": "fast"}, {"balanced": ["fast"]}, "fast"),
        ("explore", {"explore": "fast"}, {"balanced": ["deep-logic"]}, "resident"),
        ("explore", {"explore": "fast"}, {}, "resident"),
        ("review", {"review": "deep-logic"}, {}, "deep-logic"),
        ("plan", {"plan": "ultra"}, {"balanced": []}, "ultra"),
        ("plan", {"review": "ultra"}, {}, "balanced"),
    ],
)
def test_a_helper_never_swaps_but_where_it_is_worth_it(
    role: Role, roles: dict[Role, str], beside: dict[str, list[str]], tier: str
) -> None:
    choice = tier_for(role, roles, "balanced", beside)
    assert choice.tier == tier and choice.reason
