"""Every tier answers on every API, on real models."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest

from tests.support.engine import TIERS, EngineProcess, chat, embedded_config, light_config, read_stream, running

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def engine(shared_engine: EngineProcess) -> EngineProcess:
    return shared_engine


async def test_each_tier_streams_and_ends_with_usage(engine: EngineProcess) -> None:
    for tier in TIERS:
        status, events, whole = await read_stream(
            engine.url, "/v1/chat/completions", chat(tier, stream=True, stream_options={"include_usage": True})
        )
        assert (status, whole, events[-1]) == (200, True, "[DONE]")
        chunks = [json.loads(event) for event in events[:-1]]
        assert any(chunk["choices"] and chunk["choices"][0].get("finish_reason") for chunk in chunks)
        assert chunks[-1]["usage"]["completion_tokens"] > 0
    status_now = await engine.status()
    assert [one["model"] for one in status_now["instances"]] == ["qwen2.5-coder-1.5b"], "one model at a time here"
    assert status_now["requests"]["active"] == []
    last = status_now["swaps"][-1]
    assert (last["model"], last["gave_way"]) == ("qwen2.5-coder-1.5b", ["qwen2.5-coder-0.5b"])
    phases = ["pull", "drain", "save", "stop", "memory", "load", "restore", "first"]
    assert list(last["phases_ms"]) == phases and last["phases_ms"]["load"] > 0


async def test_every_api_of_the_child_is_relayed(engine: EngineProcess) -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    asked: dict[str, dict[str, object]] = {
        "/v1/chat/completions": {"messages": messages, "max_tokens": 4},
        "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
        "/completion": {"prompt": "Hello", "n_predict": 4},
        "/v1/responses": {"input": "Say hello.", "max_output_tokens": 4},
        "/v1/messages": {"messages": messages, "max_tokens": 4},
        "/v1/messages/count_tokens": {"messages": messages},
        "/v1/responses/input_tokens": {"input": "Say hello."},
        "/tokenize": {"content": "Hello there"},
        "/detokenize": {"tokens": [1, 2]},
        "/apply-template": {"messages": messages},
    }
    for path, body in asked.items():
        status, answer = await engine.post(path, {"model": "fast", **body})
        assert status == 200, (path, answer)
    status, answer = await engine.post(
        "/infill", {"model": "balanced", "input_prefix": "a =", "input_suffix": "", "n_predict": 4}
    )
    assert status == 501 and "not supported by this model" in str(answer), "llama-server's own words"


@pytest.mark.long
async def test_a_model_that_was_trained_for_it_fills_in(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, embedded_config(scheduling={"preload": []})) as engine:
        wish = {
            "model": "balanced",
            "input_prefix": "def add(a, b):\n    return a ",
            "input_suffix": "\n",
            "n_predict": 4,
        }
        status, answer = await engine.post("/infill", wish)
    assert status == 200 and "b" in answer["content"]


async def test_a_method_that_a_path_lacks_touches_no_model(engine: EngineProcess) -> None:
    before = (await engine.status())["journal"]
    async with aiohttp.ClientSession(engine.url) as session:
        for method in ("GET", "OPTIONS", "HEAD", "DELETE", "PUT"):
            async with session.request(method, "/v1/chat/completions?model=ultra") as answer:
                assert answer.status == 405
    assert (await engine.status())["journal"] == before


async def _metrics(engine: EngineProcess) -> str:
    async with aiohttp.ClientSession() as session, session.get(engine.url + "/metrics") as answer:
        return await answer.text()


async def _written_tokens(engine: EngineProcess, model: str) -> float:
    found = re.search(rf'variet_tokens_total\{{kind="output",model="{model}"\}} (\S+)', await _metrics(engine))
    return float(found[1]) if found else 0.0


async def test_streams_of_every_api_are_whole(engine: EngineProcess) -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    before = await _written_tokens(engine, "smollm2-135m")
    for path, body, last in (
        ("/v1/messages", {"messages": messages, "max_tokens": 4}, "message_stop"),
        ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 4}, "response."),
        ("/v1/completions", {"prompt": "Hello", "max_tokens": 4}, "[DONE]"),
    ):
        status, events, whole = await read_stream(engine.url, path, {"model": "fast", "stream": True, **body})
        assert (status, whole) == (200, True) and last in events[-1], (path, events[-1])
    assert await _written_tokens(engine, "smollm2-135m") == before + 12, "counted on every API"
    assert 'phase="load"' in await _metrics(engine)


async def test_models_are_listed_with_what_clients_ask_for(engine: EngineProcess) -> None:
    listed = {one["id"]: one for one in (await engine.get("/v1/models"))["data"]}
    assert set(TIERS) <= set(listed)
    assert listed["fast"]["context_length"] == 8192 and listed["gpt-4o"]["model"] == "qwen2.5-coder-0.5b"


async def test_names_errors_and_pages(engine: EngineProcess) -> None:
    status, answer = await engine.post("/v1/chat/completions", chat("gpt-5"))
    assert status == 404 and "deep-coder" in answer["error"]["message"] and answer["error"]["code"] == "model_not_found"
    status, answer = await engine.post("/v1/messages", chat("gpt-5"))
    assert status == 404 and answer["type"] == "error" and answer["error"]["type"] == "not_found_error"
    status, _ = await engine.post("/v1/messages", chat("claude-haiku-4-5"))
    assert status == 200
    for path in ("/slots", "/tools", "/cors-proxy", "/v1/stream/abc"):
        assert (await engine.post(path, {}))[0] == 403
    assert (await engine.post("/nowhere", {}))[0] == 404
    status, answer = await engine.post("/v1/messages", chat("fast", "word " * 9_000))
    assert status == 400 and answer["type"] == "error" and "prompt is too long" in answer["error"]["message"]
    async with aiohttp.ClientSession() as session:
        for method in ("HEAD", "GET"):
            async with session.request(method, engine.url + "/") as page:
                assert page.status == 200
        for origin in ("http://localhost:5173", "http://127.0.0.1", "https://evil.example", "null"):
            preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with session.options(engine.url + "/v1/chat/completions", headers=preflight) as page:
                assert "access-control-allow-origin" not in page.headers, "by default its own pages alone"


async def test_resident_never_swaps(engine: EngineProcess) -> None:
    await engine.post("/v1/chat/completions", chat("balanced"))
    status, _ = await engine.post("/v1/chat/completions", chat("resident"))
    assert status == 200 and [one["model"] for one in (await engine.status())["instances"]] == ["qwen2.5-coder-0.5b"]
    body = chat("resident")
    del body["model"]
    assert (await engine.post("/v1/chat/completions", body))[0] == 200
    assert [one["model"] for one in (await engine.status())["instances"]] == ["qwen2.5-coder-0.5b"]


async def test_swap_load_and_unload_by_hand(engine: EngineProcess) -> None:
    assert (await engine.post("/engine/swap", {"model": "balanced"}))[0] == 200
    assert (await engine.status())["tiers"]["balanced"]["state"] == "ready"
    status, answer = await engine.post("/engine/load", {"model": "fast"})
    assert status == 409 and "swap" in answer["detail"]
    assert (await engine.post("/engine/unload", {"model": "balanced"}))[0] == 200
    assert (await engine.status())["instances"] == []
    assert engine.children() == []


async def test_unload_now_cuts_and_does_not_bring_the_model_back(engine: EngineProcess) -> None:
    await engine.post("/engine/swap", {"model": "fast"})

    def cut(number: int) -> None:
        if number == 3:
            cuts.append(asyncio.create_task(engine.post("/engine/unload", {"model": "fast", "now": True})))

    cuts: list[asyncio.Task[tuple[int, object]]] = []
    body = chat("fast", "Tell a long story.", tokens=2_000, stream=True)
    _, events, whole = await read_stream(engine.url, "/v1/chat/completions", body, on_event=cut)
    assert not whole and "[DONE]" not in events
    assert (await cuts[0])[0] == 200
    assert (await engine.status())["instances"] == []


async def test_a_stream_that_waits_long_gets_its_headers_and_comments(tmp_path: Path, models: Path) -> None:
    """Headers are held until the hold runs out; then comments keep the client, and errors come inside the stream."""
    config = light_config(server={"hold_headers_s": 0.1, "keepalive_s": 0.1}, scheduling={"preload": []})
    async with running(tmp_path / "home", models, config) as engine, aiohttp.ClientSession() as session:
        url = engine.url + "/v1/chat/completions"
        async with session.post(url, json=chat("deep-coder", stream=True)) as answer:
            lines = [line.decode().strip() async for line in answer.content]
        assert answer.status == 200 and lines[0].startswith(": variet {"), "the model was still loading"
        assert json.loads(lines[0].removeprefix(": variet "))["stage"] == "load"
        data = [line for line in lines if line.startswith("data: ")]
        assert json.loads(data[0][6:])["choices"] and data[-1] == "data: [DONE]"
        await engine.post("/engine/swap", {"model": "fast"})
        too_long = chat("deep-coder", "word " * 20_000, stream=True)
        status, events, whole = await read_stream(engine.url, "/v1/chat/completions", too_long)
        assert status == 200 and not whole and "[DONE]" not in events
        assert "context" in json.loads(events[-1])["error"]["message"]
