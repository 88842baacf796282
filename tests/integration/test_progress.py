"""Whoever waits hears the truth: in its own stream, by name, and over the events of the engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.test_assembly import TEXTS
from tests.integration.test_contexts import two_models
from tests.integration.test_scripted import script
from tests.support.clients import response_of
from tests.support.engine import EngineProcess, chat, light_config, running

pytestmark = pytest.mark.models
LONG = {"user": "u" * 5_000}  # a body that may have progress to tell
LIVE = {"x-variet-progress": "live"}


@pytest.fixture
async def told(tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    async with running(tmp_path / "home", models, two_models(models, SCRIPT_LOAD_S="1")) as one:
        yield one


@asynccontextmanager
async def asked(
    engine: EngineProcess, body: dict[str, Any], path: str = "/v1/chat/completions", **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    timeout = aiohttp.ClientTimeout(total=120)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(engine.url + path, json=body, headers=headers) as answer,
    ):
        yield answer


async def listen(engine: EngineProcess, path: str, **headers: str) -> AsyncIterator[tuple[str, int, Any]]:
    """(kind, number, data) of server-sent events."""
    headers = {"accept": "text/event-stream", **headers}
    async with aiohttp.ClientSession() as session, session.get(engine.url + path, headers=headers) as answer:
        assert answer.status == 200
        kind, number = "", 0
        async for raw in answer.content:
            field, _, value = raw.decode().rstrip("\n").partition(": ")
            if field == "event":
                kind = value
            elif field == "id":
                number = int(value)
            elif field == "data":
                yield kind, number, json.loads(value)


def notes(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(": variet ")) for line in text.splitlines() if line.startswith(": variet ")]


async def test_a_stream_that_wants_to_know_hears_of_load_prompt_and_answer(told: EngineProcess) -> None:
    body = script(tokens=2, first_ms=1200, read_steps=4)
    async with asked(told, body, **LIVE, **{"x-variet-request": "my-question"}) as answer:
        text = await answer.text()
    said = notes(text)
    assert {one["request"] for one in said[:-1]} == {"my-question"}
    stages = [one["stage"] for one in said if "stage" in one]
    assert list(dict.fromkeys(stages)) == ["load", "prefill"]
    percents = [one["percent"] for one in said if one.get("stage") == "prefill" and "percent" in one]
    assert percents == sorted(percents) and percents[0] < 50 < percents[-1]
    assert said[-1]["x-variet-request"] == "my-question" and float(said[-1]["x-variet-swap-ms"]) > 900
    assert text.index("t0") > text.rindex(": variet ") and text.endswith("data: [DONE]\n\n")
    assert "prompt_progress" not in text, "that was for us"


async def test_messages_hear_it_in_pings(told: EngineProcess) -> None:
    async with asked(told, script(tokens=2, first_ms=600), "/v1/messages", **LIVE) as answer:
        events = [line.removeprefix("data: ") for line in (await answer.text()).splitlines() if line[:5] == "data:"]
    parsed = [json.loads(one) for one in events]
    pings = [one["variet"] for one in parsed if one["type"] == "ping"]
    assert pings[0]["stage"] == "load" and "x-variet-model" in pings[-1]
    rest = [one["type"] for one in parsed if one["type"] != "ping"]
    assert rest[0] == "message_start" and rest[-1] == "message_stop"


async def test_responses_hear_it_in_events_of_their_own(told: EngineProcess) -> None:
    body = {"model": "fast", "input": "hi", "stream": True, "script": {"tokens": 2, "first_ms": 600}}
    async with asked(told, body, "/v1/responses", **LIVE) as answer:
        events = [json.loads(line[6:]) for line in (await answer.text()).splitlines() if line.startswith("data: ")]
    assert response_of(events)["output"][0]["content"][0]["text"] == "t0 t1 "
    facts = [one["variet"] for one in events if "variet" in one]
    assert facts[0]["stage"] == "load" and "x-variet-model" in facts[-1]


async def test_a_request_is_found_by_the_name_its_client_gave_it(told: EngineProcess) -> None:
    body = script(tokens=3, first_ms=500)
    headers = {"x-variet-request": "job-7"}

    async def ask() -> Any:
        async with asked(told, body, **headers) as answer:
            return await answer.text(), answer.headers

    asking = asyncio.create_task(ask())
    await told.until("its arrival", lambda status: len(status["requests"]["active"]) == 1)
    now = await told.get("/engine/requests/job-7")
    assert (now["id"], now["outcome"], now["progress"]["stage"], now["stream"]) == ("job-7", "running", "load", True)
    rows = [row async for _, _, row in listen(told, "/engine/requests/job-7")]
    assert next(row["progress"]["stage"] for row in rows[:-1]) == "load"
    assert rows[-1]["outcome"] == "done" and rows[-1]["output_tokens"] == 3 and rows[-1]["progress"] is None
    _, got = await asking
    assert got["x-variet-request"] == "job-7"
    everything = await told.get("/engine/requests")
    assert everything["active"] == [] and everything["recent"][0]["id"] == "job-7"
    by_number = await told.get(f"/engine/requests/{everything['recent'][0]['number']}")
    assert by_number["id"] == "job-7"


async def test_a_name_that_is_none_is_refused_and_an_unknown_one_not_found(told: EngineProcess) -> None:
    for name in ("7", "a b", "x" * 65, "a\t"):
        async with asked(told, script(), **{"x-variet-request": name}) as answer:
            assert answer.status == 400 or name == "a\t", "outer blanks are no part of a header"
    async with aiohttp.ClientSession() as session, session.get(told.url + "/engine/requests/nobody") as missing:
        assert missing.status == 404


async def test_who_waits_in_the_queue_hears_its_place(told: EngineProcess) -> None:
    """Two slots: two that never end, two behind them."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            holding = await stack.enter_async_context(asked(told, script(tokens=9, hang_at=1)))
            assert holding.status == 200
        third = await stack.enter_async_context(asked(told, script(tokens=1), **LIVE))
        fourth = await stack.enter_async_context(asked(told, script(tokens=1), **LIVE))
        places = [notes((await one.content.readline()).decode())[0] for one in (third, fourth)]
        assert [(one["stage"], one["position"]) for one in places] == [("queue", 1), ("queue", 2)]
        assert places[0]["reason"] == "every slot of told is taken"


