"""How well a model's conversations come back: how quick it is, and whether its restores hold. Outlives the engine.

Kept by validity (snapshots.py): another file, build or flag is another model here, and is tried anew.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from variet import paths
from variet.engine.worth import Speeds

log = logging.getLogger("variet.engine.fitness")
_TRIES = 2  # restores in a row that did not hold, after which a model is left alone
_MOST = 100  # validities that are remembered, the last used ones


@dataclass(slots=True)
class Fitness:
    """Of one model in one validity. `missed`: restores in a row that did not hold; `seen_at`: Unix seconds."""

    model: str
    speeds: Speeds = field(default_factory=Speeds)
    bytes_per_token: float = 4.0  # of what clients write
    held: int = 0
    missed: int = 0
    seen_at: float = 0.0
    checkpoints: bool | None = None  # whether this build saves them with a state; None: not seen yet
    needs_checkpoints: bool = False
    unrewound: int = 0  # rewinds in a row that took too long or failed

    @property
    def unfit(self) -> bool:
        """Whether keeping its conversations is of no use."""
        blind = self.needs_checkpoints and self.checkpoints is False
        return (self.missed >= _TRIES and not self.held) or blind or self.unrewound >= _TRIES


class FitnessBook:
    """All of them, in one small file; reading and writing it never raise, since nothing depends on them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all: dict[str, Fitness] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._all = {key: Fitness(**{**one, "speeds": Speeds(**one["speeds"])}) for key, one in stored.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            log.warning("%s cannot be read and is begun anew: %s", path, error)

    def of(self, key: str, model: str) -> Fitness:
        return self._all.setdefault(key, Fitness(model))

    def latest(self, model: str) -> str | None:
        """The validity in which a model ran last."""
        known = [(one.seen_at, key) for key, one in self._all.items() if one.model == model and one.seen_at]
        return max(known)[1] if known else None

    def unfit(self) -> list[str]:
        """Models of which nothing is kept, since it did not help."""
        return sorted({one.model for one in self._all.values() if one.unfit})

    def forgive(self, model: str | None) -> None:
        """Let a model, or all of them, try again."""
        for one in self._all.values():
            if model in (None, one.model):
                one.missed, one.unrewound, one.checkpoints = 0, 0, None
        self.save()

    def save(self) -> None:
        newest = sorted(self._all.items(), key=lambda pair: -pair[1].seen_at)[:_MOST]
        try:
            paths.write_whole(self._path, json.dumps({key: asdict(one) for key, one in newest}))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def seen(self, key: str, model: str) -> Fitness:
        """As `of`, for one that is in use now."""
        one = self.of(key, model)
        one.seen_at = time.time()
        return one
