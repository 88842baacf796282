"""The file of the model that comes next is in memory before its turn: waited for, hinted at, never against a load."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.test_contexts import two_models
from tests.integration.test_scripted import script
from tests.support.engine import EngineProcess, chat, running
from tests.unit.test_prefetch import drop, on_linux
from variet.engine import page_cache

pytestmark = [pytest.mark.models, on_linux]


@pytest.fixture
def file(tmp_path: Path, models: Path) -> Path:
    """A model's file that is on disk, not in memory."""
    copy = tmp_path / "other.gguf"
    shutil.copyfile(next((models / "smollm2-135m").glob("*.gguf")), copy)
    drop(copy)
    assert page_cache.cached_share(copy) == 0.0
    return copy


def config(models: Path, file: Path, **scheduling: Any) -> dict[str, Any]:
    made = two_models(models)
    made["scheduling"].update({"max_wait_s": 60, **scheduling})
    made["models"]["other"] = {**made["models"]["told"], "files": {"model": f"path:{file}"}}
    return made


@pytest.fixture
async def told(tmp_path: Path, models: Path, file: Path) -> AsyncIterator[EngineProcess]:
    async with running(tmp_path / "home", models, config(models, file)) as one:
        drop(file)  # its header was read
        yield one


async def in_memory(file: Path) -> None:
    while page_cache.cached_share(file) != 1.0:
        await asyncio.sleep(0.02)


async def test_while_it_is_waited_for(told: EngineProcess, file: Path) -> None:
    answering = asyncio.create_task(told.post("/v1/chat/completions", script(tokens=60, gap_ms=50)))
    await told.until("the answer", lambda status: any(one["leases"] for one in status["instances"]))
    waiting = asyncio.create_task(told.post("/v1/chat/completions", chat("ultra")))
    await asyncio.wait_for(in_memory(file), 20)
    assert not answering.done() and not waiting.done()
    status = await told.until("its note", lambda status: any(one["kind"] == "read ahead" for one in status["journal"]))
    note = next(one for one in status["journal"] if one["kind"] == "read ahead")
    assert note["model"] == "other" and "(waited for): done" in note["detail"]
    await asyncio.gather(answering, waiting)
    assert 'variet_prefetch_bytes_total{model="other",why="waited for"}' in await told.text("/metrics")


@pytest.mark.parametrize("how", ["header", "post", "command"])
async def test_on_a_hint(told: EngineProcess, file: Path, how: str) -> None:
    if how == "header":
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                told.url + "/v1/chat/completions", json=chat("fast"), headers={"x-variet-next": "ultra"}
            ) as answer,
        ):
            assert answer.status == 200
    elif how == "post":
        assert (await told.post("/engine/prefetch", {"model": "ultra"}))[0] == 200
        assert (await told.post("/engine/prefetch", {"model": "nonsense"}))[0] == 404
    else:
        assert "read ahead" in (await told.variet("prefetch", "ultra"))[1]
    await asyncio.wait_for(in_memory(file), 20)


async def test_a_hint_that_names_nothing_costs_no_answer(told: EngineProcess) -> None:
    headers = {"x-variet-next": "nonsense"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(told.url + "/v1/chat/completions", json=chat("fast"), headers=headers) as answer,
    ):
        assert answer.status == 200


async def test_nothing_is_read_where_that_is_not_wished_or_of_no_use(tmp_path: Path, models: Path, file: Path) -> None:
    made = config(models, file, prefetch=False)
    async with running(tmp_path / "home", models, made) as engine:
        drop(file)
        answering = asyncio.create_task(engine.post("/v1/chat/completions", script(tokens=20, gap_ms=50)))
        await engine.until("the answer", lambda status: any(one["leases"] for one in status["instances"]))
        waiting = asyncio.create_task(engine.post("/v1/chat/completions", chat("ultra")))
        await answering
        assert page_cache.cached_share(file) == 0.0, "a second of waiting, and nothing was read"
        await waiting
