"""What a model must read before a coding agent's first word: ours beside other people's, the same prompt in the same
small repository. Each is connected by `variet connect` and run as its `--check` runs it, through the engine; a scripted
model behind it writes down what it is asked; a real tokenizer counts that.

The clients come from npm and PyPI (bench/clients) and have homes of their own, which `tests/support/other_clients.py`
keeps to loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import other_clients
from tests.support.engine import EngineProcess, embedded_config
from tests.support.scripted_engine import asked, scripted_engine
from tests.support.small_tasks import TASKS

from bench.results import Results
from variet import paths
from variet.connect.clients import CLIENTS

_PROMPT = "The tests of stats.py fail. Make them pass."
_FILE = "stats.py"
_MOST_S = 120
_TOKENIZER = "balanced"  # a tier of the embedded engine; its model is Qwen2.5-Coder
_OURS = "variet code"
_PACKAGES = {
    "opencode": "opencode-ai", "qwen-code": "@qwen-code/qwen-code", "claude-code": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
}  # fmt: skip


def _names() -> dict[str, str]:
    """Each client with its version, as the bench's cases are called."""
    pinned = json.loads((other_clients.FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    versions = {client: pinned[package] for client, package in _PACKAGES.items()}
    aider = (other_clients.FOLDER / "aider.in").read_text(encoding="utf-8")
    versions["aider"] = aider.split("aider-chat==")[1].split()[0]
    return {"": _OURS, **{client: f"{CLIENTS[client].title} {versions[client]}" for client in other_clients.CLIENTS}}


def _install() -> None:
    """Raises SystemExit."""
    if subprocess.run(["make", "clients"], cwd=other_clients.ROOT).returncode != 0:
        raise SystemExit("first_request needs the clients beside it: `make clients` failed, its own message is above")


async def _first_request(client: str, folder: Path) -> dict[str, Any]:
    """Of the requests that reach a model for one prompt, the first that offers tools, or the first."""
    work = folder / "work"
    shutil.copytree(TASKS / "totals", work, ignore=shutil.ignore_patterns("task.json"))
    env: dict[str, Any] = other_clients.environment(client, folder / "home")
    async with scripted_engine(
        folder, {"context_length": 65536, "answers": [{"say": "Done."}], "repeat": True}
    ) as engine:
        if client:
            code, told = await engine.variet("connect", client, **env)
            if code:
                raise RuntimeError(told)
            run = CLIENTS[client].headless(_PROMPT, _FILE, commands=True)
            assert run is not None
            words, env = [CLIENTS[client].program, *run.words], {**env, **run.env}
        else:
            words = [sys.executable, "-m", "variet", "code", "--tier", "balanced", "--profile", "native", _PROMPT]
            env |= {"VARIET_ENGINE_URL": engine.url, "VARIET_HOME": str(folder / "home" / "variet")}
        said = await _said(words, work, env)
        bodies = asked(folder)
    if not bodies:
        raise RuntimeError(f"{client or _OURS} sent no request:\n{said[-2000:]}")
    return next((body for body in bodies if body.get("tools")), bodies[0])


async def _said(words: list[str], work: Path, env: dict[str, Any]) -> str:
    """What a command prints, ended where it takes too long."""
    program = shutil.which(words[0], path=env["PATH"]) or words[0]
    process = await asyncio.create_subprocess_exec(
        program, *words[1:], cwd=work, env={**env, "PWD": str(work)}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _MOST_S)
    except TimeoutError:
        os.killpg(process.pid, 9)
        said, _ = await process.communicate()
    return said.decode(errors="replace")


async def _tokens(engine: EngineProcess, body: dict[str, Any]) -> int:
    """By the template and tokenizer of a real model."""
    messages = [{**one, "content": _text(one.get("content"))} for one in body["messages"]]
    asked = {"model": _TOKENIZER, "messages": messages, "tools": body.get("tools") or []}
    status, rendered = await engine.post("/apply-template", asked)
    if status != 200:
        raise RuntimeError(f"the template refused it: {rendered}")
    _, counted = await engine.post("/tokenize", {"model": _TOKENIZER, "content": rendered["prompt"]})
    return len(counted["tokens"])


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "".join(str(part.get("text", "")) for part in parts)


async def run(results: Results, rounds: int) -> None:
    """One case a client; its size hardly varies, so `rounds` are not needed."""
    lacking = {client: name for client, name in _names().items() if not results.have("first request", name)}
    if not lacking:
        return
    _install()
    with tempfile.TemporaryDirectory(prefix="variet-bench-") as name:
        engine = EngineProcess(Path(name) / "engine", paths.models_dir())
        try:
            await engine.start(embedded_config())
            for number, (client, called) in enumerate(lacking.items()):
                folder = Path(name) / str(number)
                folder.mkdir()
                body = await _first_request(client, folder)
                results.add(
                    "first request", called, "tokens",
                    median={
                        "whole": await _tokens(engine, body),
                        "system": await _tokens(engine, {"messages": body["messages"][:1]}),
                        "tools": len(body.get("tools") or []),
                    },
                )  # fmt: skip
        finally:
            engine.kill()
            await engine.wait()
