"""What sits in which slot of which child, and how it gets there: saved before it is lost, restored before it is asked.

A conversation that left its slot (a swap, another conversation, a restart) comes back by its snapshot instead of being
read again. Nothing here may fail a request: what cannot be saved or restored is read again, and said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from variet.engine.backends.base import LaunchSpec, StateMemory
from variet.engine.conversation import Chain
from variet.engine.fitness import Fitness, FitnessBook
from variet.engine.fleet import Lease
from variet.engine.record import Record
from variet.engine.rewind import rewind
from variet.engine.snapshots import Snapshot, Snapshots
from variet.engine.upstream import Upstream, UpstreamError
from variet.engine.worth import Speeds, worth_restoring, worth_saving

log = logging.getLogger("variet.engine.contexts")
_ACTION_S = 60.0  # a save or restore that takes longer is given up
_REWIND_S = 5.0  # a child without a checkpoint near would read everything again
_STALL_MS = 200.0  # a save holds up the other answers of its child; so long is borne
_CHECK_HOLDS_S = 60.0
_HELD_SHARE = 0.5  # of the tokens expected, from which on a restore held

Outcome = Literal["saved", "save failed", "restored", "restore failed", "corrupt", "held", "did not hold"]


@dataclass(frozen=True, slots=True)
class Happening:
    """One save, restore or verdict, for metrics and the journal."""

    outcome: Outcome
    model: str
    tokens: int = 0
    size: int = 0
    ms: float = 0.0


@dataclass(slots=True)
class _Held:
    """What a slot holds. `lasting`: it may be kept on disk; `saved`: it is there already.

    `asked_by`: the request under way in it. Until that one is answered nobody knows what the slot holds, and nothing of
    it is saved; `before` is what it held, and holds still if the request is refused. `restored`: the snapshot that was
    brought back for it, whose worth the answer will tell. `asked` and `prompt_tokens`: the request that it answered
    last, where a rewind needs to know.
    """

    chain: Chain
    tokens: float
    lasting: bool
    saved: bool = False
    asked_by: int | None = None
    before: _Held | None = None
    restored: Snapshot | None = None
    asked: Mapping[str, Any] | None = None
    prompt_tokens: int = 0


@dataclass(slots=True)
class _Home:
    """One child that is up."""

    model: str
    key: str
    upstream: Upstream
    memory: StateMemory = "plain"
    slots: dict[int, _Held] = field(default_factory=dict)
    litter: set[str] = field(default_factory=set)  # saves that were given up: the child may still write them
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request finds in its slot: tokens expected to be reused, and what bringing them there took."""

    tokens: int = 0
    restored: bool = False
    ms: float = 0.0


