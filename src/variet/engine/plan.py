"""Reads the headers there are and plans every model: the bridge from files and hardware to the pure placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from variet import paths
from variet.engine import gguf_facts
from variet.engine.config import EngineConfig, ModelConfig
from variet.engine.facts import Facts
from variet.engine.hardware import Hardware
from variet.engine.learned import Learned
from variet.engine.ledger import fits
from variet.engine.memory import Shape, full_window_bytes, mib
from variet.engine.placement import HOST, Device, Placement, Room, Split, Wish, place
from variet.engine.sources.base import ModelPaths, model_paths
from variet.errors import ModelFileError

_FULL_WINDOW = 256 << 20  # bytes that being able to bring conversations back may cost


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements of all models in use; `together`: the largest sets of models that can be resident at once."""

    capacity_mib: Mapping[str, int]
    models: Mapping[str, Placement]
    facts: Mapping[str, Facts]
    together: tuple[tuple[str, ...], ...]


def make_plan(
    config: EngineConfig,
    hardware: Hardware,
    models_dir: Path,
    facts: Mapping[str, Facts] | None = None,
    learned: Learned | None = None,
) -> Plan:
    """Plan every model of the file. `facts` stand in for files that are not on this disk (headers read from a hub)."""
    room = room_for(config, hardware)
    known: dict[str, Facts] = {}
    placements: dict[str, Placement] = {}
    left = room
    for name, model in [*config.side_models.items(), *config.models.items()]:
        files = model_paths(name, model, models_dir)
        try:
            known[name] = (
                facts[name]
                if facts and name in facts
                else gguf_facts.read_files(files.model, paths.cache_dir() / "facts")
            )
        except ModelFileError as error:
            placements[name] = Placement(Split(), {HOST: 0}, problem=str(error))
            continue
        lesson = learned.of(name, model) if learned else None
        made = place(known[name], left, _wish(model, known[name], files, lesson.gpu_mib if lesson else 0))
        if lesson and lesson.load_ms:
            made = replace(made, load_s=lesson.load_ms / 1000, load_measured=True)
        trained = known[name].trained_context
        if trained and model.context_tokens > trained:
            beyond = f"context_tokens {model.context_tokens:,} is beyond the {trained:,} it was trained with"
            made = replace(made, why=(*made.why, f"{beyond}: expect worse answers there"))
        placements[name] = made
        if name in config.side_models and placements[name].problem is None:
            left = left.without(placements[name].demand_mib)  # set aside: tiers never reach into it
    return Plan(room.capacity, placements, known, _together(config, placements, left.capacity))


def room_for(config: EngineConfig, hardware: Hardware) -> Room:
    """Capacity less the configured margins; memory that others use already is not there."""
    margins = config.hardware
    gpus = tuple(
        Device(gpu.index, max(0, gpu.free_mib - margins.gpu_margin_mib), gpu.link_mib_per_s) for gpu in hardware.gpus
    )
    return Room(gpus, max(0, hardware.host_available_mib - margins.host_margin_mib), hardware.disk_read_mib_per_s)


def shape_of(model: ModelConfig, facts: Facts) -> Shape:
    """What memory depends on, with what the configuration leaves open decided."""
    shape = Shape(
        context_tokens=model.context_tokens,
        slots=model.slots,
        kv_type=model.kv_type,
        swa_full=bool(model.swa_full),
        micro_batch_tokens=model.micro_batch_tokens,
        checkpoints=model.context_checkpoints,
    )
    small = model.swa_full is None and facts.memory == "window" and full_window_bytes(facts, shape) <= _FULL_WINDOW
    return replace(shape, swa_full=True) if small else shape


def _wish(model: ModelConfig, facts: Facts, files: ModelPaths, learned_gpu_mib: int) -> Wish:
    def size(path: Path | None) -> int:
        return mib(path.stat().st_size) if path is not None and path.is_file() else 0

    extra = size(files.mmproj) + int(1.15 * size(files.draft)) + sum(size(one) for one in files.lora)
    return Wish(shape_of(model, facts), model.gpus, model.host_expert_layers, extra, learned_gpu_mib=learned_gpu_mib)


def _together(
    config: EngineConfig, placements: Mapping[str, Placement], capacity: Mapping[str, int]
) -> tuple[tuple[str, ...], ...]:
    """Maximal sets of tier models that fit at once, within `max_resident`."""
    names = [name for name in placements if name in config.models and placements[name].problem is None]
    limit = config.scheduling.max_resident or len(names)
    found: list[tuple[str, ...]] = []
    for size in range(min(limit, len(names)), 1, -1):
        for chosen in combinations(names, size):
            if any(set(chosen) <= set(larger) for larger in found):
                continue
            if fits({}, [placements[name].demand_mib for name in chosen], capacity):
                found.append(chosen)
    return tuple(found)
