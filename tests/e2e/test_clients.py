"""Other people's clients, as they are published, connected by `variet connect` and run by its `--check`: the engine is
real, its model is scripted, so that every answer is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import other_clients
from tests.support.engine import ROOT, EngineProcess
from tests.support.other_clients import CLIENTS, Answer, environment

pytestmark = [pytest.mark.models, pytest.mark.clients, pytest.mark.timeout(600)]
_TIERS = {"fast": "small", "balanced": "one", "deep-coder": "two", "deep-logic": "two", "ultra": "two"}


def _config(folder: Path, models: Path) -> dict[str, Any]:
    """Three models of which one is there at a time, all scripted."""
    child = folder / "llama-server"
    program = (ROOT / "tests" / "support" / "scripted_child.py").read_text().partition("\n")[2]
    child.write_text(f"#!{sys.executable}\n{program}")
    child.chmod(0o755)
    file = next((models / "smollm2-135m").glob("*.gguf"))
    model = {"files": {"model": f"path:{file}"}, "context_tokens": 65536}
    return {
        "llama_server": {"path": str(child)},
        "models": {name: dict(model) for name in ("small", "one", "two")},
        "tiers": {tier: {"model": name} for tier, name in _TIERS.items()},
        "scheduling": {"preload": [], "max_resident": 1, "min_residency_s": 0},
    }


@asynccontextmanager
async def _engine(
    folder: Path, models: Path, script: Answer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EngineProcess]:
    file = folder / "script.json"
    file.write_text(json.dumps(script))
    monkeypatch.setenv("SCRIPT_FILE", str(file))
    engine = EngineProcess(folder / "engine", models)
    try:
        await engine.start(_config(folder, models))
        yield engine
    finally:
        engine.kill()
        await engine.wait()


async def _checked(engine: EngineProcess, client: str, folder: Path) -> dict[str, Any]:
    """What `variet connect CLIENT --check` finds."""
    env: dict[str, Any] = environment(client, folder / "home")
    code, told = await engine.variet("connect", client, **env)
    assert code == 0, told
    _, told = await engine.variet("connect", client, "--check", "--limit", "120", "--json", timeout_s=300, **env)
    found: dict[str, Any] = json.loads(told)
    return found


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_reads_edits_and_runs_a_command_also_when_models_swap(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    # Slow enough that somebody else can ask in between.
    script = other_clients.script(client, first_ms=1500)
    async with _engine(tmp_path, models, script, monkeypatch) as engine:
        found = await _checked(engine, client, tmp_path)
    assert found["good"], found["runs"][-1]["said"]
    alone, swapped = found["runs"]
    assert alone["failed"] == swapped["failed"] == 0
    assert swapped["other"] == "fast"
    if client != "aider":  # its first answer is its last
        assert alone["requests"] >= 4 and swapped["swaps"] >= 2


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_goes_on_when_its_model_dies_in_mid_stream(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    died = tmp_path / "died"
    script = other_clients.script(client, die_after=2, once=str(died))
    async with _engine(tmp_path, models, script, monkeypatch) as engine:
        found = await _checked(engine, client, tmp_path)
    assert died.exists() and found["good"], found["runs"][-1]["said"]
    assert found["runs"][0]["failed"] >= 1
