"""The one owner of all engine state: it feeds events to the scheduler and carries its effects out.

Everything that happens reaches it as an event; each is handled to its end before the next, on the one event loop, so
nothing here needs a lock. What it decides itself is only how: which process, which flags, which connection.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from variet.engine import events
from variet.engine import scheduler as rules
from variet.engine.backends.base import Backend, Child, LaunchSpec
from variet.engine.instance import first_of
from variet.engine.swaps import Swap, SwapBook
from variet.engine.upstream import Upstream, UpstreamError
from variet.errors import LaunchFailed, VarietError

log = logging.getLogger("variet.engine.fleet")
STOP_PATIENCE_S = 5.0
CUT_PATIENCE_S = 0.1
PROBE_PATIENCE_S = 30.0
WATCH_S = 10.0
_MOST_MISSED = 2
KEEP_PATIENCE_S = 10.0  # for saving conversations before a stop
SpecFor = Callable[[str], LaunchSpec]


class WatchMemory(Protocol):
    """Called before a stop with the MiB a device that were planned; what it returns waits until they are back.
    `gone`: the process ended by itself."""

    def __call__(self, demand: Mapping[str, int], *, gone: bool) -> Callable[[], Awaitable[None]]: ...


class Refused(VarietError):
    """The scheduler takes no such request now."""

    def __init__(self, refusal: events.Refuse) -> None:
        self.kind = refusal.kind
        self.retry_after_s = None if refusal.retry_after_ms is None else refusal.retry_after_ms / 1000
        super().__init__(refusal.detail)


@dataclass(slots=True)
class Running:
    """What the fleet keeps of an instance beside the scheduler's view of it."""

    instance_id: int
    model: str
    requested_at: float
    child: Child | None = None
    upstream: Upstream | None = None
    progress: tuple[str, float] = ("start", 0.0)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stop_reason: str = ""
    cut: bool = False
    log_tail: tuple[str, ...] = ()
    missed: int = 0  # looks in a row at which it did not answer

    @property
    def up(self) -> bool:
        """Whether it can be asked: loaded, and not on its way out."""
        return self.upstream is not None and not self.upstream.closed and not self.stopping.is_set()


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one request to one slot of an instance. `upstream` reaches the child; give it back with `end`."""

    request_id: int
    model: str
    instance_id: int
    slot: int | None
    slots: int  # how many the instance has
    alone: bool  # nobody else is answered by the instance
    upstream: Upstream
    queue_ms: float
    swap_ms: float  # of that, until the model was loaded


class Keeper(Protocol):
    """Whoever keeps conversations beyond the children that hold them (contexts.py)."""

    def opened(self, instance_id: int, spec: LaunchSpec, upstream: Upstream) -> None: ...

    async def keep(self, instance_id: int, patience_s: float) -> None:
        """Save what is worth it of a child that is about to stop; returns within its patience, never raises."""
        ...

    def overwritten(self, instance_id: int, slot: int | None) -> None:
        """Something else was put into a slot."""
        ...

    def closed(self, instance_id: int) -> None: ...


class _KeepsNothing:
    def opened(self, instance_id: int, spec: LaunchSpec, upstream: Upstream) -> None:
        pass

    async def keep(self, instance_id: int, patience_s: float) -> None:
        pass

    def overwritten(self, instance_id: int, slot: int | None) -> None:
        pass

    def closed(self, instance_id: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the engine's journal: what happened, to which model, how long it took."""

    at: float
    kind: str
    model: str
    ms: float | None = None
    detail: str = ""


