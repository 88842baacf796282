"""200 requests over three models from 8 clients, a third of which leave: nothing lost, nothing crossed, a clean end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.integration.test_scripted import scripted_config
from tests.support.engine import EngineProcess, running
from variet.tiers import TIERS

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]
MODELS = ("fast", "balanced", "deep-coder")
Asked = tuple[str, dict[str, Any], Callable[[dict[str, Any]], bool]]  # path, body, whether an answer is its own


def scripted(index: int, model: str) -> Asked:
    script = {"tokens": 3 + index % 5, "gap_ms": 20, "say": f"number-{index}-"}
    body = {"model": model, "messages": [{"role": "user", "content": f"request {index}"}], "script": script}

    def own(answer: dict[str, Any]) -> bool:
        choice = answer["choices"][0]
        return f"number-{index}-" in choice["message"]["content"] and choice["finish_reason"] in ("stop", "length")

    return "/v1/chat/completions", body, own


def real(index: int, model: str) -> Asked:
    """llama-server echoes the prompt of /completion: an answer that was crossed with another would show."""
    prompt = f"request number {index} says:"
    body = {"model": model, "prompt": prompt, "n_predict": 3 + index % 5, "stream": False}
    return "/completion", body, lambda answer: answer["prompt"].endswith(prompt) and answer["stop"] is True


async def churn(engine: EngineProcess, ask: Callable[[int, str], Asked], longest_s: float) -> None:
    rng = random.Random(7)
    jobs = [(index, rng.choice(MODELS), rng.random() < 1 / 3, rng.uniform(0.0, longest_s)) for index in range(200)]
    served: list[int] = []
    left: list[int] = []

    async def request(session: aiohttp.ClientSession, index: int, model: str, leaves: bool, after_s: float) -> None:
        path, body, own = ask(index, model)
        call = session.post(engine.url + path, json=body)
        if leaves:
            try:
                async with asyncio.timeout(after_s), call as answer:
                    await answer.read()
            except TimeoutError:
                left.append(index)
                return
        else:
            async with call as answer:
                assert answer.status == 200, await answer.text()
                assert own(await answer.json()), index
        served.append(index)

    async def client(session: aiohttp.ClientSession) -> None:
        while jobs:
            await request(session, *jobs.pop(0))

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=500)) as session:
        await asyncio.gather(*(client(session) for _ in range(8)))
    assert len(served) + len(left) == 200 and left
    status = await engine.until("rest", lambda now: now["requests"]["active"] == [])
    assert status["requests"]["waiting"] == 0 and all(one["leases"] == 0 for one in status["instances"])
    assert len(psutil.Process(engine.pid).children()) == len(status["instances"]) == 1


async def test_two_hundred_requests_with_leaving_clients(tmp_path: Path, models: Path) -> None:
    config = scripted_config(models, scheduling={"preload": [], "max_resident": 1, "max_wait_s": 0.5,
                                                 "min_residency_s": 0.1})  # fmt: skip
    config["models"] = dict.fromkeys(("small", "one", "two"), config["models"]["told"])
    named = dict(zip(MODELS, config["models"], strict=True))
    config["tiers"] = {tier: {"model": named.get(tier, "two")} for tier in TIERS}
    async with running(tmp_path / "home", models, config) as engine:
        await churn(engine, scripted, 0.3)


@pytest.mark.long
async def test_two_hundred_requests_of_real_models(engine: EngineProcess) -> None:
    await churn(engine, real, 1.5)
