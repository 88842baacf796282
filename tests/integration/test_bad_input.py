"""What a user or a disk can do wrong: a clear error each time, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine import EngineProcess, chat, light_config, running

pytestmark = pytest.mark.models


def with_file(path: Path, sha256: str | None = None) -> dict[str, object]:
    """The embedded default with `balanced` on another file."""
    config = light_config(scheduling={"preload": []})
    spec = {"source": f"path:{path}"} | ({"sha256": sha256} if sha256 else {})
    config["models"]["other"] = {"files": {"model": spec}, "context_tokens": 512, "gpus": "none"}
    config["tiers"]["balanced"]["model"] = "other"
    return config


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"not a model", "not a GGUF"), ("truncated", "truncated"), ("wrong sum", "SHA-256")],
)
async def test_a_bad_model_file_is_named_and_the_other_tiers_work(
    content: bytes | str | None, words: str, tmp_path: Path, models: Path
) -> None:
    path = tmp_path / "model.gguf"
    good = models / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256 = None
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        data = good.read_bytes()
        path.write_bytes(data[: len(data) // 2] if content == "truncated" else data)
        sha256 = hashlib.sha256(b"another").hexdigest() if content == "wrong sum" else None
    async with running(tmp_path / "home", models, with_file(path, sha256)) as engine:
        status, answer = await engine.post("/v1/chat/completions", chat("balanced"))
        assert status == 503 and words in answer["error"]["message"], answer
        assert (await engine.post("/v1/chat/completions", chat("fast")))[0] == 200


async def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = EngineProcess(tmp_path / "home", models)
        with pytest.raises(AssertionError, match="did not start"):
            await engine.start(port=taken.getsockname()[1])
        assert await engine.wait() == 1
    left = list(Path(tempfile.gettempdir()).glob(f"variet-{engine.pid}-*"))
    assert not left, "an engine that did not start leaves nothing behind"
    assert any("in use" in line for line in engine.output) and not any("Traceback" in line for line in engine.output)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"model": JSON_VALUES, "messages": JSON_VALUES, "stream": JSON_VALUES}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.fixed_dictionaries({"model": st.just("fast"), "messages": JSON_VALUES, "max_tokens": st.integers(-2, 4)}).map(
        lambda value: json.dumps(value).encode()
    ),
)


@pytest.fixture
async def capped(tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    """An engine whose fast tier bounds every answer, whatever the request says of it."""
    config = light_config(scheduling={"preload": []})
    config["tiers"]["fast"]["max_tokens"] = 16
    async with running(tmp_path / "home", models, config) as one:
        yield one


async def test_a_tier_bounds_answers_that_were_asked_for_without_end(capped: EngineProcess) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        for wish in ({"max_tokens": -1}, {"max_tokens": 5_000}, {}):
            body = {**chat("fast"), "prompt": "Hello", "ignore_eos": True}
            del body["max_tokens"]
            status, answer = await capped.post(path, {**body, **wish})
            assert status == 200 and answer["usage"]["completion_tokens"] == 16, (path, wish)


async def test_malformed_bodies_get_a_clear_error_and_disturb_nobody(capped: EngineProcess) -> None:
    engine = capped
    await engine.post("/engine/swap", {"model": "fast"})
    child = engine.children()[0].pid
    story = chat("smollm2-135m", "Tell a story.", tokens=300)  # by the model's own name: no tier, no cap
    bystander = asyncio.create_task(engine.post("/v1/chat/completions", story))
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    async def send(path: str, body: bytes) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(engine.url + path, data=body) as answer,
        ):
            text = await answer.text()
            seen.append(answer.status)
            assert answer.status in (200, 400, 404, 413, 415, 500), text
            if answer.status >= 400:
                assert json.loads(text)["error"]["message"], text

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/completions", "/tokenize"]), BODIES)
    def feed(path: str, body: bytes) -> None:
        asyncio.run_coroutine_threadsafe(send(path, body), loop).result()

    await asyncio.to_thread(feed)
    assert seen and (await bystander)[0] == 200
    assert engine.children()[0].pid == child, "the child was disturbed"
    async with aiohttp.ClientSession() as session:
        for body, status in ((b"{", 400), (b"[]", 400), (b'{"model": 5}', 400), (b"\xff\xfe", 400)):
            async with session.post(engine.url + "/v1/chat/completions", data=body) as answer:
                assert answer.status == status, await answer.text()
        async with session.post(engine.url + "/v1/completions", data=b"x" * (65 << 20)) as answer:
            assert answer.status == 413
        remote = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
        body_with_url = {"model": "fast", "messages": [{"role": "user", "content": [remote]}]}
        async with session.post(engine.url + "/v1/chat/completions", json=body_with_url) as answer:
            assert answer.status == 400 and "inline" in await answer.text()


async def test_a_content_type_does_not_smuggle_fields_past_the_engine(engine: EngineProcess) -> None:
    remote = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
    body = json.dumps({"messages": [{"role": "user", "content": [remote]}], "id_slot": 1}).encode()
    async with aiohttp.ClientSession() as session:
        for kind in ("multipart/mixed; boundary=x", "multipart/form-data; boundary=x", "text/plain"):
            url = engine.url + "/v1/chat/completions?model=fast"
            async with session.post(url, data=body, headers={"content-type": kind}) as answer:
                assert answer.status == 400 and "inline" in await answer.text()
        deep = b'{"model": "fast", "messages": ' + b"[" * 400 + b"]" * 400 + b"}"
        async with session.post(engine.url + "/v1/chat/completions", data=deep) as answer:
            assert answer.status == 400 and "nested" in await answer.text()


async def test_a_broken_configuration_is_refused_and_a_good_one_taken_in(engine: EngineProcess) -> None:
    config = json.loads(engine.config_path.read_text())
    running_request = asyncio.create_task(
        engine.post("/v1/chat/completions", chat("fast", "Tell a story.", tokens=200))
    )
    engine.write_config({**config, "tiers": {**config["tiers"], "fast": {"model": "nope", "tmperature": 1}}})
    status, answer = await engine.post("/engine/config/reload", {})
    assert status == 422
    assert {one["path"] for one in answer["detail"]["mistakes"]} == {"$.tiers.fast.model", "$.tiers.fast.tmperature"}
    config["tiers"]["fast"]["model"] = "qwen2.5-coder-0.5b"
    engine.write_config(config)
    status, answer = await engine.post("/engine/config/reload", {})
    assert status == 200
    assert (await running_request)[0] == 200, "a reload drops no request"
    await engine.post("/v1/chat/completions", chat("fast"))
    assert (await engine.status())["tiers"]["fast"] == (await engine.status())["tiers"]["fast"] | {
        "model": "qwen2.5-coder-0.5b", "state": "ready",
    }  # fmt: skip
