"""Puts the engine together from a configuration, and takes a changed one in while it runs."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from variet import paths
from variet.engine import command_line, config_file, events, llama_server, logs
from variet.engine.auto.choice import Choice
from variet.engine.auto.chooser import Chooser
from variet.engine.awake import Wakefulness, inhibitor_for
from variet.engine.backends.base import LaunchSpec, StateMemory
from variet.engine.backends.local import LocalBackend
from variet.engine.config import EngineConfig, ModelConfig, TierConfig
from variet.engine.contexts import Contexts, Happening
from variet.engine.conversation import Chain
from variet.engine.facts import Facts
from variet.engine.feed import Feed
from variet.engine.fleet import Fleet, Moment
from variet.engine.habits import Habits
from variet.engine.hardware import Hardware, detect
from variet.engine.history import History
from variet.engine.housekeeping import Housekeeping
from variet.engine.instance import child_environment
from variet.engine.learned import Learned
from variet.engine.metrics import Metrics
from variet.engine.names import Names, UnknownName
from variet.engine.plan import Plan, make_plan, shape_of
from variet.engine.prefetch import Prefetch
from variet.engine.pulls import Puller, missing_models
from variet.engine.record import Record
from variet.engine.relay import Relay
from variet.engine.rescue import writes_calls_as_text
from variet.engine.scheduler import Phase
from variet.engine.snapshots import Snapshots, validity
from variet.engine.sources.base import ModelPaths, model_paths
from variet.engine.swaps import Swap
from variet.engine.view import View, swap_row

log = logging.getLogger("variet.engine")
_FIXED_AT_START = ("host", "port", "hosts", "cors_origins", "plain_http_on_lan")
_PAST_THE_CACHE = frozenset({"--direct-io", "-dio"})
_NOISE_MIB = 300  # what a desktop takes and gives back
Servers = dict[str | None, llama_server.LlamaServer]  # by the path that a model names; None: the default


class Engine:
    """Configuration, plan, fleet and relay of one running engine. Make it with `create`, then `start`."""

    def __init__(self, config: EngineConfig, config_path: Path, servers: Servers, hardware: Hardware) -> None:
        self.config = config
        self.config_path = config_path
        self.names = Names(config)
        self.servers = servers
        self.hardware = hardware
        self.models_dir = paths.models_dir()
        self.started_at = int(time.time())
        self.requests_done = 0
        self.recent: deque[Record] = deque(maxlen=200)  # requests that are over
        self.feed = Feed()
        self.listeners = 0  # to the feed, at the moment
        self.view = View(self)
        self.history = History(paths.state_dir() / "history.sqlite", config.history.keep_days)
        self.learned = Learned()
        self.tell: Callable[[Moment], None] = lambda _moment: None  # whoever shows a person what happens
        self.plan = self._make_plan()
        self.backend = LocalBackend(self.plan.capacity_mib, paths.state_dir() / "logs")
        absent = missing_models(config.used_models(), self.models_dir)
        self.fleet = Fleet(self.backend, self._terms(), self.spec_for, self.hardware.watch_vram, frozenset(absent))
        self.puller = Puller(self.models_dir, self._on_available)
        self.metrics = Metrics()
        self.fleet.scheduler.load_ms = {
            name: ms for name, model in config.all_models().items() if (ms := self.learned.of(name, model).load_ms)
        }
        self.fleet.on_moment = self._on_moment
        self.fleet.on_load_failed = self._on_load_failed
        self.fleet.on_phases = self.metrics.phases
        self.fleet.on_swap = self._on_swap
        self.contexts = Contexts(
            Snapshots(
                paths.state_dir() / "snapshots",
                int(config.context.disk_gib * 2**30),
                int(config.context.free_gib * 2**30),
            ),
            self._on_context,
        )
        self.contexts.enabled = config.context.keep
        self.fleet.keeper = self.contexts
        habits = Habits(paths.state_dir() / "habits.json")
        self.housekeeping = Housekeeping(self.fleet, self.contexts, habits, self._files_ahead, self._on_prefetch)
        self.chooser = Chooser(self)
        self.relay = Relay(self.fleet, self.contexts, self, self._on_done)
        self._awake = Wakefulness(inhibitor_for(), self.busy, self.fleet.probe)
        self._watching: list[asyncio.Task[None]] = []

    @classmethod
    async def create(cls, config_path: Path) -> Engine:
        """Raises ConfigError and BinaryMissing."""
        config = config_file.load(config_path)
        return cls(config, config_path, await _servers(config), detect(config.hardware))

    async def start(self) -> None:
        self._watching = [
            asyncio.create_task(self._awake.run()),
            asyncio.create_task(self.housekeeping.run(lambda: self.config)),
            asyncio.create_task(self.history.run()),
            asyncio.create_task(self.fleet.watch()),
        ]
        self._pull_missing()
        for name in self.config.scheduling.preload:
            self._preload(self.names.resolve(name).model)
        for name, model in self.config.used_models().items():
            if model.pinned:
                self._preload(name)

    async def stop(self, hurry: asyncio.Event | None = None) -> int:
        """Drain until the deadline or `hurry`, stop every child, and return how many requests were cut."""
        await self.puller.stop()
        cut = await self.fleet.shut_down(self.config.server.shutdown_s, hurry or asyncio.Event())
        await self.contexts.settle()
        self.feed.close()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self.backend.close()
        return cut

    def busy(self) -> bool:
        """Whether anything is under way that a sleep of the machine would break: answers, waits, loads, pulls."""
        state = self.fleet.scheduler
        loading = any(one.phase is Phase.STARTING for one in state.instances.values())
        pulling = any(not (pull.done or pull.problem) for pull in self.puller.pulls.values())
        return bool(state.leases or state.waiters or loading or pulling)

    async def reload(self) -> tuple[set[str], list[str]]:
        """Take the changed file in. Returns the models that will restart, and the keys that hold only after a restart
        of the engine. Raises VarietError and keeps the old configuration.
        """
        new = config_file.load(self.config_path)
        old = self.config
        servers = await _servers(new)
        stale = {name for name, spec in old.all_models().items() if new.all_models().get(name) != spec}
        if new.llama_server != old.llama_server:
            stale = set(old.all_models())
        self.config, self.names, self.servers = new, Names(new), servers
        self.contexts.enabled = new.context.keep
        self.history.keep_days = new.history.keep_days
        self.contexts.snapshots.most_bytes = int(new.context.disk_gib * 2**30)
        self.contexts.snapshots.free_bytes = int(new.context.free_gib * 2**30)
        self.plan = self._make_plan()
        absent = missing_models(new.used_models(), self.models_dir)
        self.fleet.post(events.Reconfigured(self._terms(), frozenset(stale), frozenset(absent)))
        self._pull_missing()
        waiting = [f"$.server.{key}" for key in _FIXED_AT_START if getattr(new.server, key) != getattr(old.server, key)]
        log.info("configuration reloaded; models that changed: %s", ", ".join(sorted(stale)) or "none")
        for key in waiting:
            log.warning("%s changed: it holds from the next start on", key)
        return stale, waiting

    def spec_for(self, name: str) -> LaunchSpec:
        """What to start for a model, by the configuration and plan of now."""
        model = self.config.model(name)
        server = self.servers[model.llama_server]
        files = model_paths(name, model, self.models_dir)
        snapshots = self.contexts.snapshots.place(name)
        facts = self.plan.facts.get(name)
        swa_full = shape_of(model, facts).swa_full if facts else bool(model.swa_full)
        split = self.plan.models[name].split
        flags = command_line.flags(name, model, files, split, str(snapshots), swa_full=swa_full)
        args = (*flags, *self.config.llama_server.args)
        visible = command_line.visible_gpus(self.plan.models[name].split)
        env = server.environment(child_environment({**visible, **self.config.llama_server.env, **model.env}))
        return LaunchSpec(
            model=name,
            binary=server.path,
            args=args,
            env=env,
            child_protocol=server.child_protocol,
            load_timeout_s=model.load_timeout_s,
            state_key=_state_key(server, args, env, files),
            memory=_memory(facts, swa_full=swa_full),
        )

    def rescues(self, tier: TierConfig | None, model: str) -> bool:
        """Whether calls that the model writes as text are to become calls."""
        if tier is not None and tier.rescue_tool_calls is not None:
            return tier.rescue_tool_calls
        facts = self.plan.facts.get(model)
        return facts is not None and writes_calls_as_text(facts.name)

    def facts_of(self, record: Record) -> dict[str, Any]:
        """Where a request stands now, for whoever waits for it."""
        return self.view.facts_of(record)

    def choose(self, body: Mapping[str, Any], chain: Chain) -> Choice:
        """The tier for a request that leaves it to the engine."""
        return self.chooser.choose(body, chain)

    def hint(self, name: str) -> None:
        """Somebody expects to need this tier or model next. Raises UnknownName."""
        self.housekeeping.hint(self.names.resolve(name).model)

    # --- for people ---

    def metrics_text(self) -> bytes:
        """The page of /metrics."""
        return self.metrics.text(
            self._planned_now(), events.without_count(self.plan.capacity_mib), len(self.fleet.scheduler.waiters)
        )

    def log_tail(self, name: str, lines: int) -> str | None:
        """The end of a model's log (by the name of a tier, model or alias), or of the `engine`'s own."""
        if name == "engine":
            path = logs.engine_log()
        else:
            try:
                path = self.backend.log_path(self.names.resolve(name).model)
            except UnknownName:
                return None
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1_000_000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:]) + "\n"

    # --- inside ---

    def _make_plan(self) -> Plan:
        return make_plan(self.config, self.hardware, self.models_dir, learned=self.learned)

    def _terms(self) -> events.Terms:
        scheduling = self.config.scheduling
        models = {}
        for name, model in self.config.all_models().items():
            side = name in self.config.side_models
            demand = dict(self.plan.models[name].demand_mib)
            if not side:
                demand[events.RESIDENT_COUNT] = 1
            models[name] = events.ModelTerms(
                slots=model.slots,
                demand=demand,
                queue_limit=model.queue_limit,
                idle_unload_ms=model.idle_unload_s * 1000 if model.idle_unload_s else None,
                pinned=model.pinned,
                side=side,
                problem=self.plan.models[name].problem,
            )
        limit = scheduling.max_resident or len(models) or 1
        return events.Terms(
            models=models,
            capacity={**self.plan.capacity_mib, events.RESIDENT_COUNT: limit},
            max_wait_ms=scheduling.max_wait_s * 1000,
            background_max_wait_ms=scheduling.background_max_wait_s * 1000,
            min_residency_ms=scheduling.min_residency_s * 1000,
            linger_share=scheduling.linger_share,
            linger_max_ms=scheduling.linger_max_s * 1000,
        )

    def _pull_missing(self) -> None:
        used: Mapping[str, ModelConfig] = self.config.used_models()
        absent = missing_models(used, self.models_dir)
        self.puller.start({name: used[name] for name in absent})

    def _preload(self, model: str) -> None:
        self.fleet.post(events.Command(self.fleet.new_id(), "preload", model, since_ms=time.monotonic() * 1000))

    def _on_available(self, model: str, problem: str | None) -> None:
        if problem is None:
            # The header can be read now: plan again with what it says.
            self.plan = self._make_plan()
            self.fleet.post(events.Reconfigured(self._terms()))
        self.fleet.available(model, problem)

    def _on_moment(self, moment: Moment) -> None:
        self.tell(moment)
        self.metrics.moment(moment)
        self.feed.publish("moment", functools.partial(asdict, moment))
        self.history.add("moment", moment.at, asdict(moment))
        if moment.kind == "loaded" and moment.ms is not None and moment.model in self.config.all_models():
            self.learned.loaded(moment.model, self.config.model(moment.model), moment.ms)

    def _on_swap(self, swap: Swap) -> None:
        self.feed.publish("swap", functools.partial(swap_row, swap))
        self.history.add("swap", swap.at, swap_row(swap))
        self.housekeeping.prefetcher.forget(swap.model)
        if swap.waited_for:
            asyncio.get_running_loop().call_soon(
                self.housekeeping.came, swap.model
            )  # not before the answer's first byte

    def _on_prefetch(self, one: Prefetch) -> None:
        self.metrics.prefetch(one)
        self.fleet.note("read ahead", one.model, one.ms, f"{one.read >> 20} MiB ({one.why}): {one.ended}")

    def _files_ahead(self, name: str) -> Sequence[Path]:
        """What the load of a model reads by way of the page cache."""
        model = self.config.model(name)
        if _PAST_THE_CACHE.intersection((*model.args, *self.config.llama_server.args)):
            return ()
        return [path for path in model_paths(name, model, self.models_dir).all() if path.is_file()]

    def _on_context(self, what: Happening) -> None:
        self.metrics.context(what)
        self.feed.publish("context", functools.partial(asdict, what))

    def _on_load_failed(self, model: str, last_lines: Sequence[str]) -> bool:
        """Where an allocation failed on a GPU, count more for it and plan again, smaller."""
        if model not in self.config.all_models() or not self.plan.models[model].split.gpu_indices:
            return False
        missing = self._taken_by_others(loading=model)
        if missing:
            log.warning("%s did not fit: others hold %s MiB more of the GPUs than at the start", model, missing)
            return False
        if not self.learned.failed(model, self.config.model(model), last_lines):
            return False
        self.plan = self._make_plan()
        self.fleet.post(events.Reconfigured(self._terms()))
        return self.plan.models[model].problem is None

    def _taken_by_others(self, loading: str) -> int:
        """MiB of VRAM that were free when the engine started, are not its own now, and are gone; 0 where unknown.

        A game that holds the card is no lesson about a model.
        """
        if self.hardware.free_vram is None:
            return 0
        free, own = self.hardware.free_vram(), self._planned_now(without=loading)
        gone = [gpu.free_mib - own.get(gpu.device, 0) - free.get(gpu.device, 0) for gpu in self.hardware.gpus]
        return sum(one for one in gone if one > _NOISE_MIB)

    def _planned_now(self, without: str = "") -> dict[str, int]:
        used: dict[str, int] = {}
        for one in self.fleet.scheduler.instances.values():
            if one.model == without:
                continue
            for device, amount in events.without_count(one.demand).items():
                used[device] = used.get(device, 0) + amount
        return used

    def _on_done(self, record: Record) -> None:
        self.requests_done += 1
        self.metrics.request(record)
        self.recent.append(record)
        self.feed.publish("request", functools.partial(self.view.request, record))
        self.history.add("request", record.began_at, self.view.request(record))
        first = None if record.first_byte_ms is None else round(record.first_byte_ms, 1)
        fields = {
            "request": record.request_id, "path": record.path, "tier": record.tier, "model": record.model,
            "outcome": record.outcome, "queue_ms": round(record.queue_ms, 1), "first_byte_ms": first,
            "total_ms": round(record.total_ms, 1), "prompt_tokens": record.prompt_tokens,
            "cached_tokens": record.cached_tokens, "output_tokens": record.output_tokens,
            "restored_tokens": record.restored_tokens, "restore_ms": round(record.restore_ms, 1),
        }  # fmt: skip
        log.info(
            "%s %s: %s in %.0f ms", record.path, record.tier or record.model, record.outcome, record.total_ms,
            extra={"fields": fields},
        )  # fmt: skip


def _memory(facts: Facts | None, *, swa_full: bool) -> StateMemory:
    if facts is None or facts.memory != "window":
        return facts.memory if facts else "plain"
    return "full window" if swa_full else "window"


def _state_key(server: llama_server.LlamaServer, args: Sequence[str], env: Mapping[str, str], files: ModelPaths) -> str:
    """Empty where a file cannot be read: the load will say so."""
    try:
        return validity(server.version, args, env, files.all())
    except OSError:
        return ""


async def _servers(config: EngineConfig) -> Servers:
    """The default llama-server under None, and those that single models name. Raises BinaryMissing."""
    named = {model.llama_server for model in config.all_models().values()} - {None}
    found: Servers = {None: await llama_server.discover(config.llama_server.path)}
    return found | {path: await llama_server.discover(path) for path in named}
