"""Children and engine killed at any moment: no request lost in silence, no orphan, no half answer taken for whole."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.support.engine import EngineProcess, chat, light_config, read_stream, running
from variet.engine.llama_server import candidates

pytestmark = pytest.mark.models


def stands_still_once(folder: Path) -> dict[str, str]:
    """A llama-server whose first load stands still until it is killed: a small model loads between two looks."""
    folder.mkdir(parents=True)
    _, real, library = next(one for one in candidates(None) if one[0] == "wheel")
    script = folder / "llama-server"
    script.write_text(f"""#!/bin/sh
# It speaks the same protocol: cmd_child_to_router:state:
case "$*" in
*--alias*) mkdir {folder}/loaded 2>/dev/null && kill -STOP $$ ;;
esac
LD_LIBRARY_PATH={library} exec {real} "$@"
""")
    script.chmod(0o755)
    return {"path": str(script)}


async def test_child_killed_while_loading_is_started_again(tmp_path: Path, models: Path) -> None:
    config = {**light_config(scheduling={"preload": []}), "llama_server": stands_still_once(tmp_path / "slow")}
    async with running(tmp_path / "home", models, config) as engine:
        answer = asyncio.create_task(engine.post("/v1/chat/completions", chat("deep-coder")))
        await engine.until(
            "a load", lambda status: any(one["phase"] == "starting" and one["pid"] for one in status["instances"])
        )
        engine.children()[0].send_signal(signal.SIGKILL)
        status, body = await answer
        assert status == 200 and body["choices"]


async def test_child_killed_before_the_first_byte_costs_only_time(engine: EngineProcess) -> None:
    await engine.post("/engine/swap", {"model": "balanced"})
    long_prompt = chat("balanced", "count these words: " + "word " * 400, tokens=4, stream=True)
    answer = asyncio.create_task(read_stream(engine.url, "/v1/chat/completions", long_prompt))
    await engine.until("a prefill", lambda status: any(one["leases"] for one in status["instances"]))
    await asyncio.sleep(0.3)
    assert not answer.done()
    engine.children()[0].send_signal(signal.SIGKILL)
    status, events, whole = await answer
    assert (status, whole, events[-1]) == (200, True, "[DONE]")


async def test_child_killed_in_mid_stream_ends_the_stream_as_broken(engine: EngineProcess) -> None:
    await engine.post("/engine/swap", {"model": "fast"})
    for path, body in (
        ("/v1/chat/completions", chat("fast", "Tell a long story.", tokens=2_000, stream=True)),
        ("/v1/messages", chat("fast", "Tell a long story.", tokens=2_000, stream=True)),
    ):

        def kill(number: int) -> None:
            if number == 5:
                engine.children()[0].send_signal(signal.SIGKILL)

        status, events, whole = await read_stream(engine.url, path, body, on_event=kill)
        assert status == 200 and not whole, "the body must be aborted"
        assert "[DONE]" not in events
        assert "error" in json.loads(events[-1])
    status, _ = await engine.post("/v1/chat/completions", chat("fast"))
    assert status == 200, "the engine recovers"


@pytest.mark.parametrize("moment", ["loading", "serving"])
async def test_killing_the_engine_leaves_no_orphan(moment: str, tmp_path: Path, models: Path) -> None:
    engine = EngineProcess(tmp_path / "home", models)
    config = light_config(scheduling={"preload": []})
    if moment == "loading":
        config["llama_server"] = stands_still_once(tmp_path / "slow")
    await engine.start(config)
    try:
        story = chat("ultra", "Tell a long story.", tokens=500)
        answer = asyncio.create_task(engine.post("/v1/chat/completions", story))
        wanted = "starting" if moment == "loading" else "ready"
        await engine.until(
            wanted, lambda status: any(one["phase"] == wanted and one["pid"] for one in status["instances"])
        )
        children = engine.children()
        assert children
    finally:
        engine.kill()
        await engine.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    with pytest.raises(aiohttp.ClientError):
        await answer


async def test_a_client_that_leaves_stops_the_generation(engine: EngineProcess) -> None:
    await engine.post("/engine/swap", {"model": "fast"})
    request = asyncio.create_task(
        read_stream(engine.url, "/v1/chat/completions", chat("fast", "Tell a long story.", tokens=4_000, stream=True))
    )
    await engine.until("a stream", lambda status: any(one["leases"] for one in status["instances"]))
    await asyncio.sleep(0.5)
    request.cancel()
    await engine.until("the lease is back", lambda status: not any(one["leases"] for one in status["instances"]))
    child = engine.children()[0]
    child.cpu_percent()
    busy = 100.0
    for _ in range(10):  # seconds; the whole story would take most of a minute, more where the machine has other work
        await asyncio.sleep(0.5)
        busy = child.cpu_percent()
        if busy < 50:
            break
    assert busy < 50, "the child still generates"
