"""The servers that a bench measures, each for the length of a block: llama-server, its router, the engine, a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from variet import paths
from variet.engine import llama_server

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = ROOT / "tests" / "support" / "scripted_server.py"
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
WINDOWED = "gemma3-270m"  # its layers but every sixth see only the newest 512 tokens
CONTEXT_TOKENS, SLOTS = 4096, 2
SAME = ("-np", str(SLOTS), "--device", "none", "--n-gpu-layers", "0", "--no-ui")
PLANNED = ("-fit", "off", "--no-warmup", "--cache-ram", "0")  # what the engine tells its children


@dataclass(frozen=True, slots=True)
class Peer:
    """A server under measurement. `url` is http://host:port, or unix:path."""

    name: str
    url: str
    pid: int

    def door(self) -> int | str:
        return self.url[5:] if self.url.startswith("unix:") else int(self.url.rpartition(":")[2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def model_file(model: str) -> Path:
    """Raises SystemExit where `make models` has not run."""
    found = sorted((paths.models_dir() / model).glob("*.gguf"))
    if not found:
        raise SystemExit(f"{model} is missing: run `make models`")
    return found[0]


@contextlib.asynccontextmanager
async def running(
    name: str, command: tuple[str, ...], env: dict[str, str], port: int, limit_s: float = 60
) -> AsyncIterator[Peer]:
    """A process, once it answers /health; it ends with the block."""
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(int(limit_s / 0.05)):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health") as answer:
                        if answer.status == 200:
                            break
                if process.returncode is not None:
                    raise SystemExit(f"{name} ended with {process.returncode}: {' '.join(command)}")
                await asyncio.sleep(0.05)
            else:
                raise SystemExit(f"{name} did not come up within {limit_s:.0f} s")
        yield Peer(name, url, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def router(
    models: tuple[str, ...], *, planned: bool, context_tokens: int = CONTEXT_TOKENS
) -> AsyncIterator[Peer]:
    """llama-server's router with one model at a time, as it comes or with the engine's flags for its children."""
    server, port = await llama_server.discover(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            Path(folder, f"{model}.gguf").symlink_to(model_file(model))
        flags = ("-c", str(context_tokens * SLOTS), *SAME, *(PLANNED if planned else ()))
        command = (server.path, "--models-dir", folder, "--models-max", "1", "--port", str(port), *flags)
        name = "router, engine's flags" if planned else "router"
        async with running(name, command, server.environment(dict(os.environ)), port) as peer:
            yield peer


@contextlib.asynccontextmanager
async def engine(
    models: tuple[str, ...],
    changes: dict[str, dict[str, Any]] | None = None,
    *,
    name: str = "Variet",
    context_tokens: int = CONTEXT_TOKENS,
) -> AsyncIterator[Peer]:
    """Variet Engine, one model at a time, all else as shipped; `changes` go into its configuration, table by table."""
    with tempfile.TemporaryDirectory() as home:
        config = json.loads((ROOT / "config" / "embedded_models.json").read_text(encoding="utf-8"))
        further = json.loads((ROOT / "tests" / "support" / "models.json").read_text(encoding="utf-8"))
        known = {**config["models"], **further["models"]}
        config["models"] = {model: known[model] for model in models}
        for spec in config["models"].values():
            spec.update(context_tokens=context_tokens, slots=SLOTS)
        for tier in config["tiers"].values():
            tier["model"] = tier["model"] if tier["model"] in models else models[0]
        for table, values in (changes or {}).items():
            config.setdefault(table, {}).update(values)
        path = Path(home, "engine_models.json")
        path.write_text(json.dumps(config), encoding="utf-8")
        async with configured(path, Path(home), name) as peer:
            yield peer


@contextlib.asynccontextmanager
async def configured(config: Path, home: Path, name: str = "Variet") -> AsyncIterator[Peer]:
    """Variet Engine with this configuration, its state in `home`."""
    port = free_port()
    env = {**os.environ, "VARIET_HOME": str(home), "VARIET_MODELS": str(paths.models_dir())}
    command = (sys.executable, "-m", "variet", "up", "--config", str(config), "--port", str(port))
    async with running(name, command, env, port) as peer:
        yield peer


async def child_of(engine: Peer, name: str, model: str) -> Peer:
    """The engine's own child, to be asked without the engine: the same process, so that a difference is the way's."""
    async with aiohttp.ClientSession(engine.url) as session:
        async with session.post("/tokenize", json={"model": model, "content": ""}) as answer:
            answer.raise_for_status()
        async with session.get("/engine/status") as answer:
            (instance,) = (await answer.json())["instances"]
    command = psutil.Process(instance["pid"]).cmdline()
    return Peer(name, "unix:" + command[command.index("--host") + 1], instance["pid"])


@contextlib.asynccontextmanager
async def plain_relay(upstream: Peer) -> AsyncIterator[Peer]:
    port = free_port()
    command = (sys.executable, str(ROOT / "bench" / "plain_relay.py"), str(port), upstream.url)
    async with running("plain relay", command, dict(os.environ), port) as peer:
        yield peer
