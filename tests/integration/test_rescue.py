"""Tool calls that a real model writes as text reach clients of both APIs as calls, streamed or not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.engine import EngineProcess, embedded_config, read_stream, running

pytestmark = pytest.mark.models
MODEL = "qwen2.5-coder-0.5b"

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS}}
ANTHROPIC = {"name": "get_weather", "description": "Weather of a city", "input_schema": PARAMETERS}
QUESTION = {"role": "user", "content": "What is the weather in Paris? Use the tool."}


def asked(**fields: Any) -> dict[str, Any]:
    common = {"model": "balanced", "messages": [QUESTION], "max_tokens": 60, "temperature": 0}
    return {**common, "tools": [OPENAI], **fields}


def called(calls: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in calls]


def config(slots: int) -> dict[str, Any]:
    """The 0.5B behind `balanced`, and behind `deep-logic`, which leaves text as it is."""
    made = embedded_config(scheduling={"preload": ["balanced"]})
    made["models"][MODEL]["slots"] = slots
    made["tiers"]["deep-logic"] = {"model": MODEL, "rescue_tool_calls": False}
    return made


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(1, marks=pytest.mark.long), 2],
    ids=["asked plainly", "put together"],
)
async def engine(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EngineProcess]:
    home = tmp_path_factory.mktemp("rescue") / "home"
    async with running(home, models, config(request.param)) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_a_fence_of_json_becomes_a_call(engine: EngineProcess) -> None:
    """Whole, streamed, and as Messages; and it costs no reading where it comes back as history."""
    status, whole = await engine.post("/v1/chat/completions", asked())
    assert status == 200
    (choice,) = whole["choices"]
    calls = called(choice["message"]["tool_calls"])
    assert [name for name, _ in calls] == ["get_weather"] and "Paris" in calls[0][1]["city"]
    assert choice["finish_reason"] == "tool_calls" and "```" not in choice["message"]["content"]

    _, lines, _ = await read_stream(engine.url, "/v1/chat/completions", asked(stream=True))
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    deltas = [one["choices"][0] for one in events if one["choices"]]
    found = [call for one in deltas for call in one["delta"].get("tool_calls") or ()]
    assert called(found) == calls
    assert [one["finish_reason"] for one in deltas if one["finish_reason"]] == ["tool_calls"]

    status, message = await engine.post("/v1/messages", asked(tools=[ANTHROPIC]))
    assert status == 200 and message["stop_reason"] == "tool_use"
    (use,) = [one for one in message["content"] if one["type"] == "tool_use"]
    assert (use["name"], use["input"]) == calls[0]

    said = choice["message"]
    result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "Sunny, 21 degrees."}
    status, answer = await engine.post("/v1/chat/completions", asked(messages=[QUESTION, said, result]))
    assert status == 200, answer
    assert answer["timings"]["cache_n"] > 0.9 * whole["usage"]["prompt_tokens"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tier_may_leave_text_as_it_is(engine: EngineProcess) -> None:
    _, whole = await engine.post("/v1/chat/completions", asked(model="deep-logic"))
    (choice,) = whole["choices"]
    assert "tool_calls" not in choice["message"] and "get_weather" in choice["message"]["content"]