async def test_the_events_of_the_engine_tell_swaps_requests_and_its_state(told: EngineProcess) -> None:
    seen: list[tuple[str, int, Any]] = []

    async def until(done: Any, **headers: str) -> None:
        seen.clear()
        async for event in listen(told, "/engine/events", **headers):
            seen.append(event)
            if done(event):
                return

    listening = asyncio.create_task(until(lambda event: event[0] == "swap" and event[2]["model"] == "other"))
    await told.until("a listener", lambda _: bool(seen))
    assert seen[0][0] == "status" and seen[0][2]["tiers"]["fast"]["state"] == "unloaded"
    for tier in ("fast", "ultra"):
        await told.post("/v1/chat/completions", chat(tier))
    await asyncio.wait_for(listening, 30)
    kinds = {kind for kind, _, _ in seen}
    assert {"status", "moment", "request", "swap"} <= kinds
    loads = [
        one for kind, _, data in seen if kind == "status" for one in data["instances"] if one["phase"] == "starting"
    ]
    assert loads, "a load was to be seen while it went on"
    swap = next(data for kind, _, data in seen if kind == "swap" and data["model"] == "other")
    assert swap["gave_way"] == ["told"] and swap["phases_ms"]["load"] > 900
    # Whoever comes back gets what it missed.
    first = next(number for kind, number, _ in seen if kind == "moment")
    await asyncio.wait_for(until(lambda event: event[0] == "status", **{"last-event-id": str(first)}), 30)
    assert next(number for kind, number, _ in seen if kind != "status") == first + 1


async def test_listeners_do_not_hold_up_the_end(tmp_path: Path, models: Path) -> None:
    engine = EngineProcess(tmp_path / "home", models)
    await engine.start(two_models(models))
    listener = listen(engine, "/engine/events")
    assert (await anext(listener))[0] == "status"
    began = asyncio.get_running_loop().time()
    assert await engine.stop() == 0
    with contextlib.suppress(StopAsyncIteration, aiohttp.ClientError):
        while True:
            await anext(listener)
    assert asyncio.get_running_loop().time() - began < 4, "uvicorn would have waited 5 s for it"


