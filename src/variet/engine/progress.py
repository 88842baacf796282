"""Pure: where a request stands, for whoever waits for it: in a queue, behind a load, being read, being answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from variet.engine.record import Record
from variet.engine.scheduler import Phase, Scheduler

Stage = Literal["queue", "pull", "load", "restore", "prefill", "answer"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`percent` where it is known; `position` in the queue, 1 is next; `left_ms`: what is expected until the stage's
    end; `reason`: why it waits, in words."""

    stage: Stage
    percent: float | None = None
    position: int | None = None
    left_ms: int | None = None
    reason: str | None = None

    def facts(self) -> dict[str, Any]:
        """What is known of it, for programs."""
        known = {name: getattr(self, name) for name in ("percent", "position", "left_ms", "reason")}
        return {"stage": self.stage, **{name: value for name, value in known.items() if value is not None}}


def progress_of(
    record: Record,
    scheduler: Scheduler,
    shares: Mapping[str, float],
    places: Mapping[int, int],
    now_s: float,
    read_ms_per_token: float | None = None,
) -> Progress:
    """`shares`: what is done of each model that is being fetched or loaded; `places`: of waiting requests in the queue;
    `now_s`: by the record's clock."""
    waiter = scheduler.waiters.get(record.request_id)
    if waiter is None:
        return _at_work(record, now_s, read_ms_per_token)
    model = waiter.ask.model
    if model in scheduler.pulling:
        return Progress("pull", percent=_percent(shares.get(model)), reason=f"{model} is being fetched")
    position = places.get(record.request_id)
    live = [one for one in scheduler.instances.values() if one.model == model and one.live]
    if any(one.phase is Phase.STARTING for one in live):
        share, whole_ms = shares.get(model, 0.0), scheduler.load_ms.get(model)
        left = None if whole_ms is None else round(whole_ms * (1 - share))
        return Progress("load", percent=_percent(share), position=position, left_ms=left)
    return Progress("queue", position=position, reason=_why(scheduler, model, loaded=bool(live)))


def _at_work(record: Record, now_s: float, read_ms_per_token: float | None) -> Progress:
    if record.stage != "prefill" or not record.prompt_tokens:
        return Progress(record.stage)
    to_read = record.prompt_tokens - record.cached_tokens
    done = record.read_tokens - record.cached_tokens
    left = None
    if read_ms_per_token is not None:
        left = max(0, round(read_ms_per_token * (to_read - done) - (now_s - record.told_at) * 1000))
    return Progress("prefill", percent=_percent(done / to_read if to_read > 0 else 1.0), left_ms=left)


def _why(scheduler: Scheduler, model: str, *, loaded: bool) -> str:
    if loaded:
        return f"every slot of {model} is taken"
    going = [one.model for one in scheduler.instances.values() if not one.live]
    if going:
        return f"{', '.join(going)} is leaving"
    answering = [f"{one.model} answers {len(one.leases)}" for one in scheduler.instances.values() if one.leases]
    return "; ".join(answering) or "room is being made"


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * min(1.0, max(0.0, share)), 1)
