"""200 requests over three models from 8 clients, a third of which leave: nothing lost, nothing crossed, a clean end."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from tests.support.engine import EngineProcess

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]
MODELS = ("fast", "balanced", "deep-coder")


async def test_two_hundred_requests_with_leaving_clients(engine: EngineProcess) -> None:
    rng = random.Random(7)
    jobs = [(index, rng.choice(MODELS), rng.random() < 1 / 3, rng.uniform(0.0, 1.5)) for index in range(200)]
    served: list[int] = []
    left: list[int] = []

    async def one(session: aiohttp.ClientSession, index: int, model: str, leaves: bool, after_s: float) -> None:
        # llama-server echoes the prompt of /completion: an answer that was crossed with another would show.
        prompt = f"request number {index} says:"
        body = {"model": model, "prompt": prompt, "n_predict": 3 + index % 5, "stream": False}
        call = session.post(engine.url + "/completion", json=body)
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
                whole = await answer.json()
        if not leaves:
            assert whole["prompt"].endswith(prompt) and whole["stop"] is True
        served.append(index)

    async def client(session: aiohttp.ClientSession) -> None:
        while jobs:
            await one(session, *jobs.pop(0))

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=500)) as session:
        await asyncio.gather(*(client(session) for _ in range(8)))
    assert len(served) + len(left) == 200 and left
    status = await engine.until("rest", lambda now: now["requests"]["active"] == [])
    assert status["requests"]["waiting"] == 0 and all(one["leases"] == 0 for one in status["instances"])
    assert len(engine.children()) == len(status["instances"]) == 1
