"""What the owner's five models take on a GPU and on the host, beside what the engine plans for them.

The models are hollow (their real shapes, every weight zero), so that nothing is downloaded. Each runs once with all the
GPU there is, and once with as much as an RTX 3060 has, where experts or layers stay on the host. Then the engine goes
through them with a conversation in each, and back.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import psutil
from tests.support import headers

from bench import servers
from bench.results import Results
from variet.engine import command_line, config, config_file, hardware, llama_server, plan
from variet.engine.placement import HOST, Placement
from variet.engine.sources.base import ModelPaths
from variet.tiers import TIERS

_SMALL_GPU_MIB = 12_288
_PROMPT, _OUTPUT_TOKENS = [1000 + number % 5000 for number in range(2_000)], 16
_LOAD_S, _BACK_S = 300.0, 10.0
_SETTLED_MIB = 16
_ROUND = ("gemma-4-26b-a4b", "qwen3.5-35b-a3b", "qwen3.5-27b", "gemma-4-26b-a4b", "qwen3.5-35b-a3b", "qwen3.5-27b")


@dataclass(frozen=True, slots=True)
class _Taken:
    """MiB; `load_s` from the start to a server that answers; `back_s` from its end to all memory being free again."""

    gpu: int
    host: int
    load_s: float
    prompt_s: float
    back_s: float


async def run(results: Results, rounds: int) -> None:
    """Raises SystemExit where there is no GPU to ask."""
    machine = hardware.detect(config.HardwareConfig())
    if not machine.gpus:
        raise SystemExit("there is no NVIDIA GPU here: `gpu_memory` measures one")
    whole = config_file.load(servers.ROOT / "config" / "engine_models.json")
    binary = await llama_server.discover()
    for small in (False, True):
        one = machine.gpus[0]
        free = min(one.free_mib, _SMALL_GPU_MIB) if small else one.free_mib
        here = replace(machine, gpus=(replace(one, free_mib=free),))
        for name in headers.OWNER_MODELS:
            case = f"{name}, {'12 GiB of it' if small else 'all of it'}"
            if results.have("gpu_memory", case):
                continue
            with tempfile.TemporaryDirectory() as folder:
                file = headers.write_hollow(name, Path(folder) / f"{name}.gguf")
                await _case(results, case, whole, name, file, here, binary)

    if not results.have("gpu_swap", f"{_ROUND[-1]} again"):
        await _swaps(results)


async def _swaps(results: Results) -> None:
    """Every conversation is asked twice: what the second time reads again is what the swap between lost."""
    with tempfile.TemporaryDirectory() as folder:
        known = config_file.load(servers.ROOT / "config" / "engine_models.json").models
        models = {
            name: known[name].model_dump(mode="json", exclude_defaults=True)
            | {"files": {"model": f"path:{headers.write_hollow(name, Path(folder) / f'{name}.gguf')}"}}
            for name in dict.fromkeys(_ROUND)
        }
        tiers = {tier: {"model": name} for tier, name in zip(TIERS, models, strict=False)}
        tiers |= {tier: {"model": _ROUND[0]} for tier in TIERS if tier not in tiers}
        scheduling = {"max_resident": 1, "preload": [], "min_residency_s": 0}
        told = {"models": models, "tiers": tiers, "scheduling": scheduling}
        path = Path(folder, "engine_models.json")
        path.write_text(json.dumps(told), encoding="utf-8")
        async with servers.configured(path, Path(folder)) as peer, aiohttp.ClientSession(peer.url) as session:
            for order, name in enumerate(_ROUND):
                case = f"{name} again" if name in _ROUND[:order] else name
                body = {"model": name, "prompt": _PROMPT, "n_predict": 4, "ignore_eos": True, "cache_prompt": True}
                began = time.monotonic()
                async with session.post("/completion", json=body) as answer:
                    got = await answer.json()
                    if answer.status != 200:
                        raise SystemExit(f"{name}: {got}")
                whole = time.monotonic() - began
                async with session.get("/engine/status") as answer:
                    last = (await answer.json())["swaps"][-1]
                results.add("gpu_swap", case, "s", whole_s=round(whole, 2), phases_ms=last["phases_ms"],
                            read=got["timings"]["prompt_n"], cached=got["timings"].get("cache_n"))  # fmt: skip


async def _case(
    results: Results,
    case: str,
    whole: config.EngineConfig,
    name: str,
    file: Path,
    here: hardware.Hardware,
    binary: llama_server.LlamaServer,
) -> None:
    model = whole.models[name].model_copy(update={"files": config.ModelFiles(model=(f"path:{file}",))})
    one = whole.model_copy(update={"models": {name: model}, "side_models": {}})
    made = plan.make_plan(one, here, file.parent)
    placement = made.models[name]
    if placement.problem is not None:
        results.add("gpu_memory", case, "MiB", problem=placement.problem)
        return
    shape = plan.shape_of(model, made.facts[name])
    flags = command_line.flags(
        name, model, ModelPaths((file,), None, None, ()), placement.split, None, swa_full=shape.swa_full
    )
    taken = await _measured(binary, flags, placement, here)
    planned = {device: size for device, size in placement.demand_mib.items() if device != HOST}
    results.add(
        "gpu_memory", case, "MiB",
        median={
            "GPU planned": sum(planned.values()), "GPU taken": taken.gpu,
            "host planned": placement.demand_mib[HOST], "host taken": taken.host,
        },
        planned_load_s=round(placement.load_s, 1), load_s=round(taken.load_s, 1), prompt_s=round(taken.prompt_s, 2),
        back_s=round(taken.back_s, 2), host_expert_layers=placement.split.host_expert_layers,
        gpu_layers=placement.split.gpu_layers,
    )  # fmt: skip


async def _measured(
    binary: llama_server.LlamaServer, flags: tuple[str, ...], placement: Placement, machine: hardware.Hardware
) -> _Taken:
    before, port, began = _free(machine), servers.free_port(), time.monotonic()
    env = {**binary.environment(os.environ), **command_line.visible_gpus(placement.split)}
    command = (binary.path, *flags, "--port", str(port))
    async with servers.running("llama-server", command, env, port, _LOAD_S) as peer, aiohttp.ClientSession() as session:
        load_s, began = time.monotonic() - began, time.monotonic()
        body = {"prompt": _PROMPT, "n_predict": _OUTPUT_TOKENS, "ignore_eos": True}
        async with session.post(f"{peer.url}/completion", json=body) as answer:
            told = await answer.text()
            if answer.status != 200:
                raise SystemExit(f"the prompt was refused: {told[:300]}")
        prompt_s = time.monotonic() - began
        gpu = before - _free(machine)
        host = psutil.Process(peer.pid).memory_info().rss >> 20
    began = time.monotonic()
    while before - _free(machine) > _SETTLED_MIB and time.monotonic() - began < _BACK_S:
        await asyncio.sleep(0.02)
    return _Taken(gpu, host, load_s, prompt_s, time.monotonic() - began)


def _free(machine: hardware.Hardware) -> int:
    """MiB of the first GPU."""
    assert machine.free_vram is not None
    return machine.free_vram()[machine.gpus[0].device]
