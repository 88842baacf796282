"""Faults of APIs that strangers met, each with its right value: by the SDKs' own clients and real templates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.integration.test_messages import child
from tests.integration.test_scripted import scripted_config
from tests.support.engine import EngineProcess, chat, light_config, running

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"url": {"type": "string"}, "source": {"default": "https://a.example/"}}}
FETCH: Any = {"name": "fetch", "description": "Fetch", "input_schema": SCHEMA}
LOOK: Any = {"name": "look", "description": "Look", "input_schema": {"type": "object", "properties": {}}}
HELLO = {"role": "user", "content": "Say hello."}
FETCHED: Any = [
    HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "fetch",
                                       "input": {"url": "https://a.example/", "source": "file:///etc/passwd"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "http://b.example/ says hi"}]},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory, models: Path) -> AsyncIterator[EngineProcess]:
    """An engine whose model is scripted: what reaches it is what is looked at."""
    async with running(tmp_path_factory.mktemp("told") / "home", models, scripted_config(models)) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    """The same, of one test alone: it counts what came, or kills."""
    async with running(tmp_path / "home", models, scripted_config(models)) as engine:
        yield engine


async def reached(engine: EngineProcess) -> dict[str, Any]:
    """The last body that the model server got."""
    body: dict[str, Any] = (await engine.get("/props"))["last_body"]
    return body


# --- media ---


async def test_addresses_in_calls_schemas_and_metadata_are_only_read(told: EngineProcess) -> None:
    async with AsyncAnthropic(base_url=told.url, api_key="none", max_retries=0) as sdk:
        answer = await sdk.messages.create(
            model="fast", max_tokens=8, messages=FETCHED, tools=[FETCH, LOOK],
            metadata={"user_id": "https://a.example/me"},
            extra_body={"mcp_servers": [{"url": "https://mcp.example"}], "source": {"url": "http://x.example"}},
        )  # fmt: skip
    assert answer.content
    status, _ = await told.post(
        "/v1/chat/completions", {**chat("fast"), "url": "http://x", "annotations": {"url": "http://x"}}
    )
    assert status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "http://10.0.0.1/a.wav", "format": "wav"}}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "input_video", "input_video": {"data": "https://x.example/v"}}]}]}),
        ("/v1/messages", {"max_tokens": 4, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}]}]}),
        ("/v1/messages", {"max_tokens": 4, "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}]}]}]}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "http://10.0.0.1/"}]}]}),
        ("/apply-template", {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}]}),
        ("/completion", {"prompt": {"prompt_string": "x", "multimodal_data": ["http://10.0.0.1/"]}}),
    ],
)  # fmt: skip
async def test_media_that_the_model_server_would_fetch_is_refused(told: EngineProcess, path: str, body: Any) -> None:
    status, answer = await told.post(path, {"model": "fast", **body})
    assert status == 400 and "inline" in json.dumps(answer)


async def test_a_picture_in_a_tools_result_is_handed_on_after_it_and_a_pdf_is_told(told: EngineProcess) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seen:"}, picture, pdf]},
        {"type": "tool_result", "tool_use_id": "t2", "content": [picture]},
        {"type": "text", "text": "What is it?"}, pdf,
    ]  # fmt: skip
    uses: Any = [{"type": "tool_use", "id": name, "name": "look", "input": {}} for name in ("t1", "t2")]
    messages: Any = [HELLO, {"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    async with AsyncAnthropic(base_url=told.url, api_key="none", max_retries=0) as sdk:
        await sdk.messages.create(model="fast", max_tokens=8, messages=messages, tools=[LOOK])
    first, second, after = (await reached(told))["messages"][2:]
    assert first["role"] == second["role"] == "tool" and first["content"].startswith("seen:")
    assert "PDF document that cannot be read" in first["content"]
    kinds = [part["type"] for part in after["content"]]
    assert after["role"] == "user" and kinds == ["image_url", "image_url", "text", "text"]
    assert after["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert "PDF" in after["content"][-1]["text"]


# --- system messages ---

STRICT = (  # as Qwen3.5's template has it
    "{%- for m in messages %}{%- if m.role == 'system' and not loop.first %}"
    "{{- raise_exception('System message must be at the beginning.') }}{%- endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)


@pytest_asyncio.fixture(loop_scope="module")
async def strict(tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    template = tmp_path / "template.jinja"
    template.write_text(STRICT)
    config = light_config(scheduling={"preload": []})
    config["models"]["smollm2-135m"]["args"] = ["--chat-template-file", str(template)]
    async with running(tmp_path / "home", models, config) as engine:
        yield engine


async def test_a_system_message_is_read_wherever_it_stands(strict: EngineProcess) -> None:
    later = [HELLO, {"role": "assistant", "content": "Hello."}, HELLO, {"role": "system", "content": "The mark is 7."}]
    async with AsyncAnthropic(base_url=strict.url, api_key="none", max_retries=0) as sdk:
        wished: Any = {"model": "fast", "system": "Be brief.", "messages": later}
        answer = await sdk.messages.create(max_tokens=4, **wished)
        counted = await sdk.messages.count_tokens(**wished)
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    two = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}, *later]
    async with AsyncOpenAI(base_url=f"{strict.url}/v1", api_key="none", max_retries=0) as openai_sdk:
        for messages in (two, [*two, {"role": "system", "content": [{"type": "text", "text": "And once more."}]}]):
            said = await openai_sdk.chat.completions.create(model="fast", messages=messages, max_tokens=4)  # type: ignore[arg-type]
            assert said.choices[0].finish_reason
    _, rendered = await strict.post("/apply-template", {"model": "fast", "messages": two})
    prompt = rendered["prompt"]
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nBe kind.<|im_end|>")
    assert "Say hello.\n\n<system-reminder>\nThe mark is 7.\n</system-reminder><|im_end|>" in prompt
    alone = [
        {"role": "system", "content": "A"},
        HELLO,
        {"role": "assistant", "content": "B"},
        {"role": "system", "content": "C"},
    ]
    _, rendered = await strict.post("/apply-template", {"model": "fast", "messages": alone})
    assert "<|im_start|>user\n<system-reminder>\nC\n</system-reminder>" in rendered["prompt"]
    untouched = {"model": "fast", "messages": [{"role": "system", "content": "A"}, HELLO]}
    assert "reminder" not in (await strict.post("/apply-template", untouched))[1]["prompt"]


# --- tools ---


def of_chat(*tools: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": one["name"], "parameters": one["input_schema"]}} for one in tools]


@pytest.mark.parametrize(
    ("path", "choice"),
    [
        ("/v1/chat/completions", {"type": "function", "function": {"name": "look"}}),
        ("/v1/chat/completions", {"type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}}),
        ("/v1/messages", {"type": "tool", "name": "look"}),
        ("/v1/responses", {"type": "function", "name": "look"}),
        ("/v1/responses", {"type": "allowed_tools", "mode": "required",
                           "tools": [{"type": "function", "name": "look"}]}),
    ],
)  # fmt: skip
async def test_a_choice_of_one_tool_leaves_that_tool_alone(told: EngineProcess, path: str, choice: Any) -> None:
    body: dict[str, Any] = {"model": "fast", "tool_choice": choice}
    if path == "/v1/messages":
        body |= {"messages": [HELLO], "tools": [FETCH, LOOK], "max_tokens": 8}
    elif path == "/v1/responses":
        body |= {
            "input": "Say hello.",
            "tools": [{"type": "function", **one["function"]} for one in of_chat(FETCH, LOOK)],
        }
    else:
        body |= {"messages": [HELLO], "tools": of_chat(FETCH, LOOK)}
    status, answer = await told.post(path, body)
    assert status == 200, answer
    sent = await reached(told)
    assert sent["tool_choice"] == "required" and [one["function"]["name"] for one in sent["tools"]] == ["look"]


@pytest.mark.parametrize("choice", ["any", {"type": "any"}, "required"])
async def test_any_tool_is_a_call_that_is_required(told: EngineProcess, choice: Any) -> None:
    body = {**chat("fast"), "tools": of_chat(FETCH, LOOK), "tool_choice": choice}
    assert (await told.post("/v1/chat/completions", body))[0] == 200
    sent = await reached(told)
    assert sent["tool_choice"] == "required" and len(sent["tools"]) == 2


@pytest.mark.parametrize("choice", ["auto", "none", None])
async def test_other_choices_stay_as_they_are(told: EngineProcess, choice: Any) -> None:
    body = {**chat("fast"), "tools": of_chat(FETCH, LOOK), "tool_choice": choice}
    assert (await told.post("/v1/chat/completions", body))[0] == 200
    sent = await reached(told)
    assert sent.get("tool_choice") == choice and len(sent["tools"]) == 2


async def test_tools_of_other_peoples_servers_are_passed_over_unless_one_is_forced(told: EngineProcess) -> None:
    web: Any = {"type": "web_search_20250305", "name": "web_search"}
    own: Any = {"type": "custom", **LOOK}
    async with AsyncAnthropic(base_url=told.url, api_key="none", max_retries=0) as sdk:
        asked: Any = {"model": "fast", "max_tokens": 8, "messages": [HELLO]}
        await sdk.messages.create(tools=[web, own], **asked)
        assert [one["function"]["name"] for one in (await reached(told))["tools"]] == ["look"]
        await sdk.messages.create(tools=[web], **asked)
        assert "tools" not in await reached(told)
        choices: list[Any] = [{"type": "tool", "name": "web_search"}, {"type": "any"}]
        for choice in choices:
            with pytest.raises(Exception, match="asks for a call") as refused:
                await sdk.messages.create(tools=[web], tool_choice=choice, **asked)
            assert refused.value.status_code == 400  # type: ignore[attr-defined]
    assert any("passed over" in line and "web_search_20250305" in line for line in told.output)


@pytest.mark.parametrize("arguments", ['{"p":"a', "", "null", "[1]", "nonsense", '{"p": "\\ud83d'])
async def test_calls_that_were_cut_break_no_later_turn(told: EngineProcess, arguments: str) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}},
             {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}]  # fmt: skip
    results = [{"role": "tool", "tool_call_id": one["id"], "content": "x"} for one in calls]
    body = {"model": "fast", "messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": calls}, *results]}
    assert (await told.post("/v1/chat/completions", body))[0] == 200
    sent = (await reached(told))["messages"][1]["tool_calls"]
    assert [one["function"]["arguments"] for one in sent] == ["{}", '{"a": 1}']


async def test_half_of_a_surrogate_pair_is_a_replacement_character(told: EngineProcess) -> None:
    said = b'[{"role": "user", "content": "cut \\ud83d and \\ude00\\ud83d"}]'
    raw = b'{"model": "fast", "max_tokens": 4, "messages": ' + said + b"}"
    async with aiohttp.ClientSession() as session, session.post(f"{told.url}/v1/chat/completions", data=raw) as answer:
        assert answer.status == 200
    assert (await reached(told))["messages"][0]["content"] == "cut \ufffd and \ufffd\ufffd"


async def test_a_list_goes_through_where_the_path_takes_one(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, light_config(scheduling={"preload": []})) as engine:
        await engine.post("/engine/swap", {"model": "fast"})
        async with child(engine) as direct:
            for body in ([], [{"id": 0, "scale": 0.5}]):
                async with direct.post("/lora-adapters", json=body) as own:
                    status, answer = await engine.post("/lora-adapters", body)
                    assert (status, answer) == (own.status, await own.json())
        status, answer = await engine.post("/v1/chat/completions", [chat("fast")])
        assert status == 400 and "must be a JSON object" in answer["error"]["message"]


# --- usage ---


@pytest.mark.parametrize("real", [False, True])
async def test_usage_is_shown_to_who_asked_for_it(tmp_path: Path, models: Path, real: bool) -> None:
    config = light_config(scheduling={"preload": []}) if real else scripted_config(models)
    async with (
        running(tmp_path / "home", models, config) as engine,
        AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as sdk,
    ):
        asked: Any = {"model": "fast", "messages": [HELLO], "max_tokens": 6, "stream": True}
        script = {"script": {"tokens": 6}}
        said = ""
        async for chunk in await sdk.chat.completions.create(**asked, extra_body=script):
            said += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason
        assert said and finish in ("stop", "length"), "every chunk has a choice"
        chunks = [chunk async for chunk in await sdk.chat.completions.create(
            **asked, stream_options={"include_usage": True}, extra_body=script)]  # fmt: skip
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices
        async for piece in await sdk.completions.create(model="fast", prompt="Hi", max_tokens=3, stream=True,
                                                        extra_body={"messages": [HELLO], **script}):  # fmt: skip
            assert piece.choices
        status = await engine.until("over", lambda now: not now["requests"]["active"])
        assert status["requests"]["done"] == 3
        recent = (await engine.get("/engine/requests"))["recent"]
        assert all(row["output_tokens"] > 0 and row["prompt_tokens"] > 0 for row in recent), "counted all the same"


# --- refusals and deaths ---


async def test_what_is_refused_leaves_a_line(fresh: EngineProcess) -> None:
    tried = {
        "model_not_found": ("/v1/chat/completions", chat("nope"), {}),
        "invalid_messages": ("/v1/messages", {"model": "fast", "messages": 3}, {}),
        "path_not_relayed": ("/slots/0", {}, {}), "unknown_path": ("/nowhere", {}, {}),
        "unknown_origin": ("/v1/chat/completions", chat("fast"), {"Origin": "https://evil.example"}),
        "unknown_host": ("/v1/chat/completions", chat("fast"), {"Host": "evil.local"}),
        "media_url_refused": ("/v1/chat/completions", {"model": "fast", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://x"}}]}]}, {}),
    }  # fmt: skip
    async with aiohttp.ClientSession() as session:
        for path, body, headers in tried.values():
            async with session.post(fresh.url + path, json=body, headers=headers) as answer:
                assert 400 <= answer.status < 500
        async with session.post(f"{fresh.url}/v1/completions", data=b"x" * (65 << 20)) as answer:
            assert answer.status == 413
    codes = {*tried, "body_too_large"}
    recent = (await fresh.get("/engine/requests"))["recent"]
    assert {row["outcome"] for row in recent} == codes and {row["path"] for row in recent} >= {"/slots/0", "/nowhere"}
    metrics = await fresh.text("/metrics")
    assert all(f'outcome="{code}"' in metrics for code in codes)
    assert all(any(f": {code} in " in line for line in fresh.output) for code in codes)


async def test_a_neighbour_of_a_request_that_kills_is_not_punished(fresh: EngineProcess) -> None:
    """Two in one child, of which one ends it, twice: nobody knows which. Alone, it shows."""
    calm = {**chat("fast", "calm"), "script": {"first_ms": 500, "tokens": 4, "gap_ms": 50}}
    deadly = {**chat("fast", "deadly"), "script": {"first_ms": 500, "tokens": 4, "die_at": 0}, "stream": True}

    async def ask(body: dict[str, Any]) -> tuple[int, str]:
        try:
            status, answer = await fresh.post("/v1/chat/completions", body)
        except aiohttp.ClientPayloadError:  # an error within a stream ends it
            return 500, "aborted"
        return status, json.dumps(answer)

    await fresh.post("/engine/swap", {"model": "fast"})
    await asyncio.gather(ask(calm), ask(deadly))
    status, said = await ask(calm)
    assert status == 200, said
    for _ in range(2):
        await ask(deadly)
    assert "request_refused" in (await ask(deadly))[1], "alone, it is known for what it does"
    assert (await ask(calm))[0] == 200


async def test_two_engines_do_not_share_a_state_folder(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, scripted_config(models)) as engine:
        second = EngineProcess(tmp_path / "home", models)
        with pytest.raises(AssertionError, match="another engine uses this state folder"):
            await second.start(scripted_config(models))
        assert await second.wait() == 1 and "VARIET_HOME" in "\n".join(second.output)
        assert (await engine.post("/v1/chat/completions", chat("fast")))[0] == 200
        assert (tmp_path / "home" / "state" / "running.json").is_file(), "the first one's stays"
    async with running(tmp_path / "home", models, scripted_config(models)) as again:
        assert (await again.post("/v1/chat/completions", chat("fast")))[0] == 200


@pytest.mark.parametrize("allowed", [[], ["http://localhost", "https://ide.example"]])
async def test_pages_of_other_origins_are_let_in_where_the_owner_names_them(
    tmp_path: Path, models: Path, allowed: list[str]
) -> None:
    config = scripted_config(models, server={"cors_origins": allowed})
    async with running(tmp_path / "home", models, config) as engine, aiohttp.ClientSession() as session:
        own = engine.url
        tried = {"http://localhost:5173": bool(allowed), "https://ide.example": bool(allowed), own: True,
                 "https://evil.example": False, "http://localhost.evil.example": False, "null": False}  # fmt: skip
        for origin, let_in in tried.items():
            async with session.post(
                f"{own}/v1/chat/completions", json=chat("fast"), headers={"Origin": origin}
            ) as answer:
                assert (answer.status == 200) is let_in, origin
            async with session.get(f"{own}/engine/requests", headers={"Origin": origin}) as answer:
                assert (answer.status == 200) is let_in, origin
        cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        async with session.get(f"{own}/props?model=ultra", headers=cross) as answer:
            assert answer.status == 403, "an image of another site sends no Origin"
        async with session.get(f"{own}/", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}) as answer:
            assert answer.status == 200
