"""Swap to first token for each ordered pair of embedded models, the engine beside llama-server's router.

Both keep one model at a time, read warm files, and get the same context, slots and device. The router runs as it comes,
and once more with the flags that the engine gives its children. A client pauses a second between its requests, and
before each some memory is touched and given back: a virtual machine whose host takes free memory away needs seconds to
get a gigabyte again, which would be all that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
from typing import Any

import aiohttp

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median

CIRCUIT = (0, 1, 0, 2, 1, 2, 0)  # passes each ordered pair of three models once
PAUSE_S = 1.0
WARM_BYTES = 3 << 29


async def run(results: Results, rounds: int) -> None:
    pairs = [(servers.MODELS[a], servers.MODELS[b]) for a, b in itertools.pairwise(CIRCUIT)]
    if all(results.have("swap", f"{a} -> {b}") for a, b in pairs):
        return
    async with contextlib.AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(servers.router(servers.MODELS, planned=False)),
            await stack.enter_async_context(servers.router(servers.MODELS, planned=True)),
            await stack.enter_async_context(servers.engine(servers.MODELS, {"scheduling": {"preload": []}})),
        ]
        times: dict[str, dict[tuple[str, str], list[float]]] = {peer.name: {} for peer in peers}
        phases: dict[tuple[str, str], list[dict[str, float]]] = {}
        for number in range(-1, rounds):  # the first round reads all files
            for peer in (*peers[number % len(peers) :], *peers[: number % len(peers)]):
                await _ask(peer, servers.MODELS[CIRCUIT[0]])
                for pair in pairs:
                    taken = await _ask(peer, pair[1])
                    if number < 0:
                        continue
                    times[peer.name].setdefault(pair, []).append(taken)
                    if peer is peers[-1]:
                        phases.setdefault(pair, []).append(await last_swap(peer, pair[1]))
            print(f"  swap round {number + 1} of {rounds} done", flush=True)
        for pair in pairs:
            medians = {name: median(taken[pair]) for name, taken in times.items()}
            each = {key: median([one.get(key, 0.0) for one in phases[pair]]) for key in phases[pair][0]}
            shipped = medians[peers[0].name]
            results.add(
                "swap", f"{pair[0]} -> {pair[1]}", "ms", median=medians, phases=each,
                ratio={name: value / shipped for name, value in medians.items() if name != peers[0].name},
            )  # fmt: skip


async def _ask(peer: servers.Peer, model: str) -> float:
    """Milliseconds to the first token, over a connection of its own."""
    await asyncio.sleep(PAUSE_S)
    warm_memory()
    body: dict[str, Any] = {"model": model, "prompt": "Once upon a time", "max_tokens": 1, "stream": True}
    line = Connection(peer.door())
    timed = await line.ask(request("/v1/completions", body))
    line.close()
    if timed.status != 200:
        raise SystemExit(f"{peer.name}: {timed.status} {timed.body[:300]!r}")
    return timed.first_ms


def warm_memory() -> None:
    with mmap.mmap(-1, WARM_BYTES) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        page = b"\1" * (1 << 20)
        for _ in range(WARM_BYTES // len(page)):
            memory.write(page)


async def last_swap(peer: servers.Peer, model: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{peer.url}/engine/status") as answer:
        last = (await answer.json())["swaps"][-1]
    assert last["model"] == model, last
    phases: dict[str, float] = last["phases_ms"]
    return phases
