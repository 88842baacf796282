"""Pure: facts + hardware + wishes -> which GPUs a model uses, how it is split, and the MiB it takes on each device.

Never plans memory that is not there; the same input always gives the same plan; every plan says why it is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from variet.engine import memory
from variet.engine.facts import Facts
from variet.engine.memory import MIB, Shape, mib

HOST = "host"
# What speed is compared by, where nothing was measured yet: one turn of a coding conversation.
_TURN_PROMPT_TOKENS = 4096
_TURN_OUTPUT_TOKENS = 512
_GPU_MIB_PER_S = 300_000
_HOST_MIB_PER_S = 35_000


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as placement sees it: MiB that may be planned, and what its link carries."""

    index: int
    free_mib: int
    link_mib_per_s: float

    @property
    def name(self) -> str:
        return f"gpu{self.index}"


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to plan with, margins already taken off."""

    gpus: tuple[Device, ...]
    host_mib: int
    disk_mib_per_s: float

    @property
    def capacity(self) -> dict[str, int]:
        return {HOST: self.host_mib, **{gpu.name: gpu.free_mib for gpu in self.gpus}}

    def without(self, demand: Mapping[str, int]) -> Room:
        """What is left when `demand` is taken."""
        gpus = tuple(replace(gpu, free_mib=max(0, gpu.free_mib - demand.get(gpu.name, 0))) for gpu in self.gpus)
        return replace(self, gpus=gpus, host_mib=max(0, self.host_mib - demand.get(HOST, 0)))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the owner asks of a placement."""

    shape: Shape
    gpus: str | tuple[int, ...] = "auto"
    host_expert_layers: int | None = None
    extra_gpu_mib: int = 0  # projector, draft model
    learned_gpu_mib: int = 0  # on each GPU: what an allocation that failed has taught (learned.py)
    extra_host_mib: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """How llama-server is to split a model; command_line.py turns it into flags."""

    gpu_indices: tuple[int, ...] = ()
    tensor_split: tuple[float, ...] = ()
    host_expert_layers: int = 0
    gpu_layers: int | None = None  # the last so many, the head counted; None: all


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model runs. `problem` says why it cannot; the demand is then what the least bad try would take."""

    split: Split
    demand_mib: Mapping[str, int]
    load_s: float = 0.0
    turn_s: float = 0.0
    why: tuple[str, ...] = ()
    problem: str | None = None
    load_measured: bool = False  # load_s is not the estimate but the last load's time


@dataclass(frozen=True, slots=True)
class _Try:
    gpus: tuple[Device, ...]
    counts: tuple[int, ...]  # layers per GPU, the head counted with the last
    host_experts: int
    host_layers: int  # the first so many stay on the host as a whole
    demand: dict[str, int] = field(default_factory=dict)


def place(facts: Facts, room: Room, wish: Wish) -> Placement:
    """The best placement of one model in an otherwise empty machine."""
    chosen = _gpu_sets(facts, room, wish)
    if chosen is None:
        missing = [index for index in wish.gpus if index not in {gpu.index for gpu in room.gpus}]
        return Placement(
            Split(), {HOST: 0}, problem=f"there is no GPU {missing[0]}" if missing else "no GPU is allowed"
        )
    if not chosen:
        return _on_host(facts, room, wish)
    plans = [plan for gpus in chosen if (plan := _on_gpus(facts, room, wish, gpus))]
    fitting = [plan for plan in plans if _fits(plan.demand, room)]
    if not fitting and wish.host_expert_layers is None:
        partial = [plan for gpus in chosen if (plan := _partly(facts, room, wish, gpus))]
        if partial:
            best = min(partial, key=lambda plan: (_turn_s(facts, plan), plan.counts))
            return _placement(facts, room, wish, best, partial)
        host = _on_host(facts, room, wish)
        if wish.gpus == "auto" and host.problem is None:
            return replace(host, why=("no GPU has room for even one of its layers: runs on the processor",))
    if not fitting:
        return _explain_failure(facts, room, wish, plans)
    if facts.experts:
        best = min(fitting, key=lambda plan: (_turn_s(facts, plan), len(plan.gpus), plan.counts))
    else:
        best = max(fitting, key=lambda plan: (len(plan.gpus), -_turn_s(facts, plan)))  # dense: over all that have room
    return _placement(facts, room, wish, best, fitting)


def _gpu_sets(facts: Facts, room: Room, wish: Wish) -> list[tuple[Device, ...]] | None:
    """Sets of GPUs to try; empty: the host alone; None: a GPU was named that is not there."""
    if wish.gpus == "none" or (not room.gpus and isinstance(wish.gpus, str)):
        return []
    if isinstance(wish.gpus, tuple):
        named = tuple(gpu for gpu in room.gpus if gpu.index in wish.gpus)
        return [named] if len(named) == len(set(wish.gpus)) and named else None
    if wish.gpus == "all":
        return [room.gpus]
    return [chosen for size in range(1, len(room.gpus) + 1) for chosen in combinations(room.gpus, size)]


# --- host ---


def _on_host(facts: Facts, room: Room, wish: Wish) -> Placement:
    size = host_process_mib(facts, wish.shape) + wish.extra_host_mib + wish.extra_gpu_mib
    problem = None
    if size > room.host_mib:
        problem = f"it takes {size:,} MiB of host memory and {room.host_mib:,} may be planned" + _advice(wish)
    read_s = facts.file_weight_bytes / MIB / room.disk_mib_per_s
    turn = _TURN_OUTPUT_TOKENS * _active_mib(facts) / _HOST_MIB_PER_S
    return Placement(Split(), {HOST: size}, read_s + 0.3, turn, ("runs on the processor",), problem)


def host_process_mib(facts: Facts, shape: Shape) -> int:
    """Resident memory of a llama-server that runs the whole model on the processor."""
    weights = facts.file_weight_bytes
    cache = sum(memory.kv_bytes(layer, shape) for layer in facts.layers)
    buffers = memory.compute_bytes(facts, shape) + memory.output_bytes(facts, shape)
    tables = memory.VOCABULARY_BYTES * facts.vocabulary
    kept = facts.repacked_bytes + memory.checkpoint_bytes(facts, shape)
    return memory.PROCESS_MIB + mib(weights + cache + buffers + tables + kept)


# --- GPUs ---


def _on_gpus(facts: Facts, room: Room, wish: Wish, gpus: tuple[Device, ...]) -> _Try | None:
    """The split over these GPUs with the fewest expert layers on the host that fits; else with the most."""
    layers = len(facts.layers)
    if wish.host_expert_layers is not None:
        options: Sequence[int] = [min(wish.host_expert_layers, layers)]
    else:
        options = range(layers + 1) if facts.experts else [0]
    last: _Try | None = None
    for host_experts in options:
        last = _balance(facts, wish, gpus, host_experts)
        if _fits(last.demand, room):
            return last
    return last


def _partly(facts: Facts, room: Room, wish: Wish, gpus: tuple[Device, ...]) -> _Try | None:
    """What does not fit as a whole still runs, slowly: the fewest first layers on the host that let the rest fit."""
    for host_layers in range(1, len(facts.layers) + 1):
        if len(facts.layers) + 1 - host_layers < len(gpus):
            return None
        plan = _balance(facts, wish, gpus, len(facts.layers) if facts.experts else 0, host_layers)
        if _fits(plan.demand, room):
            return plan
    return None


def _balance(facts: Facts, wish: Wish, gpus: tuple[Device, ...], host_experts: int, host_layers: int = 0) -> _Try:
    """Contiguous layers per GPU in proportion to free memory, then moved by single layers while that evens the fill."""
    items = len(facts.layers) + 1 - host_layers  # the head is one more
    total = sum(gpu.free_mib for gpu in gpus)
    counts = [max(1, round(items * gpu.free_mib / total)) for gpu in gpus] if total else [1] * len(gpus)
    counts[-1] = max(1, items - sum(counts[:-1]))
    while sum(counts) > items:
        counts[counts.index(max(counts))] -= 1
    best = tuple(counts)

    def fill(counts: tuple[int, ...]) -> float:
        demand = _demand(facts, wish, _Try(gpus, counts, host_experts, host_layers))
        return max(demand[gpu.name] / max(1, gpu.free_mib) for gpu in gpus)

    score = fill(best)
    improved = True
    while improved:
        improved = False
        for left in range(len(gpus) - 1):
            for step in (-1, 1):
                moved = list(best)
                moved[left] += step
                moved[left + 1] -= step
                if min(moved) < 1:
                    continue
                value = fill(tuple(moved))
                if value < score:
                    best, score, improved = tuple(moved), value, True
    chosen = _Try(gpus, best, host_experts, host_layers)
    return replace(chosen, demand=_demand(facts, wish, chosen))


def _demand(facts: Facts, wish: Wish, plan: _Try) -> dict[str, int]:
    """MiB per device. llama.cpp puts layer i on the first GPU whose share it does not exceed, the head on the last."""
    demand: dict[str, int] = {}
    host = facts.embedding_bytes
    largest = 0  # of what a prefill copies through a link
    for layer in facts.layers[: plan.host_layers]:
        weights = layer.dense_bytes + layer.expert_bytes
        host += weights + memory.kv_bytes(layer, wish.shape)
        largest = max(largest, layer.largest_expert_bytes, layer.dense_bytes // 2)
    start = plan.host_layers
    for order, (gpu, count) in enumerate(zip(plan.gpus, plan.counts, strict=True)):
        layers = range(start, min(start + count, len(facts.layers)))
        start += count
        size, streamed = 0, largest if order == 0 else 0
        for index in layers:
            layer = facts.layers[index]
            size += layer.dense_bytes + memory.kv_bytes(layer, wish.shape)
            if index < plan.host_experts:
                host += layer.expert_bytes
                streamed = max(streamed, layer.largest_expert_bytes)
            else:
                size += layer.expert_bytes
        last = order == len(plan.gpus) - 1
        size += facts.output_bytes if last else 0
        # A prefill copies host weights through the link, two tensors in flight.
        size += memory.compute_bytes(facts, wish.shape) + 2 * streamed
        extra = wish.extra_gpu_mib if order == 0 else 0
        own = memory.GPU_CONTEXT_MIB + (memory.EXPERT_SCRATCH_MIB if facts.experts else 0)
        demand[gpu.name] = mib(size) + own + extra + wish.learned_gpu_mib
    kept = memory.checkpoint_bytes(facts, wish.shape) + memory.output_bytes(facts, wish.shape)
    demand[HOST] = (
        mib(host + kept + memory.VOCABULARY_BYTES * facts.vocabulary)
        + memory.HOST_GPU_PROCESS_MIB
        + wish.extra_host_mib
    )
    return demand


def _fits(demand: Mapping[str, int], room: Room) -> bool:
    capacity = room.capacity
    return all(amount <= capacity.get(device, 0) for device, amount in demand.items())


def _active_mib(facts: Facts) -> float:
    """MiB that one token reads: dense weights, and of the experts those in use."""
    share = facts.experts_used / facts.experts if facts.experts else 0.0
    dense = sum(layer.dense_bytes for layer in facts.layers) + facts.output_bytes
    return (dense + share * sum(layer.expert_bytes for layer in facts.layers)) / MIB


def _turn_s(facts: Facts, plan: _Try) -> float:
    """Predicted seconds of a typical turn: a prefill streams each host expert layer once per micro-batch through the
    link of the GPU that owns the layer; a generated token reads its active weights where they lie."""
    share = facts.experts_used / facts.experts if facts.experts else 0.0
    batches = _TURN_PROMPT_TOKENS / 512
    prefill = decode = 0.0
    for layer in facts.layers[: plan.host_layers]:
        weights = layer.dense_bytes + share * layer.expert_bytes
        prefill += batches * (layer.dense_bytes + layer.expert_bytes) / MIB / plan.gpus[0].link_mib_per_s
        decode += weights / MIB / _HOST_MIB_PER_S
    start = plan.host_layers
    for gpu, count in zip(plan.gpus, plan.counts, strict=True):
        for index in range(start, min(start + count, len(facts.layers))):
            layer = facts.layers[index]
            decode += layer.dense_bytes / MIB / _GPU_MIB_PER_S
            active = share * layer.expert_bytes / MIB
            if index < plan.host_experts:
                prefill += batches * layer.expert_bytes / MIB / gpu.link_mib_per_s
                decode += active / _HOST_MIB_PER_S
            else:
                decode += active / _GPU_MIB_PER_S
        start += count
    decode += facts.output_bytes / MIB / _GPU_MIB_PER_S
    return prefill + _TURN_OUTPUT_TOKENS * decode


def _load_s(facts: Facts, room: Room, plan: _Try) -> float:
    """Reading from disk and copying over each link overlap; the slowest decides."""
    from_disk = facts.file_weight_bytes / MIB / room.disk_mib_per_s
    start, copies = plan.host_layers, 0.0
    for order, (gpu, count) in enumerate(zip(plan.gpus, plan.counts, strict=True)):
        size = facts.output_bytes if order == len(plan.gpus) - 1 else 0
        for index in range(start, min(start + count, len(facts.layers))):
            layer = facts.layers[index]
            size += layer.dense_bytes + (layer.expert_bytes if index >= plan.host_experts else 0)
        start += count
        copies += size / MIB / gpu.link_mib_per_s
    return max(from_disk, copies) + 0.5


def _placement(facts: Facts, room: Room, wish: Wish, best: _Try, fitting: Sequence[_Try]) -> Placement:
    names = " and ".join(f"GPU {gpu.index}" for gpu in best.gpus)
    why = [f"{'all layers' if not best.host_experts else 'attention and shared weights'} on {names}"]
    if best.host_layers:
        kept = f"the first {best.host_layers} of {len(facts.layers)} layers on the processor, the fewest that fit: slow"
        why = [f"too large for {names}: {kept}" + _advice(wish)]
    elif best.host_experts:
        why.append(f"experts of {best.host_experts} of {len(facts.layers)} layers on the host, the fewest that fit")
    for other in fitting:
        if other is not best:
            where = " and ".join(f"GPU {gpu.index}" for gpu in other.gpus)
            why.append(
                f"on {where} a turn would take {_turn_s(facts, other):.0f} s instead of {_turn_s(facts, best):.0f} s "
                f"({other.host_experts} expert layers on the host)"
            )
    split = Split(
        tuple(gpu.index for gpu in best.gpus), tuple(float(count) for count in best.counts), best.host_experts,
        sum(best.counts) if best.host_layers else None,
    )  # fmt: skip
    return Placement(split, best.demand, _load_s(facts, room, best), _turn_s(facts, best), tuple(why))


def _explain_failure(facts: Facts, room: Room, wish: Wish, plans: Sequence[_Try]) -> Placement:
    capacity = room.capacity

    def excess(plan: _Try) -> int:
        return sum(max(0, amount - capacity.get(device, 0)) for device, amount in plan.demand.items())

    nearest = min(plans, key=excess)
    short = [
        f"{device} {amount:,} of {capacity.get(device, 0):,} MiB"
        for device, amount in nearest.demand.items()
        if amount > capacity.get(device, 0)
    ]
    split = Split(tuple(gpu.index for gpu in nearest.gpus), tuple(map(float, nearest.counts)), nearest.host_experts)
    return Placement(split, nearest.demand, problem=f"it would take {', '.join(short)}" + _advice(wish))


def _advice(wish: Wish) -> str:
    ways = ["a smaller file"]
    if wish.shape.context_tokens > 4096:
        ways.insert(0, f"a smaller context_tokens than {wish.shape.context_tokens:,}")
    if wish.shape.kv_type in ("f16", "f32", "bf16"):
        ways.insert(0, 'kv_type "q8_0"')
    if wish.shape.slots > 1:
        ways.insert(0, "fewer slots")
    return f"; try {', '.join(ways)}"
