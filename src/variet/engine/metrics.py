"""/metrics in Prometheus' format: requests, tokens, waits, loads, failures, memory. Counts; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from variet.engine.contexts import Happening
from variet.engine.fleet import Moment
from variet.engine.prefetch import Prefetch
from variet.engine.record import Record

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One registry an engine."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        here = self.registry
        self._requests = Counter("variet_requests", "Requests by outcome", ["tier", "model", "outcome"], registry=here)
        self._tokens = Counter(
            "variet_tokens", "Tokens: prompt, cached (of the prompt), output", ["model", "kind"], registry=here
        )
        self._attributed = Counter(
            "variet_attribution_lines", "Billing lines taken from prompts, which else were read anew", registry=here
        )
        self._first = Histogram(
            "variet_first_byte_seconds", "Request to first byte", ["model"], buckets=_SECONDS, registry=here
        )
        self._queue = Histogram("variet_queue_seconds", "Wait for a lease", ["model"], buckets=_SECONDS, registry=here)
        self._stop = Histogram("variet_stop_seconds", "Stop to gone", ["model"], buckets=_SECONDS, registry=here)
        self._swap = Histogram(
            "variet_swap_phase_seconds",
            "pull, drain, save, stop, memory, load, restore, first byte of a model that came in",
            ["model", "phase"], buckets=_SECONDS, registry=here,
        )  # fmt: skip
        self._context = Counter(
            "variet_context", "Conversations saved, restored, and whether restores held", ["model", "outcome"],
            registry=here,
        )  # fmt: skip
        self._context_tokens = Counter(
            "variet_context_tokens",
            "Tokens of conversations saved, restored, held",
            ["model", "outcome"],
            registry=here,
        )
        self._context_bytes = Counter(
            "variet_context_bytes", "Bytes of conversations written (saved) and read (restored)", ["model", "outcome"],
            registry=here,
        )  # fmt: skip
        self._context_seconds = Histogram(
            "variet_context_seconds", "A save, a restore", ["model", "outcome"], buckets=_SECONDS, registry=here
        )
        self._prefetch = Counter(
            "variet_prefetch_bytes", "Bytes of model files read ahead of their load", ["model", "why"], registry=here
        )
        self._failures = Counter(
            "variet_failures", "Loads that failed and children that crashed", ["model", "kind"], registry=here
        )
        self._memory = Gauge("variet_planned_mib", "Planned memory in use", ["device"], registry=here)
        self._capacity = Gauge("variet_capacity_mib", "Memory that may be planned", ["device"], registry=here)
        self._waiting = Gauge("variet_waiting_requests", "Requests without a lease", registry=here)

    def request(self, record: Record) -> None:
        self._of(self._requests, record.tier, record.model, record.outcome).inc()
        if not record.model:  # the request was refused before its model was known
            return
        if record.attributed:
            self._attributed.inc()
        self._of(self._queue, record.model).observe(record.queue_ms / 1000)
        if record.first_byte_ms is not None:
            self._of(self._first, record.model).observe(record.first_byte_ms / 1000)
        for kind, count in (
            ("prompt", record.prompt_tokens),
            ("cached", record.cached_tokens),
            ("output", record.output_tokens),
        ):
            if count:
                self._of(self._tokens, record.model, kind).inc(count)

    def _of(self, metric: Any, *labels: str) -> Any:
        """The child of a metric, remembered: looking one up costs more than counting."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def moment(self, moment: Moment) -> None:
        if moment.kind in ("load failed", "crashed", "probe failed"):
            self._failures.labels(moment.model, moment.kind).inc()
        elif moment.kind == "stopped" and moment.ms is not None:
            self._of(self._stop, moment.model).observe(moment.ms / 1000)

    def context(self, what: Happening) -> None:
        self._of(self._context, what.model, what.outcome).inc()
        self._of(self._context_tokens, what.model, what.outcome).inc(what.tokens)
        if what.outcome in ("saved", "restored"):
            self._of(self._context_bytes, what.model, what.outcome).inc(what.size)
            self._of(self._context_seconds, what.model, what.outcome).observe(what.ms / 1000)

    def prefetch(self, one: Prefetch) -> None:
        self._prefetch.labels(one.model, one.why).inc(one.read)

    def phases(self, model: str, phases_ms: Mapping[str, float]) -> None:
        for phase, ms in phases_ms.items():
            self._swap.labels(model, phase).observe(ms / 1000)

    def text(self, used: dict[str, int], capacity: dict[str, int], waiting: int) -> bytes:
        """The page; gauges are set as they are now."""
        for device, amount in capacity.items():
            self._capacity.labels(device).set(amount)
            self._memory.labels(device).set(used.get(device, 0))
        self._waiting.set(waiting)
        return generate_latest(self.registry)
