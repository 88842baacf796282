"""A real engine as a process of its own: started by its command, stopped or killed like a user's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from variet import paths
from variet.engine import gguf_facts

ROOT = Path(__file__).resolve().parent.parent.parent
EMBEDDED = ROOT / "config" / "embedded_models.json"
TIERS = ("fast", "balanced", "deep-coder", "deep-logic", "ultra")


def embedded_config(**changes: Any) -> dict[str, Any]:
    """The embedded default as a dict, with tables merged key by key."""
    config: dict[str, Any] = json.loads(EMBEDDED.read_text(encoding="utf-8"))
    for table, value in changes.items():
        if isinstance(value, dict):
            config.setdefault(table, {}).update(value)
        else:
            config[table] = value
    return config


def light_config(**changes: Any) -> dict[str, Any]:
    """The same with the smallest model in each model's place: for what does not depend on a model's words or size."""
    config = embedded_config(**changes)
    file = next((paths.models_dir() / "smollm2-135m").glob("*.gguf"))
    for model in config["models"].values():
        model["files"] = {"model": f"path:{file}"}
    return config


def template_of(folder: Path) -> str:
    """The chat template of the model in a folder."""
    file = next(folder.glob("*.gguf"))
    with file.open("rb") as stream:
        return str(gguf_facts.read_header(stream, str(file)).metadata["tokenizer.chat_template"])


class EngineProcess:
    """`variet up` on a free port. `url` answers once `start` returned."""

    def __init__(self, home: Path, models: Path) -> None:
        self.home = home
        self.models = models
        self.config_path = home / "engine_models.json"
        self.url = ""
        self.output: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write_config(self, config: dict[str, Any]) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(json.dumps(config), encoding="utf-8")

    async def start(self, config: dict[str, Any] | None = None, *extra: str, port: int = 0) -> None:
        self.write_config(embedded_config() if config is None else config)
        env = {**os.environ, "VARIET_HOME": str(self.home), "VARIET_MODELS": str(self.models)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "up", "-v", "--config", str(self.config_path), "--port", str(port), *extra,
            env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        listening = asyncio.Event()
        self._reader = asyncio.create_task(self._read(listening))
        waiting = asyncio.create_task(listening.wait())
        await asyncio.wait([waiting, self._reader], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not listening.is_set():
            raise AssertionError("the engine did not start:\n" + "\n".join(self.output))

    async def _read(self, listening: asyncio.Event) -> None:
        assert self._process is not None and self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.output.append(line)
            if "listens on " in line:
                self.url = line.split("listens on ")[1].split()[0]
                listening.set()

    async def wait(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), timeout_s)

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        code = await self.wait()
        if self._reader:
            await self._reader
        return code

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it the hard way, if it still runs; its children end with it."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def children(self) -> list[psutil.Process]:
        """The llama-server processes of this engine."""
        found: list[psutil.Process] = []
        if not psutil.pid_exists(self.pid):
            return found
        for one in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if "llama-server" in " ".join(one.cmdline()):
                    found.append(one)
        return found

    # --- as a person at a terminal ---

    async def variet(self, *args: str, home: Path | None = None, timeout_s: float = 60, **env: str) -> tuple[int, str]:
        """(exit code, output) of a command; `home` stands for another machine's user."""
        process = await self.start_variet(*args, home=home, **env)
        output, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        return process.returncode or 0, output.decode()

    async def start_variet(self, *args: str, home: Path | None = None, **env: str) -> asyncio.subprocess.Process:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VARIET_")}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", *args, env={**clean, "VARIET_HOME": str(home or self.home), **env},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    # --- over HTTP ---

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return await answer.json()

    async def text(self, path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return await answer.text()

    async def status(self) -> dict[str, Any]:
        result: dict[str, Any] = await self.get("/engine/status")
        return result

    async def post(self, path: str, body: Any, timeout_s: float = 120) -> tuple[int, Any]:
        """(status, JSON or text)."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(self.url + path, json=body) as answer,
        ):
            text = await answer.text()
            with contextlib.suppress(ValueError):
                return answer.status, json.loads(text)
            return answer.status, text

    async def until(self, what: str, condition: Any, timeout_s: float = 60) -> dict[str, Any]:
        """Wait until `condition(status)` holds."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        status = await self.status()
        while not condition(status):
            assert asyncio.get_running_loop().time() < deadline, f"never: {what}; {status}"
            await asyncio.sleep(0.02)
            status = await self.status()
        return status


@asynccontextmanager
async def running(
    home: Path, models: Path, config: dict[str, Any] | None = None, *extra: str
) -> AsyncIterator[EngineProcess]:
    """An engine for the length of a block; it must end by itself when asked, and leave no child."""
    engine = EngineProcess(home, models)
    await engine.start(config, *extra)
    try:
        yield engine
    finally:
        children = engine.children()
        code = await engine.stop()
        _, alive = psutil.wait_procs(children, timeout=10)
        for one in alive:
            one.kill()
        assert not alive, "children outlived the engine"
        assert code == 0, "\n".join(engine.output[-40:])


def chat(
    model: str, text: str = "Say hello.", *, tokens: int = 8, stream: bool = False, **extra: Any
) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream, **extra}


async def read_stream(
    url: str, path: str, body: dict[str, Any], timeout_s: float = 120, on_event: Callable[[int], None] = lambda _: None
) -> tuple[int, list[str], bool]:
    """(status, `data:` payloads, whether the body was whole) of a streamed answer; `on_event` is told each's number."""
    events: list[str] = []
    whole = True
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url + path, json=body) as answer:
        try:
            async for raw in answer.content:
                line = raw.decode().strip()
                if line.startswith("data: "):
                    events.append(line[6:])
                    on_event(len(events))
        except aiohttp.ClientError:
            whole = False
        return answer.status, events, whole
