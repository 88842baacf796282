"""What the engine puts together from a stream is what llama-server itself answers to a plain request."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import TIERS, EngineProcess, running, template_of

pytestmark = pytest.mark.models

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather of a city", "parameters": PARAMETERS}
TOOL = '<callit>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</callit>'
SYSTEM = f"Answer only with {TOOL}"
WEATHER = {"role": "user", "content": "What is the weather in Paris? Call the tool get_weather."}
HELLO = [{"role": "user", "content": "Say hello in three words."}]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {
        "messages": [{"role": "system", "content": SYSTEM}, WEATHER], "max_tokens": 60,
        "tools": [{"type": "function", "function": FUNCTION}],
    }),
    ("/v1/messages", {
        "system": SYSTEM, "messages": [WEATHER], "max_tokens": 60,
        "tools": [{"name": "get_weather", "description": "The weather of a city", "input_schema": PARAMETERS}],
    }),
    ("/v1/messages", {
        "system": SYSTEM, "messages": [WEATHER], "max_tokens": 16,  # cut in its arguments
        "tools": [{"name": "get_weather", "description": "The weather of a city", "input_schema": PARAMETERS}],
    }),
]  # fmt: skip
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 12}),
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 12, "response_format": {"type": "json_object"}}),
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 4, "logprobs": True, "top_logprobs": 2}),
    ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 12, "stop": [" a"]}),
    ("/completion", {"prompt": "Once upon a time", "n_predict": 12, "return_tokens": True}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 12}),
    ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 12}),
]
OF_EACH_ANSWER = {
    "id", "id_slot", "call_id", "created", "created_at", "completed_at", "timings", "model", "input_tokens",
    "cache_read_input_tokens", "prompt_tokens_details", "input_tokens_details", "tokens_cached",
}  # fmt: skip


def lasting(answer: Any, but: Collection[str] = OF_EACH_ANSWER) -> Any:
    """An answer without what differs from one time to the next."""
    if isinstance(answer, dict):
        return {key: lasting(value, but) for key, value in answer.items() if key not in but}
    return [lasting(one, but) for one in answer] if isinstance(answer, list) else answer


async def compare(engine: EngineProcess, path: str, body: dict[str, Any]) -> str:
    """Ask the model of one slot, which answers whole, and the same model of two; returns what both said."""
    body = {**body, "temperature": 0, "seed": 1}
    status, whole = await engine.post(path, {"model": "alone", **body})
    assert status == 200, whole
    status, put_together = await engine.post(path, {"model": "beside", **body})
    assert status == 200, put_together
    assert set(put_together) == set(whole)
    assert lasting(put_together) == lasting(whole)
    return str(lasting(whole))


def config(model: Path, *args: str) -> dict[str, Any]:
    """One file as two models, of one slot and of two."""
    file = next(model.glob("*.gguf"))
    one = {"files": {"model": f"path:{file}"}, "context_tokens": 2048, "gpus": "none", "args": list(args)}
    return {
        "models": {"alone": {**one, "slots": 1}, "beside": {**one, "slots": 2}},
        "tiers": {tier: {"model": "alone"} for tier in TIERS},
        "scheduling": {"preload": []},
    }


def written(folder: Path, model: Path) -> tuple[str, ...]:
    """Arguments for llama-server: the model's template, in which `callit` stands for `tool_call`."""
    template = folder / "template.jinja"
    template.write_text(template_of(model).replace("tool_call>", "callit>"), encoding="utf-8")
    return "--chat-template-file", str(template)


async def test_texts(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, config(models / "smollm2-135m")) as engine:
        for path, body in TEXTS:
            await compare(engine, path, body)


@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5b", pytest.param("qwen2.5-coder-1.5b", marks=pytest.mark.long)])
async def test_calls_of_tools(tmp_path: Path, models: Path, name: str) -> None:
    """The embedded models write their calls as plain text; by a template with words of its own they are parsed ones."""
    model = models / name
    async with running(tmp_path / "home", models, config(model, *written(tmp_path, model))) as engine:
        for path, body in CALLS:
            said = await compare(engine, path, body)
            assert "get_weather" in said and "callit" not in said, "a call that was parsed"
