"""A scheduler's world without processes or sleeps: loads, answers and stops take simulated milliseconds."""

from __future__ import annotations

import copy
import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from variet.engine import events
from variet.engine import scheduler as rules


@dataclass(slots=True)
class Request:
    ask: events.Arrived
    asked_ms: float
    busy_ms: float
    granted_ms: float | None = None
    refused: events.Refuse | None = None
    left: bool = False
    cut: bool = False


@dataclass
class World:
    """Runs a Scheduler against simulated children and checks after every event what must always hold."""

    terms: events.Terms
    load_ms: Mapping[str, float]
    stop_ms: float = 100.0
    scheduler: rules.Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.scheduler = rules.Scheduler(self.terms)
        self.now = 0.0
        self.requests: dict[int, Request] = {}
        self.answers: dict[int, str | None] = {}
        self.granted: list[int] = []
        self.started: list[str] = []
        self.broken_loads: set[str] = set()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)

    # --- what tests do ---

    def ask(self, model: str, busy_ms: float = 100.0, **extra: object) -> int:
        request_id = next(self._ids)
        ask = events.Arrived(request_id, model, **extra)  # type: ignore[arg-type]
        self.requests[request_id] = Request(ask, self.now, busy_ms)
        self.send(ask)
        return request_id

    def leave(self, request_id: int) -> None:
        self.requests[request_id].left = True
        self.send(events.Ended(request_id))

    def crash(self, model: str, by_signal: bool = True) -> None:
        for one in list(self.scheduler.instances.values()):
            if one.model == model and one.live:
                for request_id in one.leases:
                    self.requests[request_id].cut = True
                self.send(events.Exited(one.instance_id, by_signal, "it crashed"))
                self._after(self.stop_ms, events.Stopped(one.instance_id))

    def command(self, kind: str, model: str, now: bool = False) -> int:
        command_id = next(self._ids)
        if kind == "unload" and now:
            for one in self.scheduler.instances.values():
                for request_id in one.leases if one.model == model else []:
                    self.requests[request_id].cut = True
        self.send(events.Command(command_id, kind, model, now))  # type: ignore[arg-type]
        return command_id

    def advance(self, ms: float) -> None:
        end = self.now + ms
        while self._queue and self._queue[0][0] <= end:
            at, _, action = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            action()
        self.now = end

    def settle(self, limit_ms: float = 3_600_000) -> None:
        """Until nothing is left to happen."""
        end = self.now + limit_ms
        for _ in range(5_000):
            if not self._queue or self._queue[0][0] > end:
                return
            self.advance(self._queue[0][0] - self.now)
        raise AssertionError("the scheduler never comes to rest")

    def send(self, event: events.Event) -> None:
        leased_before = {one.instance_id: list(one.leases) for one in self.scheduler.instances.values()}
        slow = copy.deepcopy(self.scheduler)
        slow._walks_in = lambda ask: False  # type: ignore[method-assign]
        effects = self.scheduler.handle(event, self.now)
        asked = isinstance(event, events.Arrived)
        by_all_rules = [one for one in slow.handle(event, self.now) if not (asked and isinstance(one, events.Wake))]
        assert [one for one in effects if not (asked and isinstance(one, events.Wake))] == by_all_rules
        for effect in effects:
            self._carry_out(effect, leased_before, event)
        self.check()

    def loaded(self) -> set[str]:
        return {one.model for one in self.scheduler.instances.values() if one.phase is rules.Phase.READY}

    # --- what must always hold ---

    def check(self) -> None:
        state = self.scheduler
        used: dict[str, int] = {}
        for one in state.instances.values():
            for device, amount in one.demand.items():
                used[device] = used.get(device, 0) + amount
        for device, amount in used.items():
            assert amount <= state.terms.capacity.get(device, 0), f"{device} is above the ledger"
        live = [one.model for one in state.instances.values() if one.live]
        assert len(live) == len(set(live)), "two live instances of one model"
        held = [request_id for one in state.instances.values() for request_id in one.leases]
        assert len(held) == len(set(held)), "one request holds two leases"
        for request_id in held:
            assert request_id in state.leases or self.requests[request_id].cut
        assert not set(held) & set(state.waiters), "a request waits and is served"

    # --- inside ---

    def _carry_out(self, effect: events.Effect, leased_before: dict[int, list[int]], event: events.Event) -> None:
        match effect:
            case events.Start():
                self.started.append(effect.model)
                if effect.model in self.broken_loads:
                    self._after(50, events.Exited(effect.instance_id, False, "the file is broken"))
                    self._after(60, events.Stopped(effect.instance_id))
                else:
                    load = self.load_ms[effect.model]
                    self._after(load, events.Ready(effect.instance_id, load))
            case events.Stop():
                one = self.scheduler.instances[effect.instance_id]
                cutting = isinstance(event, events.Command) and event.now
                assert not one.leases or cutting, "an answer was cut"
                self._after(self.stop_ms, events.Stopped(effect.instance_id))
            case events.Grant():
                request = self.requests[effect.request_id]
                assert request.granted_ms is None and request.refused is None and not request.left
                one = self.scheduler.instances[effect.instance_id]
                assert one.model == request.ask.model or request.ask.anywhere
                assert one.phase is rules.Phase.READY
                self._check_fifo(request)
                request.granted_ms = self.now
                self.granted.append(effect.request_id)
                self._after(request.busy_ms, events.Ended(effect.request_id, served=True))
            case events.Refuse():
                assert self.requests[effect.request_id].granted_ms is None
                self.requests[effect.request_id].refused = effect
            case events.Answer():
                self.answers[effect.command_id] = effect.problem
            case events.Wake():
                self._at(effect.at_ms, events.Tick())

    def _check_fifo(self, request: Request) -> None:
        for waiter in self.scheduler.waiters.values():
            older = waiter.since_ms < request.asked_ms
            classes = [(ask.model, ask.priority, ask.needs_slot, ask.anywhere) for ask in (waiter.ask, request.ask)]
            assert not (older and classes[0] == classes[1]), "overtaken within a class"

    def _after(self, ms: float, event: events.Event) -> None:
        self._at(self.now + ms, event)

    def _at(self, at_ms: float, event: events.Event) -> None:
        heapq.heappush(self._queue, (at_ms, next(self._order), lambda: self.send(event)))


def small_world(max_resident: int = 1, **extra: object) -> World:
    """Three models of two slots; `max_resident` of them fit at once."""
    models = {
        name: events.ModelTerms(slots=2, demand={"host": 10, events.RESIDENT_COUNT: 1})
        for name in ("small", "middle", "large")
    }
    terms = events.Terms(
        models=models,
        capacity={"host": 100, events.RESIDENT_COUNT: max_resident},
        max_wait_ms=2_000,
        min_residency_ms=500,
        background_max_wait_ms=10_000,
        **extra,  # type: ignore[arg-type]
    )
    return World(terms, {"small": 300, "middle": 900, "large": 2_000})
