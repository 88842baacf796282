"""What the engine adds to a request, beside llama-server itself and llama-server's own router, interleaved in one run.

`python -m bench.relay [--rounds N]`: time to first byte of a one-token stream and of `/tokenize` for bodies of 1, 80
and 300 KiB, and the gap between tokens. Medians; all three reach the same binary and model over loopback TCP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from variet import paths
from variet.engine import llama_server

MODEL = "smollm2-135m"
SIZES_KIB = (1, 80, 300)
FLAGS = ("-fit", "off", "--no-warmup", "--cache-ram", "0", "--device", "none", "--n-gpu-layers", "0", "--no-ui")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def process(*command: str, env: dict[str, str], url: str) -> AsyncIterator[str]:
    """A server for the length of a block, once it answers /health."""
    running = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(600):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.05)
            else:
                raise SystemExit(f"{command[0]} did not come up")
        yield url
    finally:
        running.terminate()
        try:
            await asyncio.wait_for(running.wait(), 10)
        except TimeoutError:
            running.kill()
            await running.wait()


async def first_byte_ms(session: aiohttp.ClientSession, path: str, body: bytes) -> float:
    began = time.perf_counter()
    async with session.post(path, data=body, headers={"content-type": "application/json"}) as answer:
        await answer.content.readany()
        took = (time.perf_counter() - began) * 1000
        await answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
    return took


async def gaps_ms(session: aiohttp.ClientSession, name: str) -> list[float]:
    body = {"model": name, "prompt": "Once upon a time", "max_tokens": 64, "stream": True, "temperature": 0}
    stamps: list[float] = []
    async with session.post("/v1/completions", json=body) as answer:
        async for _ in answer.content.iter_any():
            stamps.append(time.perf_counter() * 1000)
    return [after - before for before, after in itertools.pairwise(stamps[2:-2])]


def bodies(name: str) -> dict[str, tuple[str, bytes]]:
    result = {}
    for size in SIZES_KIB:
        pad = "word " * (size * 1024 // 5)
        tokenize = {"model": name, "content": "hello", "pad": pad}
        stream = {"model": name, "prompt": "Hello", "max_tokens": 1, "stream": True, "pad": pad, "cache_prompt": True}
        result[f"/tokenize, {size} KiB"] = ("/tokenize", json.dumps(tokenize).encode())
        result[f"first token, {size} KiB"] = ("/v1/completions", json.dumps(stream).encode())
    return result


async def measure(urls: dict[str, tuple[str, str]], rounds: int) -> dict[str, dict[str, float]]:
    """case -> peer -> median milliseconds."""
    sessions = {peer: aiohttp.ClientSession(url) for peer, (url, _) in urls.items()}
    cases = {peer: bodies(name) for peer, (_, name) in urls.items()}
    samples: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for case in next(iter(cases.values())):
            for peer, session in sessions.items():
                path, body = cases[peer][case]
                taken = await first_byte_ms(session, path, body)
                samples.setdefault(case, {}).setdefault(peer, []).append(taken)
    for _ in range(max(3, rounds // 20)):
        for peer, session in sessions.items():
            samples.setdefault("between tokens", {}).setdefault(peer, []).extend(await gaps_ms(session, urls[peer][1]))
    for session in sessions.values():
        await session.close()
    return {case: {peer: statistics.median(each) for peer, each in peers.items()} for case, peers in samples.items()}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("bench-relay.json"))
    options = parser.parse_args()
    server = await llama_server.discover()
    file = next((paths.models_dir() / MODEL).glob("*.gguf"))
    env = server.environment(dict(os.environ))
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "models"
        folder.mkdir()
        (folder / f"{MODEL}.gguf").symlink_to(file)
        config = json.loads((Path(__file__).parent.parent / "config" / "embedded_models.json").read_text())
        for tier in config["tiers"].values():
            tier["model"] = MODEL
        (Path(home) / "config.json").write_text(json.dumps(config))
        direct, router, engine = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        port = {url: url.rpartition(":")[2] for url in (direct, router, engine)}
        engine_env = {**os.environ, "VARIET_HOME": home, "VARIET_MODELS": str(paths.models_dir())}
        up = (sys.executable, "-m", "variet", "up", "--config", f"{home}/config.json", "--port", port[engine])
        run = (server.path, "-c", "8192", "-np", "2", *FLAGS)
        async with (
            process(*run, "-m", str(file), "--port", port[direct], env=env, url=direct),
            process(*run, "--models-dir", str(folder), "--port", port[router], env=env, url=router),
            process(*up, env=engine_env, url=engine),
        ):
            peers = {"llama-server": (direct, MODEL), "its router": (router, MODEL), "Variet": (engine, "fast")}
            await measure(peers, 3)  # load and warm all three
            result = await measure(peers, options.rounds)
    options.out.write_text(json.dumps(result, indent=1))
    show(result)


def show(result: dict[str, dict[str, float]]) -> None:
    print(
        f"{'median ms':<24}{'llama-server':>14}{'its router':>14}{'Variet':>10}{'router adds':>13}{'Variet adds':>13}"
    )
    for case, row in result.items():
        base: Any = row["llama-server"]
        print(
            f"{case:<24}{base:>14.3f}{row['its router']:>14.3f}{row['Variet']:>10.3f}"
            f"{row['its router'] - base:>13.3f}{row['Variet'] - base:>13.3f}"
        )


if __name__ == "__main__":
    asyncio.run(main())