class Fleet:
    """Call it from its event loop only."""

    def __init__(
        self,
        backend: Backend,
        terms: events.Terms,
        spec_for: SpecFor,
        watch_memory: WatchMemory,
        pulling: frozenset[str] = frozenset(),
    ) -> None:
        self.scheduler = rules.Scheduler(terms, pulling)
        self.running: dict[int, Running] = {}
        self.journal: deque[Moment] = deque(maxlen=500)
        self._backend = backend
        self._spec_for = spec_for
        self._watch_memory = watch_memory
        self._inbox: deque[events.Event] = deque()
        self._handling = False
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[Lease], float]] = {}
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.swaps = SwapBook()
        self.keeper: Keeper = _KeepsNothing()
        self._hurry = asyncio.Event()  # what takes time and can be done without is not done any more
        self.on_moment: Callable[[Moment], None] = lambda _moment: None
        # Whether a load that ended with these lines is worth another try now, since the plan became smaller.
        self.on_load_failed: Callable[[str, Sequence[str]], bool] = lambda _model, _lines: False
        self.on_swap: Callable[[Swap], None] = lambda _swap: None  # it is complete
        self.on_phases: Callable[[str, Mapping[str, float]], None] = lambda _model, _phases_ms: None  # of a swap

    # --- for the relay ---

    def new_id(self) -> int:
        return next(self._ids)

    async def acquire(self, ask: events.Arrived) -> Lease:
        """Wait for a lease; cancelling the wait leaves the queue. Raises Refused."""
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._pending[ask.request_id] = (future, time.monotonic())
        self.post(ask)
        try:
            return await future
        except asyncio.CancelledError:
            self._pending.pop(ask.request_id, None)
            self.end(ask.request_id)
            raise

    def end(self, request_id: int, *, served: bool = False) -> None:
        """Give a lease back, or leave the queue. Calling it again does nothing."""
        if request_id in self.scheduler.leases or request_id in self.scheduler.waiters or self._handling:
            self.post(events.Ended(request_id, served))

    def restored(self, instance_id: int, ms: float) -> None:
        """A conversation was brought back before the first answer of an instance: a phase of its swap."""
        self.swaps.restored(instance_id, ms)

    def available(self, model: str, problem: str | None) -> None:
        """A pull ended: the model's files are there, or `problem` says why not."""
        self.swaps.pulled(model, _now_ms())
        self.post(events.Available(model, problem))

    def first_byte(self, instance_id: int, asked_ms: float) -> None:
        """An answer to a request of `asked_ms` began: the first one of an instance completes the record of its swap."""
        swap = self.swaps.first_byte(instance_id, asked_ms, _now_ms())
        if swap is None:
            return
        self.on_swap(swap)
        if swap.waited_for:
            self.on_phases(swap.model, {name: swap.phases_ms[name] for name in ("restore", "first")})
            phases = ", ".join(f"{name} {ms:.0f}" for name, ms in swap.phases_ms.items())
            log.info("%s answers %.0f ms after it was asked for (%s)", swap.model, swap.total_ms, phases)

    # --- for the API and the command line ---

    async def command(self, kind: Any, model: str, *, now: bool = False) -> None:
        """Load, swap or unload, and wait until it is done. Raises Refused with the reason where it is not."""
        command_id = self.new_id()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[command_id] = future
        self.post(events.Command(command_id, kind, model, now, _now_ms()))
        await future

    async def probe(self) -> None:
        """Ask every loaded model for one token, as after a sleep of the machine; one that cannot answer is ended, which
        counts as a crash: its requests are retried or told, the next one starts it again.
        """
        await asyncio.gather(*(self._probe(one) for one in self.running.values() if one.up))

    async def watch(self) -> None:
        """Look after models that have requests, for good: one that twice does not say that it is there is ended.

        A model server that was told to end by somebody else waits for its answers and gives none (llama.cpp b10068);
        one that was frozen answers nothing. Without this their requests would wait for ever, since a long prefill is no
        reason to give up. `/health` is answered by a thread of its own, also while it reads or saves.
        """
        while True:
            await asyncio.sleep(WATCH_S)
            busy = [one for one in self.running.values() if one.up and self._has_leases(one)]
            for fault in await asyncio.gather(*(self._look_at(one) for one in busy), return_exceptions=True):
                if isinstance(fault, Exception):  # whatever a look meets, the next one must be had, too
                    log.error("while looking after a model", exc_info=fault)

    def _has_leases(self, one: Running) -> bool:
        instance = self.scheduler.instances.get(one.instance_id)
        return instance is not None and bool(instance.leases)

    async def _look_at(self, one: Running) -> None:
        assert one.upstream is not None
        try:
            async with asyncio.timeout(PROBE_PATIENCE_S):
                answered = await _is_answered(one.upstream, "GET", b"/health")
        except (UpstreamError, TimeoutError):
            answered = False
        one.missed = 0 if answered else one.missed + 1
        if one.missed >= _MOST_MISSED and not one.stopping.is_set():
            await self._end_of(one)

    async def _end_of(self, one: Running) -> None:
        """End a child that does not answer, unless it is gone already."""
        if one.child is not None and not one.child.gone.done():
            self.note("probe failed", one.model, detail="it does not answer any more and is ended")
            await one.child.stop(CUT_PATIENCE_S)

    async def _probe(self, one: Running) -> None:
        assert one.upstream is not None
        request_id = self.new_id()
        try:
            async with asyncio.timeout(PROBE_PATIENCE_S):
                healthy = await _is_answered(one.upstream, "GET", b"/health")
            if healthy and not self.scheduler.instances[one.instance_id].leases:
                # Only an idle one is asked for a token: answers under way will show by themselves what is wrong.
                async with asyncio.timeout(PROBE_PATIENCE_S):
                    await self.keeper.keep(one.instance_id, KEEP_PATIENCE_S)
                    lease = await self.acquire(events.Arrived(request_id, one.model))
                    self.keeper.overwritten(lease.instance_id, lease.slot)
                    body = {"prompt": "a", "n_predict": 1, "cache_prompt": False, "id_slot": lease.slot}
                    healthy = await _is_answered(lease.upstream, "POST", b"/completion", orjson.dumps(body))
        except (UpstreamError, TimeoutError, Refused, KeyError):
            healthy = False
        finally:
            self.end(request_id)
        if not healthy:
            await self._end_of(one)

    # --- the owner ---

    def post(self, event: events.Event) -> None:
        """Handle an event, and all that its effects post, before returning; never inside another event's handling.

        There is no owner task that could end unseen and leave every request waiting (decision 006).
        """
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                self._handle(self._inbox.popleft())
        finally:
            self._handling = False

    def _handle(self, event: events.Event) -> None:
        """Whoever posted an event is not to blame for an error here, and one effect's error costs no other effect."""
        try:
            effects = self.scheduler.handle(event, _now_ms())
        except Exception:
            log.exception("while deciding on %s", type(event).__name__)
            return
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception:
                log.exception("while carrying out %s", type(effect).__name__)

    async def shut_down(self, deadline_s: float, hurry: asyncio.Event) -> int:
        """Drain for at most `deadline_s` or until `hurry`, then stop everything. Returns how many requests were cut."""
        self.post(events.ShuttingDown())
        give_up = time.monotonic() + deadline_s
        while time.monotonic() < give_up and self.running and not hurry.is_set():
            await asyncio.sleep(0.02)
        cut = len(self.scheduler.leases)
        self._hurry.set()
        for one in list(self.running.values()):
            one.stop_reason, one.cut = "shutting down", True
            one.stopping.set()
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        return cut

    def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.Grant():
                self._grant(effect)
            case events.Refuse():
                future, _ = self._pending.pop(effect.request_id, (None, 0.0))
                if future and not future.done():
                    future.set_exception(Refused(effect))
            case events.Start():
                one = Running(effect.instance_id, effect.model, time.monotonic())
                self.running[effect.instance_id] = one
                self.swaps.starting(effect.instance_id, effect.model, effect.asked_ms, _now_ms())
                self._spawn(self._live(one))
            case events.Stop():
                one = self.running[effect.instance_id]
                one.stop_reason, one.cut = effect.reason, effect.cut
                if effect.made_room_for:
                    self.swaps.told_to_go(effect.instance_id, one.model, effect.made_room_for, _now_ms())
                one.stopping.set()
            case events.Answer():
                answer = self._answers.pop(effect.command_id, None)
                if answer and not answer.done():
                    if effect.problem is None:
                        answer.set_result(None)
                    else:
                        answer.set_exception(Refused(events.Refuse(0, "load_failed", effect.problem)))
                        answer.exception()  # a preload has nobody who waits for it
            case events.Wake():
                self._wake_at(effect.at_ms)

    def _grant(self, grant: events.Grant) -> None:
        future, asked_at = self._pending.pop(grant.request_id, (None, 0.0))
        one = self.running[grant.instance_id]
        if future is None or future.done() or one.child is None or one.upstream is None:
            self.end(grant.request_id)
            return
        waited = (time.monotonic() - asked_at) * 1000
        instance = self.scheduler.instances[grant.instance_id]
        future.set_result(
            Lease(
                grant.request_id,
                one.model,
                one.instance_id,
                grant.slot,
                len(instance.slots),
                len(instance.leases) == 1,
                one.upstream,
                waited,
                max(0.0, instance.ready_ms - asked_at * 1000),
            )
        )

    def _wake_at(self, at_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at_ms / 1000 - time.monotonic()) + 0.001
        self._timer = asyncio.get_running_loop().call_later(delay, self.post, events.Tick())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one instance's life ---

    async def _live(self, one: Running) -> None:
        """From the start to the memory's return; every step is reported as an event."""
        demand = self.scheduler.instances[one.instance_id].demand
        self.note("loading", one.model)
        try:
            await self._load(one)
            assert one.child is not None
            await self._until_gone_or_stopped(one)
        except LaunchFailed as error:
            gone = one.child.gone.result() if one.child and one.child.gone.done() else None
            if not one.stopping.is_set():
                self.note("load failed", one.model, detail=error.what)
                again = gone is not None and self.on_load_failed(one.model, gone.log_tail)
                self.post(events.Exited(one.instance_id, bool(gone and gone.by_signal), str(error), again))
        except Exception as error:  # a fault of ours in one instance's life: its requests are told, the others live on
            log.exception("instance %s of %s", one.instance_id, one.model)
            self.post(events.Exited(one.instance_id, False, f"internal error: {error}"))
        finally:
            try:
                await self._clean_up(one, demand)
            except Exception:  # `Stopped` must follow, or its memory would count for ever
                log.exception("after the end of instance %s of %s", one.instance_id, one.model)
            finally:
                self.running.pop(one.instance_id, None)
                self.post(events.Stopped(one.instance_id))

    async def _clean_up(self, one: Running, demand: Mapping[str, int]) -> None:
        self.keeper.closed(one.instance_id)
        if one.upstream is not None:
            one.upstream.close()
        ended = one.child is None or one.child.gone.done()
        memory_back = self._watch_memory(demand, gone=ended)
        if one.child is not None and not ended:
            await one.child.stop()
        self.swaps.gone(one.instance_id, _now_ms())
        await memory_back()
        self.swaps.memory_back(one.instance_id, _now_ms())

    async def _load(self, one: Running) -> None:
        def on_progress(stage: str, share: float) -> None:
            one.progress = (stage, share)

        box = self._backend.boxes()[0]
        spec = self._spec_for(one.model)
        one.child = await self._backend.launch(box, spec, on_progress)
        stop = asyncio.ensure_future(one.stopping.wait())
        await first_of(one.child.ready, stop)
        stop.cancel()
        if one.stopping.is_set() and not one.child.ready.done():
            await one.child.stop()
            raise LaunchFailed("stopped while loading", where=one.model)
        load_ms = one.child.ready.result()
        one.upstream = Upstream(one.child.address)
        self.keeper.opened(one.instance_id, spec, one.upstream)
        one.progress = ("ready", 1.0)
        self.note("loaded", one.model, load_ms)
        swap = self.swaps.ready(one.instance_id, _now_ms())
        if swap is not None:
            swap.at = time.time()
            self.on_phases(swap.model, swap.phases_ms)
        self.post(events.Ready(one.instance_id, load_ms))

    async def _until_gone_or_stopped(self, one: Running) -> None:
        assert one.child is not None
        stop = asyncio.ensure_future(one.stopping.wait())
        await first_of(one.child.gone, stop)
        stop.cancel()
        if one.stopping.is_set():
            if not one.cut:
                await self._keep(one)
            began = time.monotonic()
            if one.upstream is not None:  # llama-server waits for its clients before it ends
                close = one.upstream.close if one.cut else one.upstream.close_idle
                close()
            await one.child.stop(CUT_PATIENCE_S if one.cut else STOP_PATIENCE_S)
            self.note("stopped", one.model, (time.monotonic() - began) * 1000, one.stop_reason)
            return
        gone = one.child.gone.result()
        self.note("crashed", one.model, detail=gone.explain())
        self.post(events.Exited(one.instance_id, gone.by_signal, gone.explain()))

    async def _keep(self, one: Running) -> None:
        assert one.child is not None
        keep = asyncio.ensure_future(self.keeper.keep(one.instance_id, KEEP_PATIENCE_S))
        hurry = asyncio.ensure_future(self._hurry.wait())
        await first_of(keep, hurry, one.child.gone)
        for task in (keep, hurry):
            task.cancel()
        self.swaps.kept(one.instance_id, _now_ms())

    def note(self, kind: str, model: str, ms: float | None = None, detail: str = "") -> None:
        """A line for the journal, the log, and whoever listens."""
        moment = Moment(time.time(), kind, model, ms, detail)
        self.journal.append(moment)
        self.on_moment(moment)
        took = f" in {ms:.0f} ms" if ms is not None else ""
        level = logging.WARNING if kind in ("load failed", "crashed", "probe failed") else logging.INFO
        log.log(level, "%s %s%s%s", model, kind, took, f": {detail}" if detail else "")


def _now_ms() -> float:
    return time.monotonic() * 1000


async def _is_answered(upstream: Upstream, method: str, path: bytes, body: bytes = b"") -> bool:
    headers = [(b"content-type", b"application/json")] if body else []
    answer = await upstream.ask(method, path, headers, body)
    try:
        await answer.read_all()
    finally:
        answer.close()
    return answer.status == 200
