"""`/v1/responses` through the engine, as OpenAI's own SDK reads it, beside what llama-server's own says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from tests.integration.test_assembly import FUNCTION, SYSTEM, WEATHER, config
from tests.integration.test_messages import child
from tests.integration.test_scripted import scripted_config
from tests.support.clients import response_of
from tests.support.engine import EngineProcess, embedded_config, light_config, read_stream, running, template_of

pytestmark = pytest.mark.models

TOOLS = [{"type": "function", **FUNCTION}]
USE = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city": "Paris"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "Sunny."}
CASES: dict[str, dict[str, Any]] = {
    "a text": {"input": "Say hello.", "max_output_tokens": 60},
    "a text that is cut": {"input": "Say hello.", "max_output_tokens": 6},
    "parts": {
        "instructions": "Be brief.", "max_output_tokens": 60,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}],
    },
    "a call": {"instructions": SYSTEM, "input": [WEATHER], "tools": TOOLS, "max_output_tokens": 60},
    "a call that is cut": {"instructions": SYSTEM, "input": [WEATHER], "tools": TOOLS, "max_output_tokens": 16},
    "after a call": {
        "instructions": "Say nothing but: It is sunny.", "max_output_tokens": 60,
        "input": [{"role": "user", "content": "Weather in Paris?"}, USE, RESULT],
    },
}  # fmt: skip


def client(engine: EngineProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0)


def said(response: dict[str, Any]) -> list[Any]:
    """What an answer says, without its names and the state that llama-server tells wrongly."""
    return [
        (item["type"], item.get("name"), item.get("arguments"), [part["text"] for part in item.get("content") or ()])
        for item in response["output"]
    ]


TEXTS = {name: case for name, case in CASES.items() if "tools" not in case and "cut" in name}


@pytest.mark.parametrize(
    ("name", "cases"), [("smollm2-135m", TEXTS), pytest.param("qwen2.5-coder-1.5b", CASES, marks=pytest.mark.long)]
)
async def test_it_says_what_llama_server_says(
    tmp_path: Path, models: Path, name: str, cases: dict[str, dict[str, Any]]
) -> None:
    model = models / name
    template = tmp_path / "template.jinja"
    template.write_text(template_of(model).replace("tool_call>", "callit>"), encoding="utf-8")
    one_slot_and_two = config(model, "--chat-template-file", str(template))
    one_slot_and_two["scheduling"]["max_resident"] = 1
    async with running(tmp_path / "home", models, one_slot_and_two) as engine:
        for name in ("alone", "beside"):  # asked plainly, and put together from a stream
            await engine.post("/engine/swap", {"model": name})
            async with child(engine) as direct:
                for what, case in cases.items():
                    if name == "beside" and what != "a call" and cases is CASES:
                        continue  # the other ways are compared; this one takes time
                    body = {**case, "model": name, "temperature": 0}
                    status, plain = await engine.post("/v1/responses", body)
                    assert status == 200, plain
                    Response.model_validate(plain)
                    _, lines, _ = await read_stream(engine.url, "/v1/responses", {**body, "stream": True})
                    streamed = response_of(json.loads(line) for line in lines)
                    async with direct.post("/v1/responses", json=body) as answer:
                        own = await answer.json()
                    assert said(plain) == said(streamed) == said(own), what
                    assert plain["status"] == streamed["status"]
                    cut = plain["usage"]["output_tokens"] == case["max_output_tokens"]
                    assert plain["status"] == ("incomplete" if cut else "completed"), what
                    assert cut == ("cut" in what), what
                    _, counted = await engine.post("/v1/responses/input_tokens", body)
                    assert counted["input_tokens"] == plain["usage"]["input_tokens"]
                    for key in ("input_tokens", "output_tokens", "total_tokens"):
                        assert plain["usage"][key] == streamed["usage"][key] == own["usage"][key], what


@pytest.mark.parametrize("slots", [pytest.param(1, marks=pytest.mark.long), 2])
async def test_a_loop_of_calls_as_its_sdk_makes_it(tmp_path: Path, models: Path, slots: int) -> None:
    """Qwen2.5-Coder writes its call as text; it is rescued, answered, and nothing is read twice."""
    settings = embedded_config(scheduling={"preload": ["balanced"]})
    settings["models"]["qwen2.5-coder-0.5b"]["slots"] = slots
    async with running(tmp_path / "home", models, settings) as engine, client(engine) as sdk:
        asked: dict[str, Any] = {
            "model": "balanced", "tools": TOOLS, "temperature": 0, "max_output_tokens": 60,
            "instructions": "You are a weather service. " + "Answer in full sentences. " * 30,
        }  # fmt: skip
        talk: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
        first = await sdk.responses.create(input=talk, **asked)
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert call.name == "get_weather" and "Paris" in json.loads(call.arguments)["city"]

        async with sdk.responses.stream(input=talk, **asked) as events:
            kinds = [event.type async for event in events]
            streamed = await events.get_final_response()
        assert "response.function_call_arguments.done" in kinds and kinds[-1] == "response.completed"
        assert [item.type for item in streamed.output] == [item.type for item in first.output]

        talk += [item.model_dump(exclude_none=True) for item in streamed.output]
        talk.append({"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 21 degrees."})
        talk[-1]["call_id"] = next(item.call_id for item in streamed.output if item.type == "function_call")
        second = await sdk.responses.create(input=talk, **{**asked, "tool_choice": "none"})
        assert second.output_text and second.usage is not None and streamed.usage is not None
        assert second.usage.input_tokens_details.cached_tokens > 0.9 * streamed.usage.input_tokens


async def test_a_tier_s_settings_hold_and_a_form_is_kept(tmp_path: Path, models: Path) -> None:
    """llama-server's own Responses drop the form."""
    settings = light_config(scheduling={"preload": ["fast"]})
    settings["tiers"]["fast"]["max_tokens"] = 40
    schema = {
        "type": "object", "properties": {"city": {"const": "Oslo"}}, "required": ["city"],
        "additionalProperties": False,
    }  # fmt: skip
    async with running(tmp_path / "home", models, settings) as engine, client(engine) as sdk:
        form: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema, "strict": True}}
        answer = await sdk.responses.create(model="fast", input="Name a city.", text=form, temperature=0)
        assert json.loads(answer.output_text) == {"city": "Oslo"}
        long = await sdk.responses.create(model="fast", input="Tell me a long story.", temperature=0)
        assert long.usage is not None and long.usage.output_tokens <= 40
        metrics = await engine.text("/metrics")
        assert 'variet_tokens_total{kind="output",model="smollm2-135m"}' in metrics


