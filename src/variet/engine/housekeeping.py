"""What the engine does by itself between requests: it keeps conversations of models that rest, and reads ahead the
model that comes next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import psutil

from variet.engine.config import EngineConfig
from variet.engine.contexts import Contexts
from variet.engine.fleet import KEEP_PATIENCE_S, Fleet
from variet.engine.habits import Habits, likely
from variet.engine.prefetch import Prefetch, Prefetcher, major_faults
from variet.engine.scheduler import Phase

log = logging.getLogger("variet.engine.housekeeping")
_LOOK_S = 0.25
_HABIT_LOOK_S = 60.0
_AFTER_A_FAULT_S = 60.0
_HINT_S = 600.0  # so long a hint counts that something was in the way of
_MARGIN_BYTES = 1 << 30  # of memory that is left alone
FilesOf = Callable[[str], Sequence[Path]]


class Housekeeping:
    """One an engine. `files_of`: the files of a model, none of one that need not be read ahead."""

    def __init__(
        self,
        fleet: Fleet,
        contexts: Contexts,
        habits: Habits,
        files_of: FilesOf,
        on_prefetch: Callable[[Prefetch], None] = lambda _: None,
    ) -> None:
        self.prefetcher = Prefetcher(self._spare_bytes, self._faults, on_prefetch)
        self._fleet, self._contexts, self._habits, self._files_of = fleet, contexts, habits, files_of
        self._kept: dict[int, float] = {}  # instance -> since when it rested as its conversations were kept
        self._habit_looked_at = -_HABIT_LOOK_S
        self._hinted: tuple[str, float] | None = None  # (model, until when that counts)

    async def run(self, config: Callable[[], EngineConfig]) -> None:
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                try:
                    self.look_ahead(config().scheduling.prefetch)
                    await self._keep_resting(config().context.idle_save_s)
                except Exception:  # nobody waits for this task: it must not end unseen, nor for good
                    log.exception("while keeping house")
                    await asyncio.sleep(_AFTER_A_FAULT_S)
        finally:
            await self.prefetcher.stop()

    def hint(self, model: str) -> bool:
        """Somebody says that this model comes next; whether there is anything to do about it."""
        if self._is_live(model):
            return False
        self._hinted = (model, time.monotonic() + _HINT_S)  # a load may be in the way for now
        self.prefetcher.want(model, self._files_of(model), "hint")
        return True

    def came(self, model: str) -> None:
        """A model was waited for, came, and answered."""
        self._habits.came(model, datetime.now())

    def look_ahead(self, wished: bool) -> None:
        """Have read what comes next, if anything does and nothing is in the way."""
        state, prefetcher = self._fleet.scheduler, self.prefetcher
        loading = any(one.phase is Phase.STARTING for one in state.instances.values())
        if loading or state.pulling or state.shutting_down:
            prefetcher.give_up("the disk is needed")
            return
        if not wished:
            return
        wanted = state.wanted()
        hinted = self._hint()
        if wanted:
            prefetcher.want(wanted[0], self._files_of(wanted[0]), "waited for")
        elif hinted is not None:
            prefetcher.want(hinted, self._files_of(hinted), "hint")
        elif not state.leases and time.monotonic() - self._habit_looked_at >= _HABIT_LOOK_S:
            self._habit_looked_at = time.monotonic()
            live = [one.model for one in state.instances.values() if one.live]
            model = likely(self._habits.comings, datetime.now(), live)
            if model is not None and model in state.terms.models:
                prefetcher.want(model, self._files_of(model), "habit")

    def _hint(self) -> str | None:
        """The model of the last hint, as long as that counts."""
        if self._hinted is not None and (time.monotonic() > self._hinted[1] or self._is_live(self._hinted[0])):
            self._hinted = None
        return self._hinted[0] if self._hinted else None

    async def _keep_resting(self, patience_s: float | None) -> None:
        """Keep conversations of models that had nothing to do for so long, once for each such while."""
        instances = list(self._fleet.scheduler.instances.values())
        self._kept = {one.instance_id: at for one in instances if (at := self._kept.get(one.instance_id)) is not None}
        if patience_s is None:
            return
        for one in instances:
            rested_ms = time.monotonic() * 1000 - one.last_end_ms
            rests = one.phase is Phase.READY and not one.leases and rested_ms >= patience_s * 1000
            if rests and self._kept.get(one.instance_id) != one.last_end_ms:
                self._kept[one.instance_id] = one.last_end_ms
                await self._contexts.keep(one.instance_id, KEEP_PATIENCE_S, resting=True)

    def _is_live(self, model: str) -> bool:
        return any(one.model == model and one.live for one in self._fleet.scheduler.instances.values())

    def _spare_bytes(self) -> int:
        """Memory that files may fill: what is available, less what running models have mapped of theirs, which the
        system would count as available, too."""
        mapped = sum(one.demand.get("host", 0) for one in self._fleet.scheduler.instances.values()) << 20
        available: int = psutil.virtual_memory().available
        return available - mapped - _MARGIN_BYTES

    def _faults(self) -> int:
        running = self._fleet.running.values()
        return major_faults([one.child.pid for one in running if one.child is not None and one.child.pid is not None])
