"""Pure: a request's `model` -> tier and model. Tiers, models, aliases (a trailing * matches any ending), `resident`,
`auto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from variet.engine.apis import SideKind
from variet.engine.config import EngineConfig
from variet.tiers import TIERS, Tier

RESIDENT = "resident"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for; a model asked for by its own name has no tier, and then no tier's defaults.

    `anywhere`: whatever is loaded when the request's turn comes; `model` and `tier` are then for an empty machine.
    `auto`: the engine chooses a tier by what is asked; where nothing is said that could tell, it is `anywhere`, too.
    """

    model: str
    tier: Tier | None
    anywhere: bool = False
    auto: bool = False


class UnknownName(Exception):
    """No tier, model or alias of that name; `known` are those there are."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(name)


class Names:
    """The names of one configuration."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._exact = {name: target for name, target in config.aliases.items() if not name.endswith("*")}
        wild = [(name[:-1], target) for name, target in config.aliases.items() if name.endswith("*")]
        self._wild = sorted(wild, key=lambda pair: len(pair[0]), reverse=True)

    def resolve(self, name: str | None, side_kind: SideKind | None = None) -> Target:
        """Without a name, whatever is loaded answers. Raises UnknownName."""
        if name is None and side_kind is not None:
            side = next((model for model, spec in self._config.side_models.items() if spec.kind == side_kind), None)
            if side is not None:
                return Target(side, None)
        name = self._dealias(name) if name is not None else RESIDENT
        for tier in TIERS:
            if name == tier:
                return Target(self._config.tiers[tier].model, tier)
        if name in self._config.models or name in self._config.side_models:
            return Target(name, None)
        if name in (RESIDENT, AUTO):
            return replace(self.default(), anywhere=True, auto=name == AUTO)
        raise UnknownName(name, self.all())

    def default(self) -> Target:
        """What answers where nothing is loaded and nothing was asked for: the first preloaded, else `fast`."""
        tiers = [name for name in self._config.scheduling.preload if name != RESIDENT]
        found = [target for target in map(self.resolve, tiers) if target.model in self._config.models]
        return found[0] if found else self.resolve("fast")

    def tier_of(self, model: str) -> Tier | None:
        """The first tier that names this model."""
        return next((tier for tier in TIERS if self._config.tiers[tier].model == model), None)

    def all(self) -> list[str]:
        return [*TIERS, *self._config.all_models(), *self._config.aliases, RESIDENT, AUTO]

    def _dealias(self, name: str) -> str:
        if name in self._exact:
            return self._exact[name]
        if name in TIERS or name in self._config.models or name in self._config.side_models or name in (RESIDENT, AUTO):
            return name
        return next((target for prefix, target in self._wild if name.startswith(prefix)), name)