async def test_what_breaks_off_is_an_error_to_its_sdk(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, scripted_config(models)) as engine, client(engine) as sdk:
        for at in ({"die_at": 3}, {"error_at": 3}):
            heard: list[str] = []
            with pytest.raises(openai.APIError, match=r"model server|as scripted"):
                async for event in await sdk.responses.create(
                    model="fast", input="hi", stream=True, extra_body={"script": {"tokens": 9, "gap_ms": 50, **at}}
                ):
                    heard.append(event.type)
            # What a process wrote in the moment of its death may be lost with it.
            assert heard.count("response.output_text.delta") in (2, 3) and heard[-1] == "response.failed"


async def test_what_cannot_be_answered_is_said(engine: EngineProcess) -> None:
    async with client(engine) as sdk:
        with pytest.raises(openai.BadRequestError, match="whole conversation"):
            await sdk.responses.create(model="fast", input="hi", previous_response_id="resp_1")
        with pytest.raises(openai.BadRequestError, match="needs 'input'"):
            await sdk.responses.create(model="fast")
        with pytest.raises(openai.BadRequestError, match="context"):
            await sdk.responses.create(model="fast", input="word " * 9_000)
        with pytest.raises(openai.BadRequestError, match="context"):
            async with sdk.responses.stream(model="fast", input="word " * 9_000) as events:
                async for _ in events:
                    pass
        tools: Any = [{"type": "web_search"}, *TOOLS]
        answer = await sdk.responses.create(model="fast", input="hi", tools=tools, max_output_tokens=16)
        assert answer.status in ("completed", "incomplete"), "a tool that only others can run is passed over"
    assert any("passed over" in line and "web_search" in line for line in engine.output)
