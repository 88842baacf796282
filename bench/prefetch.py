"""What reading ahead spares: the wait for a model behind another's answer, its file on disk or in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median
from bench.swaps import warm_memory
from variet.engine import page_cache

_TOKENS = 400  # of the answer that the next model waits behind


async def run(results: Results, rounds: int) -> None:
    before, after = servers.MODELS[0], servers.MODELS[2]
    case = f"{before} -> {after}"
    if results.have("prefetch", case):
        return
    file = servers.model_file(after)
    taken: dict[str, list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        plain, ahead = [
            await stack.enter_async_context(
                servers.engine(servers.MODELS, {"scheduling": {"preload": [], "prefetch": wished}})
            )
            for wished in (False, True)
        ]
        cases = (("in memory", plain, True), ("on disk", plain, False), ("on disk, read ahead", ahead, False))
        for _ in range(rounds):
            for name, peer, warm in cases:
                taken.setdefault(name, []).append(await _swap(peer, before, after, file, warm=warm))
                await _ask(peer, _question(before))  # the file must be nobody's when it is dropped
    results.add("prefetch", case, "ms", median={name: median(times) for name, times in taken.items()})


async def _swap(peer: servers.Peer, before: str, after: str, file: Path, *, warm: bool) -> float:
    """Milliseconds from the end of the answer before it to the first token of the model that waited."""
    await _ask(peer, _question(before))
    warm_memory()
    if warm:
        for offset, length in page_cache.absent(file):
            page_cache.read(file, offset, length)
    else:
        _drop(file)
    loop = asyncio.get_running_loop()
    answering = asyncio.create_task(_ask(peer, {**_question(before), "max_tokens": _TOKENS, "ignore_eos": True}))
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(_ask(peer, _question(after)))
    await answering
    began = loop.time()
    await waiting
    return (loop.time() - began) * 1000


def _question(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "Once upon a time", "max_tokens": 1, "stream": True}


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
