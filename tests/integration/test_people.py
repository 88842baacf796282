"""What people see: words on the terminal, states that tell the truth, logs that outlive the engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.engine import EngineProcess, chat, light_config, read_stream, running

pytestmark = pytest.mark.models


async def test_a_model_that_cannot_load_is_told_without_a_request(tmp_path: Path, models: Path) -> None:
    config = light_config()
    config["models"]["smollm2-135m"]["args"] = ["--nonsense"]
    async with running(tmp_path / "home", models, config) as engine:
        status = await engine.until("the failure", lambda now: now["tiers"]["fast"]["state"] == "failed")
        assert "--nonsense" in status["tiers"]["fast"]["problem"]
        assert any("load failed" in line and "--nonsense" in line for line in engine.output)
        assert "--nonsense" in (await engine.variet("status"))[1]


async def test_a_loaded_model_is_announced_and_logs_outlive_the_engine(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, light_config()) as engine:
        await engine.until("fast", lambda now: now["tiers"]["fast"]["state"] == "ready")
        assert any("smollm2-135m is ready after" in line for line in engine.output)
        code, text = await engine.variet("logs", "fast", "-n", "3")
        assert code == 0 and text.count("\n") == 3
        code, text = await engine.variet("stauts")
        assert code == 2 and "Did you mean 'status'" in text
    code, text = await engine.variet("logs")
    assert code == 0 and json.loads(text.splitlines()[-1])["message"].startswith("stopped")
    code, text = await engine.variet("logs", "nope")
    assert code == 1 and "smollm2-135m" in text


async def test_status_can_be_watched_by_programs_and_by_people(engine: EngineProcess) -> None:
    watching = await engine.start_variet("status", "--watch", "--json")
    assert watching.stdout is not None
    first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 30))
    assert first["event"] == "status" and first["data"]["tiers"]["fast"]["state"] == "unloaded"
    screen, terminal = os.openpty()
    drawing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", "status", "--watch", stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "VARIET_HOME": str(engine.home), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
    )  # fmt: skip
    os.close(terminal)
    asking = asyncio.create_task(
        engine.post("/v1/chat/completions", chat("fast", "words " * 400, tokens=120, ignore_eos=True))
    )
    drawn = ""
    while "answers: " not in drawn:
        drawn += (await asyncio.to_thread(os.read, screen, 65536)).decode(errors="replace")
    loop = asyncio.get_running_loop()

    def drain() -> None:  # a terminal that nobody reads holds up whoever draws on it
        try:
            os.read(screen, 65536)
        except OSError:
            loop.remove_reader(screen)

    loop.add_reader(screen, drain)
    words = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "1 active" in words and " loads" in words and " reads" in words
    assert (await asking)[0] == 200
    async for line in watching.stdout:
        event = json.loads(line)
        if event["event"] == "request":
            assert event["data"]["outcome"] == "done"
            break
    for one in (watching, drawing):
        one.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(drawing.wait(), 20) == 0
    await asyncio.wait_for(watching.wait(), 20)
    loop.remove_reader(screen)
    os.close(screen)


async def test_bench_measures_a_tier_beside_what_is_expected(engine: EngineProcess) -> None:
    config = json.loads(engine.config_path.read_text())
    config["tiers"]["fast"]["expected_tokens_per_s"] = 1e6
    engine.write_config(config)
    assert (await engine.variet("reload"))[0] == 0
    code, text = await engine.variet("bench", "fast", "balanced", "--tokens", "8", "--repeat", "1", "--json")
    assert code == 0, text
    fast, balanced = json.loads(text[text.index("[") :])
    assert fast["tokens_per_s"] > 0 and fast["prefill_tokens_per_s"] > 0 and fast["load_s"] > 0
    assert fast["share"] == round(fast["tokens_per_s"] / 1e6, 2) and balanced["share"] is None
    code, text = await engine.variet("bench", "quick")
    assert code == 2 and "there are: fast" in text


async def test_a_second_ctrl_c_cuts_what_the_first_lets_finish(engine: EngineProcess) -> None:
    seen = asyncio.Event()
    body = chat("smollm2-135m", "Tell a story without end.", tokens=100_000, stream=True, ignore_eos=True)
    story = asyncio.create_task(
        read_stream(engine.url, "/v1/chat/completions", body, on_event=lambda _number: seen.set())
    )
    await asyncio.wait_for(seen.wait(), 60)
    assert os.getpgid(engine.children()[0].pid) != os.getpgid(engine.pid), "a terminal's Ctrl-C reaches no model server"
    engine.signal(signal.SIGINT)
    async with aiohttp.ClientSession() as session:
        for _ in range(500):
            async with session.get(engine.url + "/health") as answer:
                if answer.status == 503:
                    break
            await asyncio.sleep(0.01)
    assert answer.status == 503, "/health says that it is about to end"
    assert not story.done(), "the answer goes on"
    engine.signal(signal.SIGINT)
    _, events, whole = await asyncio.wait_for(story, 15)
    assert not whole and json.loads(events[-1])["error"]["code"] == "stopped"
    assert await engine.wait(15) == 0
    assert any("1 answer may finish" in line for line in engine.output)


async def test_the_engine_s_own_api_forgives_and_stays_at_home(engine: EngineProcess) -> None:
    async with aiohttp.ClientSession(engine.url) as session:
        form = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d says
        async with session.post("/engine/swap", data=b'{"model":"nope"}', headers=form) as answer:
            assert answer.status == 404 and "there are: fast" in await answer.text()
        async with session.get("/v1/models/deep-coder") as answer:
            assert (await answer.json())["context_length"] > 0
        async with session.get("/v1/models/nope") as answer:
            assert answer.status == 404 and (await answer.json())["error"]["code"] == "model_not_found"
        async with session.get("/engine/docs") as answer:
            page = await answer.text()
        assert "/engine/status" in page and "//" not in page, "nothing from elsewhere"
        async with session.post("/v1/messages", json={"model": "fast"}) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status == 400 and told["type"] == "error"
    status, answer_body = await engine.post("/engine/load", {"model": "fast"})
    assert status == 200
    status, answer_body = await engine.post("/engine/load", {"model": "ultra"})
    assert status == 409 and "max_resident is 1" in str(answer_body)
