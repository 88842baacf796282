"""The five tier names both machines share; nothing about what runs behind them."""

from __future__ import annotations

from typing import Final, Literal, get_args

Tier = Literal["fast", "balanced", "deep-coder", "deep-logic", "ultra"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
