"""Pure: which instances must go so that a model fits, and whether it fits at all.

A demand maps a device (`gpu0`, `gpu1`, `host`) to MiB. The limit on resident models is a device too, of which each
tier model takes one: one rule then serves memory and count alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

Demand = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Tenant:
    """An instance as eviction sees it. `return_cost_ms`: what bringing it back would take."""

    instance_id: int
    demand: Demand
    movable: bool
    busy: bool
    return_cost_ms: float


def fits(demand: Demand, others: Iterable[Demand], capacity: Demand) -> bool:
    """True if `demand` and all `others` together stay within `capacity`; a device without capacity has none."""
    used = dict(demand)
    for other in others:
        for device, amount in other.items():
            used[device] = used.get(device, 0) + amount
    return all(amount <= capacity.get(device, 0) for device, amount in used.items())


def choose_victims(demand: Demand, tenants: Sequence[Tenant], capacity: Demand) -> tuple[int, ...] | None:
    """The cheapest set of movable tenants whose leaving makes `demand` fit, or None if none does.

    Idle ones before busy ones, then those that come back soonest; ties go to the older instance. Exhaustive: a
    machine holds a handful of models, so all subsets are few.
    """
    movable = [tenant for tenant in tenants if tenant.movable]
    best: tuple[tuple[int, float, tuple[int, ...]], tuple[int, ...]] | None = None
    for size in range(len(movable) + 1):
        for chosen in combinations(movable, size):
            leaving = {tenant.instance_id for tenant in chosen}
            staying = [tenant.demand for tenant in tenants if tenant.instance_id not in leaving]
            if not fits(demand, staying, capacity):
                continue
            ids = tuple(sorted(leaving))
            rank = (
                sum(tenant.busy for tenant in chosen),
                sum(tenant.return_cost_ms for tenant in chosen),
                ids,
            )
            if best is None or rank < best[0]:
                best = (rank, ids)
    return best[1] if best else None
