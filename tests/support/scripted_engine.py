"""A real engine whose models are scripted (tests/support/scripted_child.py), three of them, one there at a time."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.support.engine import ROOT, EngineProcess
from variet import paths

_TIERS = {"fast": "small", "balanced": "one", "deep-coder": "two", "deep-logic": "two", "ultra": "two"}


def config(folder: Path) -> dict[str, Any]:
    child = folder / "llama-server"
    program = (ROOT / "tests" / "support" / "scripted_child.py").read_text().partition("\n")[2]
    child.write_text(f"#!{sys.executable}\n{program}")
    child.chmod(0o755)
    file = next((paths.models_dir() / "smollm2-135m").glob("*.gguf"))
    model = {"files": {"model": f"path:{file}"}, "context_tokens": 65536}
    return {
        "llama_server": {"path": str(child)},
        "models": {name: dict(model) for name in ("small", "one", "two")},
        "tiers": {tier: {"model": name} for tier, name in _TIERS.items()},
        "scheduling": {"preload": [], "max_resident": 1, "min_residency_s": 0},
    }


@asynccontextmanager
async def scripted_engine(folder: Path, script: dict[str, Any]) -> AsyncIterator[EngineProcess]:
    """What its models are asked lies in `asked(folder)`."""
    (folder / "script.json").write_text(json.dumps(script))
    told = {"SCRIPT_FILE": str(folder / "script.json"), "SCRIPT_LOG": str(folder / "asked.jsonl")}
    engine = EngineProcess(folder / "engine", paths.models_dir())
    try:
        with environment(told):
            await engine.start(config(folder))
        yield engine
    finally:
        engine.kill()
        await engine.wait()


def asked(folder: Path) -> list[dict[str, Any]]:
    """Bodies of the chats that reached a model, in order."""
    file = folder / "asked.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def environment(told: dict[str, str]) -> Iterator[None]:
    """Of this process and what it starts, for a while."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