async def test_every_answer_says_who_gave_it_and_what_there_was_to_wait_for(told: EngineProcess) -> None:
    async with asked(told, script(stream=False)) as first:
        assert first.headers["x-variet-tier"] == "fast" and first.headers["x-variet-model"] == "told"
        assert 900 < float(first.headers["x-variet-swap-ms"]) <= float(first.headers["x-variet-queue-ms"])
        number = int(first.headers["x-variet-request"])
    async with asked(told, {**script(tokens=1), **LONG}) as second:
        assert "x-variet-swap-ms" not in second.headers and int(second.headers["x-variet-request"]) > number
        assert int(second.headers["x-variet-prompt-tokens"]) > 0 and "x-variet-cached-tokens" in second.headers
    async with asked(told, script(stream=False, status=418)) as refused:
        assert refused.status == 418 and refused.headers["x-variet-model"] == "told"


async def test_a_child_that_fails_before_its_first_word_is_an_error_not_a_stream(told: EngineProcess) -> None:
    """It began a stream to tell its progress; the client's has not begun."""
    for path in ("/v1/chat/completions", "/v1/messages"):
        async with asked(told, script(tokens=3, error_at=0), path) as answer:
            assert answer.status == 500 and "as scripted" in await answer.text()


async def test_a_page_may_read_what_the_headers_say(told: EngineProcess) -> None:
    async with asked(told, script(stream=False), origin="http://localhost:3000") as answer:
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {name.lower() for name in answer.headers if name.lower().startswith("x-variet-")} <= set(
            exposed.replace(" ", "").split(",")
        )


# --- the real llama-server ---


async def test_clients_that_did_not_ask_see_nothing_of_it(engine: EngineProcess) -> None:
    for path, request in TEXTS:
        body = {**request, "model": "fast", "stream": True, **LONG}
        async with asked(engine, body, path) as answer:
            raw = await answer.text()
            assert answer.status == 200 and "prompt_progress" not in raw, path
            assert int(answer.headers["x-variet-prompt-tokens"]) > 0
        if path not in ("/v1/messages", "/v1/responses"):  # these have words of their own for it
            async with asked(engine, {**body, "return_progress": True}, path) as wanted:
                assert "prompt_progress" in await wanted.text()


async def test_a_prompt_that_is_too_long_is_still_a_400(engine: EngineProcess) -> None:
    """Clients compact on that; as an event of a stream that began well they would not see it."""
    body = chat("fast", "one two three " * 20_000, stream=True)
    async with asked(engine, body) as answer:
        assert answer.status == 400 and "exceed" in (await answer.text())


async def test_reading_stops_with_the_client_that_left(tmp_path: Path, models: Path) -> None:
    """llama-server sees that nobody listens when it tells of its progress: after a batch, not after the prompt."""
    config = light_config(scheduling={"preload": ["fast"]})
    model = config["models"][config["tiers"]["fast"]["model"]]
    model.update(context_tokens=4096, batch_tokens=64, micro_batch_tokens=64)
    async with running(tmp_path / "home", models, config) as engine:
        async with asked(
            engine, chat("fast", "seven words make one line of text. " * 300, stream=True), **LIVE
        ) as answer:
            async for raw in answer.content:
                if any(one.get("percent", 0) > 0 for one in notes(raw.decode()) if one.get("stage") == "prefill"):
                    break
        # The next one in the same slot is served once the child is done with the first.
        status, _ = await engine.post("/v1/chat/completions", chat("fast", "Hello."))
        assert status == 200
        log = (await engine.variet("logs", config["tiers"]["fast"]["model"], "-n", "400"))[1]
        assert log.count("prompt eval time") == 1, "only the second prompt was read to its end"


async def test_a_child_s_signs_of_life_hide_no_progress(tmp_path: Path, models: Path) -> None:
    """A batch that takes longer than llama-server's pause between its comments: half a minute, here a second."""
    config = light_config(scheduling={"preload": ["balanced"]})
    config["models"]["qwen2.5-coder-0.5b"]["args"] = ["--sse-ping-interval", "1"]
    talk = [{"role": "user", "content": "ship " * 900}]
    body = {"model": "balanced", "stream": True, "max_tokens": 2, "messages": talk}
    async with running(tmp_path / "home", models, config) as engine, asked(engine, body) as answer:
        raw = await answer.read()
        assert int(answer.headers["x-variet-prompt-tokens"]) > 900, "headers waited for the end of the reading"
        assert b"prompt_progress" not in raw and b"\n:" not in raw[: raw.index(b'"content":"')]