class Contexts:
    """One an engine; used from its event loop only."""

    def __init__(self, snapshots: Snapshots, on_happening: Callable[[Happening], None] = lambda _: None) -> None:
        self.snapshots = snapshots
        self.enabled = True
        self.book = FitnessBook(snapshots.folder / "fitness.json")
        self._on_happening = on_happening
        self._homes: dict[int, _Home] = {}
        self._sealing: set[asyncio.Task[None]] = set()
        self._checks: dict[str, tuple[float, asyncio.Task[bool]]] = {}  # by snapshot: since when, and if it is whole

    # --- children come and go ---

    def opened(self, instance_id: int, spec: LaunchSpec, upstream: Upstream) -> None:
        """A child is ready, with empty slots. Without a `state_key` nothing of it is kept."""
        if spec.state_key:
            self._homes[instance_id] = _Home(spec.model, spec.state_key, upstream, spec.memory)
            self.book.seen(spec.state_key, spec.model).needs_checkpoints = spec.memory == "window"

    def overwritten(self, instance_id: int, slot: int | None) -> None:
        home = self._homes.get(instance_id)
        if home is not None and slot is not None:
            home.slots.pop(slot, None)

    def closed(self, instance_id: int) -> None:
        """The child is gone, or its states are not what they were."""
        home = self._homes.pop(instance_id, None)
        if home is not None:
            self._sweep(home)
            self.book.save()

    async def keep(self, instance_id: int, patience_s: float, *, resting: bool = False) -> None:
        """Save what is worth it of a child that answers nobody: it is about to stop, or is `resting`; then nothing is
        saved that would have to be rewound for it."""
        home = self._homes.get(instance_id)
        if home is None or (resting and self._is_exact(home)):
            return
        ends = time.monotonic() + patience_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await home.keeping.acquire()  # what is being saved already need not be saved twice
            try:
                await self._keep_all(home, ends)
            finally:
                home.keeping.release()

    async def _keep_all(self, home: _Home, ends: float) -> None:
        for slot in sorted(home.slots, key=lambda slot: -home.slots[slot].tokens):
            left = ends - time.monotonic()
            held = home.slots.get(slot)  # a request may have come meanwhile
            if held is None:
                continue
            if self._lost_with(home, held) and self._model(home).speeds.save_ms(held.tokens) / 1000 < left:
                await self._save(home, slot, held, left)

    async def settle(self) -> None:
        """Wait until everything that was saved can be found after a restart."""
        while self._sealing:
            await asyncio.wait(self._sealing)

    def read_ms_per_token(self, model: str) -> float | None:
        """How quickly a model that is loaded reads, where that was measured."""
        home = next((one for one in self._homes.values() if one.model == model), None)
        return self._model(home).speeds.read_ms_per_token if home else None

    def measured(self, model: str) -> tuple[Speeds, float]:
        """How quick a model is, and the bytes of a request that are one token to it; as it ran last."""
        key = self.book.latest(model)
        known = self.book.of(key, model) if key else Fitness(model)
        return known.speeds, known.bytes_per_token

    def spared_share(self, model: str, chain: Chain) -> float:
        """The part of a conversation that this model need not read again: a slot holds it, or it is kept."""
        slots = (held for home in self._homes.values() if home.model == model for held in home.slots.values())
        links = [held.chain.common(chain) for held in slots]
        key = self.book.latest(model)
        found = self.snapshots.find(key, chain) if key and self.enabled else None
        if found is not None:
            links.append(found[1])
        return chain.share(max(links, default=0))

    # --- a request ---

    def expect(self, model: str, chain: Chain) -> None:
        """A request begins to wait for a model: where that has to be loaded first, what will be restored for it is read
        and checked meanwhile."""
        if not chain.digests or any(home.model == model for home in self._homes.values()):
            return
        key = self.book.latest(model)
        found = self.snapshots.find(key, chain) if key and self.enabled else None
        if found is not None:
            self._check(found[0])

    def _check(self, one: Snapshot) -> asyncio.Task[bool]:
        """Whether its file is whole: what was found a moment ago holds."""
        oldest = time.monotonic() - _CHECK_HOLDS_S
        self._checks = {known: check for known, check in self._checks.items() if check[0] > oldest}
        if one.id not in self._checks:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self.snapshots.is_whole, one))
            self._checks[one.id] = time.monotonic(), task
        return self._checks[one.id][1]

    async def prepare(self, lease: Lease, chain: Chain, *, lasting: bool) -> Prepared:
        """Before the child is asked: save who sits in the slot, bring the conversation there.

        `lasting`: whether this conversation may be kept on disk.
        """
        home = self._homes.get(lease.instance_id)
        if home is None or lease.slot is None:
            return Prepared()
        began = time.monotonic()
        held = home.slots.get(lease.slot)
        own_links = held.chain.common(chain) if held else 0
        own_tokens = held.tokens * held.chain.share(own_links) if held else 0.0
        found = None
        if self.enabled and lasting and chain.digests:
            found = self.snapshots.find(home.key, chain, whole=self._is_exact(home))
        expected, restoring = own_tokens, None
        if found is not None and not self._model(home).unfit:
            tokens = found[0].tokens * found[0].chain.share(found[1])
            if worth_restoring(self._model(home).speeds, tokens - own_tokens, found[0].size):
                expected, restoring = tokens, found[0]
        home.slots.pop(lease.slot, None)  # whoever is cancelled from here on leaves a slot nobody knows
        borne = lease.alone or (held is not None and self._model(home).speeds.save_ms(held.tokens) < _STALL_MS)
        if held is not None and own_links < 2 and borne and self._lost_with(home, held):
            await self._save(home, lease.slot, held, _ACTION_S)
        if restoring is not None and await self._restore(home, lease.slot, restoring):
            held = _Held(restoring.chain, restoring.tokens, lasting, saved=True)
        else:
            restoring, expected = None, own_tokens
        home.slots[lease.slot] = _Held(
            chain, expected, lasting, asked_by=lease.request_id, before=held, restored=restoring
        )
        return Prepared(int(expected), restoring is not None, (time.monotonic() - began) * 1000)

    def answered(
        self, lease: Lease, chain: Chain, record: Record, *, lasting: bool, asked: Mapping[str, Any] | None = None
    ) -> None:
        """The child is done: the slot holds prompt and answer now, or what it held if it refused the request. `asked`:
        what the child was asked, as a chat or a completion."""
        home, held = self._asked(lease)
        if home is None or held is None or lease.slot is None:
            return
        if not record.prompt_tokens:
            if held.before is None:
                del home.slots[lease.slot]
            else:
                home.slots[lease.slot] = held.before
            return
        model = self._model(home)
        if chain.sizes:
            ratio = min(16.0, max(1.0, chain.sizes[-1] / record.prompt_tokens))
            model.bytes_per_token += 0.3 * (ratio - model.bytes_per_token)
        now = _Held(chain, record.prompt_tokens + record.output_tokens, lasting)
        if self._is_exact(home):
            now.asked, now.prompt_tokens = asked, record.prompt_tokens
        home.slots[lease.slot] = now
        if record.prefill_ms is not None:
            model.speeds = model.speeds.read(record.prompt_tokens - record.cached_tokens, record.prefill_ms)
        if record.write_ms is not None:
            model.speeds = model.speeds.written(record.output_tokens, record.write_ms)
        if held.restored is not None:
            # What was promised is the prompt that the chain is of; the answer behind it may be asked for again, or be
            # told otherwise. And of a prompt its last token is always read.
            asked_for = held.restored.chain.sizes[-1] / model.bytes_per_token if held.restored.chain.sizes else 0.0
            promised = min(held.tokens, asked_for or held.tokens, record.prompt_tokens - 1)
            self._judge(home, model, held.restored, promised, cached=record.cached_tokens)

    def left(self, lease: Lease, *, read: bool) -> None:
        """The request is over. Without a whole answer, and if `read`, the slot holds its prompt at least; else nobody
        knows what it holds."""
        home, held = self._asked(lease)
        if home is None or held is None or lease.slot is None:
            return
        del home.slots[lease.slot]
        if read and held.chain.sizes:
            guess = held.chain.sizes[-1] / self._model(home).bytes_per_token
            home.slots[lease.slot] = _Held(held.chain, guess, held.lasting)

    def _asked(self, lease: Lease) -> tuple[_Home | None, _Held | None]:
        """The slot of a lease, while it is this request that is under way there."""
        home = self._homes.get(lease.instance_id)
        held = home.slots.get(lease.slot) if home is not None and lease.slot is not None else None
        return home, held if held is not None and held.asked_by == lease.request_id else None

    # --- inside ---

    def _model(self, home: _Home) -> Fitness:
        return self.book.of(home.key, home.model)

    def _is_exact(self, home: _Home) -> bool:
        """Whether a state of this child serves only what goes on exactly where it ends (rewind.py)."""
        return home.memory in ("recurrent", "full window") and not self._model(home).checkpoints

    def _lost_with(self, home: _Home, held: _Held) -> bool:
        """Whether it is worth a save that this is not lost."""
        model = self._model(home)
        known = held.asked_by is None and not held.saved and bool(held.chain.digests)
        if not self.enabled or not held.lasting or not known or model.unfit:
            return False
        if self._is_exact(home) and held.asked is None:
            return False
        return worth_saving(model.speeds, held.tokens)

    async def _save(self, home: _Home, slot: int, held: _Held, patience_s: float) -> None:
        model = self._model(home)
        snapshot_id, began = self.snapshots.new_id(), time.monotonic()
        try:
            if not self.snapshots.room_for(int(model.speeds.size(held.tokens))):
                log.info("%s: no room on disk to keep a conversation of %d tokens", home.model, held.tokens)
                return
            if self._is_exact(home) and not await self._rewound(home, slot, held, patience_s):
                return
            try:
                said = await self._act(home, slot, "save", snapshot_id, patience_s)
            except BaseException:  # given up: the child may still write it
                home.litter.add(snapshot_id)
                raise
            if int(said["n_saved"]) < held.tokens * _HELD_SHARE:
                raise ValueError(f"the slot has {said['n_saved']} tokens, not that conversation")
            one = self.snapshots.add(snapshot_id, home.model, home.key, held.chain, int(said["n_saved"]))
        except (UpstreamError, OSError, ValueError, KeyError, TypeError) as error:
            self.snapshots.discard(home.model, snapshot_id)
            log.warning("%s: a conversation of %d tokens was not kept: %s", home.model, held.tokens, error)
            self._on_happening(Happening("save failed", home.model, int(held.tokens)))
            return
        self._sweep(home)  # the child works one by one: what was given up before is written by now
        held.saved = True
        ms = (time.monotonic() - began) * 1000
        model.speeds = model.speeds.saved(one.tokens, one.size, ms)
        task = asyncio.get_running_loop().create_task(self._seal(home, one))
        self._sealing.add(task)
        task.add_done_callback(self._sealing.discard)
        self._on_happening(Happening("saved", home.model, one.tokens, one.size, ms))

    def _sweep(self, home: _Home) -> None:
        for snapshot_id in home.litter:
            self.snapshots.discard(home.model, snapshot_id)
        home.litter.clear()

    async def _rewound(self, home: _Home, slot: int, held: _Held, patience_s: float) -> bool:
        """Whether the slot now ends where the next request will go on, whatever it says."""
        assert held.asked is not None
        try:
            async with asyncio.timeout(min(patience_s, _REWIND_S)):
                tokens = await rewind(home.upstream, slot, held.asked, held.prompt_tokens)
        except (TimeoutError, UpstreamError, ValueError):
            self._model(home).unrewound += 1
            raise
        self._model(home).unrewound = 0
        if tokens is None:
            log.info("%s: a conversation of %d tokens cannot be rewound and is not kept", home.model, held.tokens)
            return False
        held.tokens = tokens
        return True

    async def _seal(self, home: _Home, one: Snapshot) -> None:
        try:
            if home.memory in ("window", "recurrent") and self._model(home).checkpoints is None:
                await self._look_for_checkpoints(home, one)
            self.snapshots.seal(one, await asyncio.to_thread(self.snapshots.checksum, one))
        except OSError as error:
            log.warning("%s: a kept conversation will not outlive the engine: %s", one.model, error)

    async def _look_for_checkpoints(self, home: _Home, one: Snapshot) -> None:
        """Newer builds save with a state what lets it be rolled back; without that a window's state is of no use."""
        model = self._model(home)
        model.checkpoints = await asyncio.to_thread(self.snapshots.has_checkpoints, one)
        self.book.save()
        if home.memory == "window" and not model.checkpoints:
            self.snapshots.forget(one)
            log.warning(
                "%s: this llama.cpp build does not save what a sliding window needs, so conversations of it are not "
                "kept; builds from b11506 on do, and so does `swa_full: true` for a small model",
                home.model,
            )

    async def _restore(self, home: _Home, slot: int, one: Snapshot) -> bool:
        began = time.monotonic()
        if not await asyncio.shield(self._check(one)):
            self.snapshots.forget(one)
            log.warning(
                "%s: the snapshot %s is damaged and was dropped; its conversation is read again", one.model, one.id
            )
            self._on_happening(Happening("corrupt", home.model, one.tokens, one.size))
            return False
        try:
            await self._act(home, slot, "restore", one.id, _ACTION_S)
        except (UpstreamError, OSError, ValueError) as error:
            self.snapshots.forget(one)  # also where the child died of it: the next one must not
            log.warning("%s: the snapshot %s could not be restored and was dropped: %s", one.model, one.id, error)
            self._on_happening(Happening("restore failed", home.model, one.tokens, one.size))
            return False
        ms = (time.monotonic() - began) * 1000
        model = self._model(home)
        model.speeds = model.speeds.restored(one.size, ms)
        self.snapshots.touch(one)
        self._on_happening(Happening("restored", home.model, one.tokens, one.size, ms))
        return True

    async def _act(self, home: _Home, slot: int, action: str, snapshot_id: str, patience_s: float) -> dict[str, Any]:
        """Ask a child to write or read a slot's state. Raises UpstreamError, TimeoutError (an OSError), ValueError."""
        body = json.dumps({"filename": f"{snapshot_id}.kv"}).encode()
        path = f"/slots/{slot}?action={action}".encode()
        async with asyncio.timeout(patience_s):
            answer = await home.upstream.ask("POST", path, [(b"content-type", b"application/json")], body)
            try:
                text = await answer.read_all()
            finally:
                answer.close()
        if answer.status != 200:
            raise ValueError(f"llama-server answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")
        said: dict[str, Any] = json.loads(text)
        return said

    def _judge(self, home: _Home, model: Fitness, one: Snapshot, expected: float, cached: int) -> None:
        """Whether a restore spared what it promised, by the child's own count."""
        if cached >= expected * _HELD_SHARE:
            model.held, model.missed = model.held + 1, 0
            self._on_happening(Happening("held", home.model, cached))
            return
        model.missed += 1
        self.snapshots.forget(one)
        self._on_happening(Happening("did not hold", home.model, cached))
        self.book.save()
        more = (
            "; no more conversations of it are kept until its file, flags or llama.cpp build change"
            if model.unfit
            else ""
        )
        log.warning(
            "%s: a restored conversation was read again (%d of about %d tokens reused)%s",
            home.model, cached, expected, more,
        )  # fmt: skip
