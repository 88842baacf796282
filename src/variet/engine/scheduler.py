"""Pure: events in, effects out. Who gets which slot, when a gate closes, which model gives way.

One object, owned by the fleet's one task; no clock, no process, no lock. Times are milliseconds of any steady clock,
handed in with each event. The rules, in the order in which `_settle` applies them:

1. A waiter whose model is loaded and whose gate is open gets a free slot at once, oldest first (collation).
2. The oldest waiter without a loaded model (the *head*) may start it if it fits; else it makes room:
   idle victims go after a short linger, busy ones have their gate closed once the head waited `max_wait`
   and they had `min_residency`. Behind a closed gate only requests older than the head are still let in.
3. A gated victim without leases is stopped. Its memory counts until the fleet says that it came back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from variet.engine.events import (
    RESIDENT_COUNT,
    Answer,
    Arrived,
    Available,
    Command,
    Effect,
    Ended,
    Event,
    Exited,
    Grant,
    Priority,
    Ready,
    Reconfigured,
    RefusalKind,
    Refuse,
    ShuttingDown,
    Start,
    Stop,
    Stopped,
    Terms,
    Tick,
    Wake,
)
from variet.engine.ledger import Demand, Tenant, choose_victims, fits

_LOAD_EWMA = 0.3
_BACKOFF_FIRST_MS = 1_000.0
_BACKOFF_MAX_MS = 60_000.0
_CRASHES_BEFORE_BACKOFF = 3


class Phase(Enum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


# --- state ---


@dataclass(slots=True)
class Slot:
    lease: int | None = None
    occupant: tuple[str, ...] = ()
    last_used_ms: float = -math.inf


@dataclass(slots=True)
class Instance:
    instance_id: int
    model: str
    slots: list[Slot]
    demand: Demand  # as planned when it was started, whatever the configuration says since
    started_ms: float
    phase: Phase = Phase.STARTING
    ready_ms: float = math.inf
    last_end_ms: float = -math.inf
    gate_since_ms: float | None = None  # only requests older than this are let in
    gate_for: str | None = None  # the model that closed it; None: a command
    stale: bool = False  # runs what the configuration no longer says: drains, whatever is wished since
    guests: set[int] = field(default_factory=set)  # leases without a slot

    @property
    def leases(self) -> list[int]:
        return [slot.lease for slot in self.slots if slot.lease is not None] + sorted(self.guests)

    @property
    def live(self) -> bool:
        return self.phase is not Phase.STOPPING


@dataclass(slots=True)
class Waiter:
    ask: Arrived
    since_ms: float
    sequence: int


@dataclass(slots=True)
class Trouble:
    """Failures of a model in a row, and until when nothing is tried."""

    failures: int = 0
    until_ms: float = -math.inf
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Want:
    model: str
    since_ms: float  # its place in the order
    asked_ms: float
    urgent: bool  # a swap command: does not wait, and lets nobody in before it
    may_evict: bool


class Scheduler:
    """State and rules. `handle` is the only way in; the attributes are for reading."""

    def __init__(self, terms: Terms, pulling: Iterable[str] = ()) -> None:
        self.terms = terms
        self.instances: dict[int, Instance] = {}
        self.waiters: dict[int, Waiter] = {}
        self.leases: dict[int, int] = {}  # request -> instance
        self.commands: list[Command] = []
        self.unloading: dict[int, set[int]] = {}  # unload command -> the instances it is about
        self.pulling: set[str] = set(pulling)
        self.missing: dict[str, str] = {}
        self.trouble: dict[str, Trouble] = {}
        self.load_ms: dict[str, float] = {}
        self.shutting_down = False
        self._next_instance = 1
        self._sequence = 0
        self._now = 0.0
        self._wake = math.inf
        self._effects: list[Effect] = []
        self._judged: Terms | None = None
        self._never: dict[str, str] = {}

    def handle(self, event: Event, now_ms: float) -> list[Effect]:
        """Apply one event and return what must be done, in order."""
        self._now, self._wake, self._effects = now_ms, math.inf, []
        match event:
            case Arrived():
                if self._walks_in(event):
                    return self._effects
                self._arrived(event)
            case Ended():
                self._ended(event)
            case Ready():
                self._ready(event)
            case Exited():
                self._exited(event)
            case Stopped():
                self.instances.pop(event.instance_id, None)
            case Available():
                self._available(event)
            case Command():
                self._command(event)
            case Reconfigured():
                self._reconfigured(event)
            case ShuttingDown():
                self.shutting_down = True
                self._refuse_all(list(self.waiters), "shutting_down", "the engine is shutting down")
                self._give_way(lambda _: True, "the engine is shutting down")
            case Tick():
                pass
        self._settle()
        if self._wake < math.inf:
            self._effects.append(Wake(self._wake))
        return self._effects

    def places(self) -> dict[int, int]:
        """The place of each waiting request in the order in which waiters are looked at, 1 for the first."""
        return {waiter.ask.request_id: place for place, waiter in enumerate(self._ordered(), 1)}

    def wanted(self) -> list[str]:
        """Models that somebody waits for and that are not live, in the order in which they will come."""
        wished = [command.model for command in self.commands if command.kind != "unload"]
        wished += [waiter.ask.model for waiter in self._ordered() if not waiter.ask.anywhere]
        return [model for model in dict.fromkeys(wished) if self._can_start(model)]

    def _why_never(self, model: str) -> str | None:
        """Why a model of these terms can never run; worked out once, since every request asks."""
        if self._judged is not self.terms:
            self._judged, self._never = self.terms, {}
            reserved = self._side_demands()
            for name, terms in self.terms.models.items():
                if terms.problem is not None:
                    self._never[name] = terms.problem
                elif not fits(terms.demand, () if terms.side else reserved, self.terms.capacity):
                    self._never[name] = f"{name} needs more memory than this machine may give it"
        return self._never.get(model)

    # --- events ---

    def _walks_in(self, ask: Arrived) -> bool:
        """Let a request in at once where nobody waits and nothing is about to change: what `_arrived` and `_settle`
        would do, without asking every rule. Most requests are such.
        """
        if self.waiters or self.commands or self.shutting_down or ask.anywhere:
            return False
        home: Instance | None = None
        for one in self.instances.values():
            if one.gate_since_ms is not None:
                return False
            if one.model == ask.model and one.phase is Phase.READY:
                home = one
        if home is None or ask.model in self.missing or ask.model in self.trouble or self._why_never(ask.model):
            return False
        if ask.needs_slot and all(slot.lease is not None for slot in home.slots):
            return False
        self._let_in(ask, home)
        return True

    def _arrived(self, ask: Arrived) -> None:
        terms = self.terms.models.get(ask.model)
        anywhere = ask.anywhere and bool(self._residents()) and not self.shutting_down
        refusal = None if anywhere else self.objection(ask.model, self._now)
        if refusal is not None:
            self._effects.append(Refuse(ask.request_id, *refusal))
            return
        waiting = sum(waiter.ask.model == ask.model for waiter in self.waiters.values())
        if terms is not None and waiting >= terms.queue_limit and ask.since_ms is None:
            seconds = max(1.0, self.load_ms.get(ask.model, 1_000.0) / 1_000)
            text = f"{waiting} requests already wait for {ask.model}"
            self._effects.append(Refuse(ask.request_id, "queue_full", text, seconds * 1_000))
            return
        self._sequence += 1
        since = self._now if ask.since_ms is None else ask.since_ms
        self.waiters[ask.request_id] = Waiter(ask, since, self._sequence)

    def objection(self, model: str, now_ms: float) -> tuple[RefusalKind, str, float | None] | None:
        """Why no request for this model is taken now: (kind, detail, retry after)."""
        terms = self.terms.models.get(model)
        if self.shutting_down:
            return "shutting_down", "the engine is shutting down", 5_000.0
        if terms is None:
            return "unknown_model", f"there is no model {model!r}", None
        if model in self.missing:
            return "unavailable", self.missing[model], 30_000.0
        never = self._why_never(model)
        if never is not None and not (terms.problem and model in self.pulling):
            return "cannot_run", never, None
        trouble = self.trouble.get(model)
        if trouble and now_ms < trouble.until_ms:
            return "backing_off", trouble.detail, trouble.until_ms - now_ms
        return None

    def _ended(self, event: Ended) -> None:
        self.waiters.pop(event.request_id, None)
        instance = self.instances.get(self.leases.pop(event.request_id, -1))
        if instance is None:
            return
        instance.guests.discard(event.request_id)
        for slot in instance.slots:
            if slot.lease == event.request_id:
                slot.lease = None
                slot.last_used_ms = self._now
        instance.last_end_ms = self._now
        if event.served:
            self.trouble.pop(instance.model, None)

    def _ready(self, event: Ready) -> None:
        instance = self.instances.get(event.instance_id)
        if instance is None or instance.phase is not Phase.STARTING:
            return
        instance.phase, instance.ready_ms, instance.last_end_ms = Phase.READY, self._now, self._now
        before = self.load_ms.get(instance.model)
        self.load_ms[instance.model] = (
            event.load_ms if before is None else before + _LOAD_EWMA * (event.load_ms - before)
        )

    def _exited(self, event: Exited) -> None:
        instance = self.instances.get(event.instance_id)
        if instance is None or instance.phase is Phase.STOPPING:
            return
        loading = instance.phase is Phase.STARTING
        for request_id in instance.leases:
            self.leases.pop(request_id, None)
        instance.phase, instance.guests, instance.slots = Phase.STOPPING, set(), []
        if event.again:
            return
        trouble = self.trouble.setdefault(instance.model, Trouble())
        trouble.failures += 1
        trouble.detail = event.detail
        # A load that fails by itself will fail again; one that somebody killed deserves another try at once.
        tolerated = (1 if event.by_signal else 0) if loading else _CRASHES_BEFORE_BACKOFF - 1
        if trouble.failures <= tolerated:
            return
        doublings = trouble.failures - tolerated - 1
        pause = min(_BACKOFF_MAX_MS, _BACKOFF_FIRST_MS * 2**doublings)
        trouble.until_ms = self._now + pause
        self._fail_model(instance.model, "load_failed", event.detail, pause)

    def _available(self, event: Available) -> None:
        self.pulling.discard(event.model)
        if event.problem is None:
            self.missing.pop(event.model, None)
        else:
            self.missing[event.model] = event.problem
            self._fail_model(event.model, "unavailable", event.problem, 30_000.0)

    def _command(self, command: Command) -> None:
        objection = None if command.kind == "unload" else self.objection(command.model, self._now)
        if objection is not None:
            self._effects.append(Answer(command.command_id, objection[1]))
            return
        instance = self._loaded(command.model)
        if command.kind == "unload":
            self.unloading[command.command_id] = {instance.instance_id} if instance else set()
        elif instance is not None and not instance.stale:
            instance.gate_since_ms, instance.gate_for = None, None
        if command.kind == "swap":
            self._give_way(lambda one: one.model != command.model, f"superseded by a swap to {command.model}")
        self.commands.append(command)

    def _give_way(self, which: Callable[[Command], bool], problem: str) -> None:
        """Answer pending loads and swaps that will not happen; left alone they would undo what replaced them."""
        for command in [one for one in self.commands if one.kind != "unload" and which(one)]:
            self.commands.remove(command)
            self._effects.append(Answer(command.command_id, problem))

    def _give_way_for(self, model: str, problem: str) -> None:
        self._give_way(lambda one: one.model == model, problem)

    def _reconfigured(self, event: Reconfigured) -> None:
        self.terms = event.terms
        if event.pulling is not None:
            self.pulling = set(event.pulling)
        self.missing = {name: why for name, why in self.missing.items() if name not in event.stale}
        self.trouble = {name: what for name, what in self.trouble.items() if name not in event.stale}
        for instance in self.instances.values():
            if instance.live and (instance.model in event.stale or instance.model not in self.terms.models):
                instance.gate_since_ms, instance.gate_for, instance.stale = -math.inf, None, True

    def _fail_model(self, model: str, kind: RefusalKind, detail: str, retry_after_ms: float | None) -> None:
        waiting = [waiter.ask.request_id for waiter in self._ordered() if self._needs(waiter, model)]
        self._refuse_all(waiting, kind, detail, retry_after_ms)
        self._give_way_for(model, detail)

    def _refuse_all(
        self, request_ids: Sequence[int], kind: RefusalKind, detail: str, retry_after_ms: float | None = None
    ) -> None:
        for request_id in request_ids:
            del self.waiters[request_id]
            self._effects.append(Refuse(request_id, kind, detail, retry_after_ms))

    # --- rules ---

    def _fail_hopeless(self) -> None:
        """What new terms or a finished pull made impossible is refused now, not never."""
        models = {waiter.ask.model for waiter in self.waiters.values() if self._needs(waiter, waiter.ask.model)}
        models |= {command.model for command in self.commands if command.kind != "unload"}
        for model in sorted(models):
            objection = self.objection(model, self._now)
            if objection is not None and objection[0] in ("cannot_run", "unavailable", "unknown_model"):
                self._fail_model(model, *objection)

    def _settle(self) -> None:
        if not (self.waiters or self.commands or self.shutting_down) and all(
            one.gate_since_ms is None for one in self.instances.values()
        ):
            self._unload_idle()  # nobody waits and nothing is about to stop: most ends of a request
            return
        self._fail_hopeless()
        self._answer_commands()  # an unload is done before its model's waiters may start it again
        wants = self._wants()
        self._open_stale_gates(wants)
        self._unload_on_command()
        self._grant()
        self._make_room(wants)
        self._stop_drained()
        self._unload_idle()
        self._answer_commands()

    def _ordered(self) -> list[Waiter]:
        """Waiters by class, then age. A background one counts as interactive once it waited long enough."""

        def rank(waiter: Waiter) -> tuple[int, float, int]:
            promoted = self._now - waiter.since_ms >= self.terms.background_max_wait_ms
            priority = Priority.INTERACTIVE if promoted else waiter.ask.priority
            return priority, waiter.since_ms, waiter.sequence

        return sorted(self.waiters.values(), key=rank)

    def _loaded(self, model: str) -> Instance | None:
        """The live instance of a model; there is at most one."""
        return next((one for one in self.instances.values() if one.model == model and one.live), None)

    def _residents(self) -> list[Instance]:
        """Live instances of tier models: those that are loaded or on their way in."""
        sides = {name for name, terms in self.terms.models.items() if terms.side}
        return [one for one in self.instances.values() if one.live and one.model not in sides]

    def _needs(self, waiter: Waiter, model: str) -> bool:
        """Whether this waiter can be served by this model alone."""
        return waiter.ask.model == model and not (waiter.ask.anywhere and self._residents())

    def _home(self, waiter: Waiter) -> Instance | None:
        """The loaded instance that lets this waiter in; one that may go anywhere goes where work was last."""
        own = self._loaded(waiter.ask.model)
        choices = (waiter.ask.anywhere and self._residents()) or ([own] if own else [])
        let_in = [
            one
            for one in choices
            if one.phase is Phase.READY
            and (one.gate_since_ms is None or waiter.since_ms < one.gate_since_ms)
            and not (waiter.ask.needs_slot and all(slot.lease is not None for slot in one.slots))
        ]
        return max(let_in, key=lambda one: (one.last_end_ms, one.instance_id), default=None)

    def _wants(self) -> list[_Want]:
        """Models that somebody waits for and that are not live, commands first, then by their oldest waiter."""
        if self.shutting_down:
            return []
        wants: dict[str, _Want] = {}
        for command in self.commands:
            if command.kind != "unload":
                urgent = command.kind == "swap"
                wants.setdefault(command.model, _Want(command.model, -math.inf, command.since_ms, urgent, urgent))
        for waiter in self._ordered():
            if waiter.ask.anywhere:
                continue
            model, background = waiter.ask.model, waiter.ask.priority is Priority.BACKGROUND
            if background and self._now - waiter.since_ms < self.terms.background_max_wait_ms:
                self._wake_at(waiter.since_ms + self.terms.background_max_wait_ms)
            known = wants.get(model)
            if known is None or not known.may_evict:
                wants[model] = _Want(model, waiter.since_ms, waiter.since_ms, False, not self.terms.models[model].side)
        due = [want for want in wants.values() if self._can_start(want.model)]
        if not due and not self._residents():  # whoever takes what is loaded brings a model in only where none is
            anywhere = [waiter for waiter in self._ordered() if self._can_start(waiter.ask.model)]
            due = [_Want(one.ask.model, one.since_ms, one.since_ms, False, False) for one in anywhere[:1]]
        return due

    def _can_start(self, model: str) -> bool:
        return model not in self.pulling and model not in self.missing and self._loaded(model) is None

    def _open_stale_gates(self, wants: Sequence[_Want]) -> None:
        wanted = {want.model for want in wants}
        for instance in self.instances.values():
            if instance.live and instance.gate_for is not None and instance.gate_for not in wanted:
                instance.gate_since_ms, instance.gate_for = None, None

    def _grant(self) -> None:
        if not self.waiters:
            return
        for waiter in self._ordered():
            ask = waiter.ask
            instance = self._home(waiter)
            if instance is None:
                continue
            self._let_in(ask, instance)
            del self.waiters[ask.request_id]

    def _let_in(self, ask: Arrived, instance: Instance) -> None:
        index = self._pick_slot(instance, ask.conversation) if ask.needs_slot else None
        displaced: tuple[str, ...] = ()
        if index is None:
            instance.guests.add(ask.request_id)
        else:
            slot = instance.slots[index]
            if _common(slot.occupant, ask.conversation) < 2:
                displaced = slot.occupant
            slot.lease, slot.occupant, slot.last_used_ms = ask.request_id, ask.conversation, self._now
        self.leases[ask.request_id] = instance.instance_id
        self._effects.append(Grant(ask.request_id, instance.instance_id, index, displaced))

    @staticmethod
    def _pick_slot(instance: Instance, conversation: tuple[str, ...]) -> int | None:
        """A free slot: the one that holds this conversation, else an empty one, else the longest unused.

        The first digest is the system prompt alone; two in common are a conversation.
        """

        def rank(index: int) -> tuple[int, int, float, int]:
            slot = instance.slots[index]
            common = _common(slot.occupant, conversation)
            return (-common if common >= 2 else 0, 1 if slot.occupant else 0, slot.last_used_ms, index)

        free = [index for index, slot in enumerate(instance.slots) if slot.lease is None]
        return min(free, key=rank) if free else None

    def _make_room(self, wants: Sequence[_Want]) -> None:
        head_taken = False
        for want in wants:
            demand = self.terms.models[want.model].demand
            others = list(self.instances.values())
            side = self.terms.models[want.model].side
            kept = [] if side else self._side_demands(absent=True)
            if (side or not head_taken) and fits(demand, [one.demand for one in others] + kept, self.terms.capacity):
                self._start(want)
                continue
            if head_taken and not side:
                continue
            staying = [instance for instance in others if instance.live]
            if fits(demand, [one.demand for one in staying] + kept, self.terms.capacity):
                head_taken = not side  # stopped instances are on their way out
                continue
            if side:
                self._fail_model(want.model, "does_not_fit", f"{want.model} does not fit beside what is loaded", None)
                continue
            victims = choose_victims(demand, self._tenants(staying, want), self.terms.capacity)
            if victims is None:
                detail = f"{want.model} does not fit beside what is pinned"
                self._fail_model(want.model, "does_not_fit", detail, None)
            elif want.may_evict:
                head_taken = True  # order is kept: nobody behind the head takes the room it waits for
                self._clear(want, [self.instances[instance_id] for instance_id in victims])
            else:
                names = ", ".join(sorted(self.instances[instance_id].model for instance_id in victims))
                free = {**self.terms.capacity, RESIDENT_COUNT: len(self.terms.models)}
                limited = fits(demand, [one.demand for one in staying] + kept, free)
                limit = f"$.scheduling.max_resident is {self.terms.capacity.get(RESIDENT_COUNT, 0):g}"
                reason = limit if limited else f"{want.model} does not fit"
                problem = f"{reason}, and {names} is loaded; swap instead of load"
                self._give_way_for(want.model, problem)

    def would_go(self, model: str) -> list[str] | None:
        """The models that would have to leave for this one; None: it does not fit beside what must stay. Changes
        nothing."""
        want = _Want(model, self._now, self._now, urgent=False, may_evict=True)
        staying = [instance for instance in self.instances.values() if instance.live]
        victims = choose_victims(self.terms.models[model].demand, self._tenants(staying, want), self.terms.capacity)
        return None if victims is None else [self.instances[instance_id].model for instance_id in victims]

    def _tenants(self, instances: Iterable[Instance], want: _Want) -> list[Tenant]:
        result = []
        for instance in instances:
            terms = self.terms.models.get(instance.model)
            gated = instance.gate_for == want.model  # whom the gate was closed for once stays chosen
            result.append(
                Tenant(
                    instance_id=instance.instance_id,
                    demand=instance.demand,
                    movable=terms is None or not (terms.pinned or terms.side),
                    busy=self._in_use(instance) and not gated,
                    return_cost_ms=0.0 if gated else self.load_ms.get(instance.model, 0.0),
                )
            )
        reserved = self._side_demands(absent=True)
        return result + [Tenant(-1 - index, kept, False, False, 0.0) for index, kept in enumerate(reserved)]

    def _side_demands(self, *, absent: bool = False) -> list[Demand]:
        """Memory set aside for side models: for all of them, or for those that are not loaded now."""
        loaded = {instance.model for instance in self.instances.values()} if absent else ()
        return [terms.demand for name, terms in self.terms.models.items() if terms.side and name not in loaded]

    def _clear(self, want: _Want, victims: Sequence[Instance]) -> None:
        """Stop the victims once none is in use; until then close the gates that are due."""
        patience_ends = -math.inf if want.urgent else want.since_ms + self.terms.max_wait_ms
        stoppable = True
        for victim in victims:
            if victim.gate_for == want.model or victim.gate_since_ms == -math.inf:
                stoppable &= not self._in_use(victim)
            elif self._in_use(victim):
                stoppable = False
                residency_ends = -math.inf if want.urgent else victim.ready_ms + self.terms.min_residency_ms
                if self._due(max(patience_ends, residency_ends)):
                    victim.gate_since_ms = -math.inf if want.urgent else want.since_ms
                    victim.gate_for = want.model
            elif victim.phase is Phase.READY:
                share = self.terms.linger_share * self.load_ms.get(victim.model, 0.0)
                linger_ends = victim.last_end_ms + min(share, self.terms.linger_max_ms)
                stoppable &= self._due(min(patience_ends, linger_ends))
        if stoppable:
            for victim in victims:
                if not self._in_use(victim):
                    self._stop(victim, f"makes room for {want.model}", made_room_for=want.model)

    def _in_use(self, instance: Instance) -> bool:
        """Leases, or waiters that are still to be let in: those older than its gate."""
        if instance.leases:
            return True
        gate = instance.gate_since_ms
        commanded = any(
            command.kind in ("load", "swap") and command.model == instance.model for command in self.commands
        )
        return (commanded and gate is None) or any(
            waiter.ask.model == instance.model and not waiter.ask.anywhere and (gate is None or waiter.since_ms < gate)
            for waiter in self.waiters.values()
        )

    def _stop_drained(self) -> None:
        for instance in list(self.instances.values()):
            commanded = instance.gate_since_ms is not None and instance.gate_for is None
            drained = instance.live and not instance.leases
            if drained and (self.shutting_down or commanded):
                self._stop(instance, "shutting down" if self.shutting_down else "unloaded")

    def _unload_on_command(self) -> None:
        for command in [command for command in self.commands if command.kind == "unload"]:
            instance = self._loaded(command.model)
            if instance is None or instance.instance_id not in self.unloading[command.command_id]:
                continue
            instance.gate_since_ms, instance.gate_for = -math.inf, None
            if command.now and instance.leases:
                for request_id in instance.leases:
                    self.leases.pop(request_id, None)
                instance.guests = set()
                self._stop(instance, "unloaded at once", cut=True)

    def _unload_idle(self) -> None:
        for instance in list(self.instances.values()):
            terms = self.terms.models.get(instance.model)
            if terms is None or terms.idle_unload_ms is None or terms.pinned:
                continue
            if instance.phase is not Phase.READY or self._in_use(instance):
                continue
            if self._due(instance.last_end_ms + terms.idle_unload_ms):
                self._stop(instance, f"idle for {terms.idle_unload_ms / 1000:g} s")

    def _answer_commands(self) -> None:
        waiting: list[Command] = []
        for command in self.commands:
            instance = next((one for one in self.instances.values() if one.model == command.model), None)
            if command.kind == "unload":
                done = not self.unloading[command.command_id] & set(self.instances)
            else:
                done = instance is not None and instance.phase is Phase.READY and not instance.stale
            if done:
                self.unloading.pop(command.command_id, None)
                self._effects.append(Answer(command.command_id))
            else:
                waiting.append(command)
        self.commands = waiting

    # --- small steps ---

    def _start(self, want: _Want) -> None:
        model = want.model
        instance_id, self._next_instance = self._next_instance, self._next_instance + 1
        terms = self.terms.models[model]
        slots = [Slot() for _ in range(terms.slots)]
        self.instances[instance_id] = Instance(instance_id, model, slots, terms.demand, self._now)
        self._effects.append(Start(instance_id, model, want.asked_ms))

    def _stop(self, instance: Instance, reason: str, *, cut: bool = False, made_room_for: str = "") -> None:
        instance.phase = Phase.STOPPING
        self._effects.append(Stop(instance.instance_id, reason, cut, made_room_for))
        if not instance.stale:
            self._give_way_for(instance.model, f"gave way: {reason}")

    def _due(self, at_ms: float) -> bool:
        if self._now >= at_ms:
            return True
        self._wake_at(at_ms)
        return False

    def _wake_at(self, at_ms: float) -> None:
        self._wake = min(self._wake, at_ms)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
