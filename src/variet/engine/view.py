"""What people and programs get to see of a running engine: its state now, and where each request stands. Reads only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from variet.engine import events
from variet.engine.progress import progress_of
from variet.engine.record import Record
from variet.engine.scheduler import Instance, Phase
from variet.engine.swaps import Swap
from variet.tiers import TIERS

if TYPE_CHECKING:
    from variet.engine.engine import Engine

_LATEST = 20  # swaps and journal lines in a status


class View:
    """Of one engine. Times in milliseconds; `..._at` is Unix seconds; memory in MiB."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # From the loop's clock to the wall's: differences between two looks at it stay exact.
        self._clock_offset_s = time.time() - time.monotonic()

    def state_of(self, model: str) -> str:
        state = self._engine.fleet.scheduler
        live = next((one for one in state.instances.values() if one.model == model), None)
        if live is not None:
            return live.phase.value if live.gate_since_ms is None else "draining"
        if model in state.pulling:
            return "pulling"
        if model in state.missing:
            return "missing"
        return "failed" if self.problem_of(model) else "unloaded"

    def problem_of(self, model: str) -> str | None:
        """Why a model cannot answer now, in a sentence."""
        state = self._engine.fleet.scheduler
        ready = any(one.model == model and one.phase is Phase.READY for one in state.instances.values())
        if ready or model in state.pulling:
            return None
        trouble = state.trouble.get(model)
        failed = trouble.detail if trouble and trouble.failures else None
        return state.missing.get(model) or failed or self._engine.plan.models[model].problem

    def status(self) -> dict[str, Any]:
        """Everything `variet status` shows. It differs from the last one only where something changed."""
        engine = self._engine
        state, server, config = engine.fleet.scheduler, engine.servers[None], engine.config
        return {
            "started_at": engine.started_at,
            "configuration": str(engine.config_path),
            "llama_server": {"path": server.path, "version": server.version, "origin": server.origin},
            "tiers": {
                tier: {
                    "model": config.tiers[tier].model,
                    "state": self.state_of(config.tiers[tier].model),
                    "description": config.tiers[tier].description,
                    "context_length": config.models[config.tiers[tier].model].context_tokens,
                    "problem": self.problem_of(config.tiers[tier].model),
                    "expected_tokens_per_s": config.tiers[tier].expected_tokens_per_s,
                    "prefill_tokens_per_s": self._prefill(config.tiers[tier].model),
                }
                for tier in TIERS
            },
            "instances": [self._instance(one) for one in state.instances.values()],
            "commands": [
                {"kind": one.kind, "model": one.model, "since_at": self._wall(one.since_ms)} for one in state.commands
            ],
            "pulls": {
                name: {
                    "file": pull.file,
                    "bytes": pull.so_far,
                    "total": pull.total,
                    "problem": pull.problem,
                    "done": pull.done,
                }
                for name, pull in engine.puller.pulls.items()
            },
            "prefetch": self._prefetch(),
            "capacity_mib": events.without_count(engine.plan.capacity_mib),
            "load_ms": {name: round(ms) for name, ms in state.load_ms.items()},
            "swaps": [swap_row(one) for one in list(engine.fleet.swaps.recent)[-_LATEST:]],
            "requests": {
                "active": self._active(),
                "waiting": len(state.waiters),
                "done": engine.requests_done,
            },
            "journal": [
                {"at": m.at, "kind": m.kind, "model": m.model, "ms": m.ms, "detail": m.detail}
                for m in list(engine.fleet.journal)[-_LATEST:]
            ],
        }

    def _prefill(self, model: str) -> float | None:
        """As it was measured when the model ran last, to three digits."""
        measured = self._engine.contexts.measured(model)[0].prefill_tokens_per_s
        return float(f"{measured:.3g}") if measured else None

    def _prefetch(self) -> dict[str, Any] | None:
        one = self._engine.housekeeping.prefetcher.current
        return None if one is None else {"model": one.model, "why": one.why, "bytes": one.read, "total": one.to_read}

    def _instance(self, one: Instance) -> dict[str, Any]:
        running = self._engine.fleet.running.get(one.instance_id)
        idle = not one.leases and one.last_end_ms >= 0
        return {
            "id": one.instance_id,
            "model": one.model,
            "phase": self.state_of(one.model),
            "slots": len(one.slots),
            "leases": len(one.leases),
            "memory_mib": events.without_count(one.demand),
            "stage": running.progress[0] if running else None,
            "progress": running.progress[1] if running else None,
            "pid": running.child.pid if running and running.child else None,
            "idle_since_at": self._wall(one.last_end_ms) if idle else None,
        }

    # --- requests ---

    def requests(self) -> dict[str, Any]:
        """Those under way, oldest first, and the latest that are over, newest first."""
        engine = self._engine
        return {
            "active": self._active(),
            "recent": [self.request(one) for one in reversed(engine.recent)],
        }

    def find(self, name: str) -> Record | None:
        """A request by its name or number: the youngest under way, else the latest that is over."""
        engine = self._engine
        for one in (*reversed(engine.relay.active.values()), *reversed(engine.recent)):
            if name in (one.name, str(one.request_id)):
                return one
        return None

    def _active(self) -> list[dict[str, Any]]:
        engine = self._engine
        places = engine.fleet.scheduler.places()
        return [self.request(one, places) for one in engine.relay.active.values()]

    def request(self, record: Record, places: Mapping[int, int] | None = None) -> dict[str, Any]:
        """One request: what it is, where it stands, what it took. `places`: in the queue, where they are known."""
        running = record.outcome == "running"
        return {
            "id": record.name,
            "number": record.request_id,
            "path": record.path,
            "tier": record.tier,
            "model": record.model,
            "reason": record.reason or None,
            "stream": record.stream,
            "began_at": round(record.began_at, 3),
            "outcome": record.outcome,
            "progress": self._progress(record, places) if running else None,
            "queue_ms": round(record.queue_ms, 1),
            "swap_ms": round(record.swap_ms, 1),
            "restore_ms": round(record.restore_ms, 1),
            "restored_tokens": record.restored_tokens,
            "prompt_tokens": record.prompt_tokens,
            "cached_tokens": record.cached_tokens,
            "output_tokens": record.output_tokens or record.pieces,
            "first_byte_ms": None if record.first_byte_ms is None else round(record.first_byte_ms, 1),
            "tokens_per_s": record.tokens_per_s,
            "total_ms": None if running else round(record.total_ms, 1),
        }

    def facts_of(self, record: Record) -> dict[str, Any]:
        """What whoever waits for an answer is told meanwhile."""
        named = {"request": record.name, "tier": record.tier, "model": record.model}
        return {**{name: value for name, value in named.items() if value}, **self._progress(record)}

    def _progress(self, record: Record, places: Mapping[int, int] | None = None) -> dict[str, Any]:
        engine = self._engine
        state = engine.fleet.scheduler
        shares = {
            one.model: engine.fleet.running[one.instance_id].progress[1]
            for one in state.instances.values()
            if one.phase is Phase.STARTING and one.instance_id in engine.fleet.running
        }
        for name in state.pulling:
            pull = engine.puller.pulls.get(name)
            if pull is not None and pull.total:
                shares[name] = pull.so_far / pull.total
        speed = engine.contexts.read_ms_per_token(record.model)
        places = state.places() if places is None else places
        return progress_of(record, state, shares, places, time.monotonic(), speed).facts()

    def _wall(self, at_ms: float) -> float:
        return round(at_ms / 1000 + self._clock_offset_s, 2)


def swap_row(swap: Swap) -> dict[str, Any]:
    """A swap, phase by phase."""
    phases = {name: round(ms, 1) for name, ms in swap.phases_ms.items()}
    return {"at": round(swap.at, 2), "model": swap.model, "gave_way": list(swap.gave_way), "phases_ms": phases}
