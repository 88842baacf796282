"""What reading ahead spares: the wait for a model behind another's answer, its file on disk or in memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median
from bench.swaps import warm_memory
from variet.engine import page_cache

_TOKENS = 60  # of the answer that the next model waits behind


async def run(results: Results, rounds: int) -> None:
    before, after = servers.MODELS[0], servers.MODELS[2]
    case = f"{before} -> {after}"
    if results.have("prefetch", case):
        return
    file = servers.model_file(after)
    taken: dict[str, list[float]] = {}
    for ahead in (False, True):
        scheduling: dict[str, Any] = {"scheduling": {"preload": [], "prefetch": ahead}}
        async with servers.engine(servers.MODELS, scheduling) as peer:
            for _ in range(rounds):
                for warm in (True, False) if not ahead else (False,):
                    name = "in memory" if warm else "on disk, read ahead" if ahead else "on disk"
                    taken.setdefault(name, []).append(await _swap(peer, before, after, file, warm=warm))
    results.add("prefetch", case, "ms", median={name: median(times) for name, times in taken.items()})


async def _swap(peer: servers.Peer, before: str, after: str, file: Path, *, warm: bool) -> float:
    """Milliseconds from the end of the answer before it to the first token of the model that waited."""
    body: dict[str, Any] = {"model": before, "prompt": "Once upon a time", "max_tokens": 1, "stream": True}
    await _ask(peer, body)
    warm_memory()
    if warm:
        for offset, length in page_cache.absent(file):
            page_cache.read(file, offset, length)
    else:
        _drop(file)
    loop = asyncio.get_running_loop()
    answering = asyncio.create_task(_ask(peer, {**body, "max_tokens": _TOKENS, "ignore_eos": True}))
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(_ask(peer, {**body, "model": after}))
    await answering
    began = loop.time()
    await waiting
    return (loop.time() - began) * 1000


def _drop(file: Path) -> None:
    with file.open("rb") as opened:
        for _ in range(50):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if page_cache.cached_share(file) == 0.0:
                return
    raise SystemExit(f"{file} stays in memory: somebody uses it")


async def _ask(peer: servers.Peer, body: dict[str, Any]) -> None:
    line = Connection(peer.door())
    timed = await line.ask(request("/v1/completions", body))
    line.close()
    if timed.status != 200:
        raise SystemExit(f"{peer.name}: {timed.status} {timed.body[:300]!r}")
