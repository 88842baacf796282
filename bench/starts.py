"""A second start of the engine: from the command to an answering port, and to the first token of `fast`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median
from variet import paths


async def run(results: Results, rounds: int) -> None:
    if results.have("start", "second start"):
        return
    ports: list[float] = []
    tokens: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(-1, rounds):  # the first one probes and reads headers, as the very first start does
            to_port, to_token = await _start(Path(home))
            if number >= 0:
                ports.append(to_port)
                tokens.append(to_token)
    results.add("start", "second start", "ms", median={"port answers": median(ports), "first token": median(tokens)})


async def _start(home: Path) -> tuple[float, float]:
    port = servers.free_port()
    env = {**os.environ, "VARIET_HOME": str(home), "VARIET_MODELS": str(paths.models_dir())}
    config = str(servers.ROOT / "config" / "embedded_models.json")
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", "up", "--config", config, "--port", str(port),
        env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.01)
        to_port = (time.monotonic() - began) * 1000
        body = {"model": "fast", "prompt": "Once upon a time", "max_tokens": 1, "stream": True}
        line = Connection(port)
        await line.ask(request("/v1/completions", body))
        line.close()
        return to_port, (time.monotonic() - began) * 1000
    finally:
        process.terminate()
        await process.wait()
