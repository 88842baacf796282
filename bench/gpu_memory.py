"""What the owner's five models take on a GPU and on the host, beside what the engine plans for them.

The models are hollow (their real shapes, every weight zero), so that nothing is downloaded. Each runs once with all the
GPU there is, and once with as much as an RTX 3060 has, where experts or layers stay on the host. Then the engine goes
through them with a conversation in each, and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
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
_PROMPT_TOKENS, _OUTPUT_TOKENS = 2_000, 16
_LOAD_S = 300
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
            for name in _ROUND:
                case = f"{name} {'again' if results.have('gpu_swap', name) else ''}".strip()
                prompt = [1000 + number % 5000 for number in range(_PROMPT_TOKENS)]
                body = {"model": name, "prompt": prompt, "n_predict": 4, "ignore_eos": True, "cache_prompt": True}
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
    taken = await _measured(binary, flags, placement)
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


async def _measured(binary: llama_server.LlamaServer, flags: tuple[str, ...], placement: Placement) -> _Taken:
    before = _used()
    port = servers.free_port()
    began = time.monotonic()
    async with _child(binary, flags, placement, port) as process, aiohttp.ClientSession() as session:
        await _answering(session, port, process)
        load_s = time.monotonic() - began
        began = time.monotonic()
        prompt = [1000 + number % 5000 for number in range(_PROMPT_TOKENS)]
        body = {"prompt": prompt, "n_predict": _OUTPUT_TOKENS, "ignore_eos": True}
        async with session.post(f"http://127.0.0.1:{port}/completion", json=body) as answer:
            told = await answer.text()
            if answer.status != 200:
                raise SystemExit(f"the prompt was refused: {told[:300]}")
        prompt_s = time.monotonic() - began
        gpu = _used() - before
        memory = psutil.Process(process.pid).memory_info()
        host = memory.rss >> 20
    began = time.monotonic()
    while _used() - before > 16 and time.monotonic() - began < 10:
        await asyncio.sleep(0.02)
    return _Taken(gpu, host, load_s, prompt_s, time.monotonic() - began)


@contextlib.asynccontextmanager
async def _child(
    binary: llama_server.LlamaServer, flags: tuple[str, ...], placement: Placement, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    env = {**binary.environment(os.environ), **command_line.visible_gpus(placement.split)}
    process = await asyncio.create_subprocess_exec(
        binary.path, *flags, "--port", str(port), env=env,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answering(session: aiohttp.ClientSession, port: int, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + _LOAD_S
    while time.monotonic() < deadline:
        if process.returncode is not None:
            raise SystemExit(f"llama-server ended with {process.returncode} while it loaded")
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise SystemExit("llama-server did not load in time")


def _used() -> int:
    """MiB in use on the first GPU, by NVML."""
    import pynvml

    pynvml.nvmlInit()
    try:
        used: int = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used
        return used >> 20
    finally:
        pynvml.nvmlShutdown()
