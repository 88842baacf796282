"""What other people's clients do on the wire, shaped as they do it, and what the engine makes of it."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from tests.support.engine import EngineProcess, chat

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def engine(shared_engine: EngineProcess) -> EngineProcess:
    return shared_engine


LONG = "word " * 9_000


def billing(number: int) -> str:
    return f"x-anthropic-billing-header: cc_version=2.1.197.{number:03d}; cc_entrypoint=cli; cch={number:05x};"


def claude_code(number: int) -> dict[str, Any]:
    """A request of Claude Code's: its line first, a reminder as a system role among the messages, a mark that moves."""
    text = [{"type": "text", "text": "Say hello.", "cache_control": {"type": "ephemeral"}}]
    return {
        "model": "claude-sonnet-4-5", "max_tokens": 4, "stream": False, "thinking": {"type": "adaptive"},
        "system": [
            {"type": "text", "text": billing(number)},
            {"type": "text", "text": "You are an agent for code. " * 20, "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [{"role": "user", "content": text}, {"role": "system", "content": "The plan is empty."}],
        "context_management": {"edits": []}, "metadata": {"user_id": f"session_{number}"},
    }  # fmt: skip


def openclaude(number: int) -> dict[str, Any]:
    asked = chat("balanced", tokens=4)
    system = {"role": "system", "content": f"{billing(number)}\n" + "You are an agent for code. " * 20}
    return {**asked, "messages": [system, *asked["messages"]]}


@pytest.mark.parametrize(
    ("path", "client"), [("/v1/messages?beta=true", claude_code), ("/v1/chat/completions", openclaude)]
)
async def test_a_line_that_changes_with_each_request_costs_no_reading(
    engine: EngineProcess, path: str, client: Any
) -> None:
    taken = "variet_attribution_lines_total"

    async def lines() -> float:
        return float(re.findall(rf"^{taken} (\S+)", await engine.text("/metrics"), re.MULTILINE)[0])

    before = await lines()
    for number in (1, 2):
        status, answer = await engine.post(path, client(number))
        assert status == 200, answer
    first, second = list((await engine.get("/engine/requests"))["recent"][:2])[::-1]
    assert second["prompt_tokens"] == first["prompt_tokens"]
    assert second["cached_tokens"] >= first["prompt_tokens"] - 1 > 100
    assert await lines() == before + 2


async def test_a_prompt_that_is_too_long_is_told_in_words_at_which_clients_make_it_shorter(
    engine: EngineProcess,
) -> None:
    for stream in (False, True):
        status, answer = await engine.post("/v1/chat/completions", chat("fast", LONG, stream=stream))
        told = answer["error"]
        assert status == 400 and told["code"] == "context_length_exceeded", answer
        assert told["type"] == "invalid_request_error"
        assert re.match(r"This model's maximum context length is \d+ tokens\. However, your messages ", told["message"])
        assert "exceeds the available context size" in told["message"]


async def test_other_refusals_of_a_chat_stay_what_the_model_server_said(engine: EngineProcess) -> None:
    wrong = {**chat("fast"), "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "none"}}}}
    status, answer = await engine.post("/v1/chat/completions", wrong)
    assert status == 400 and answer["error"]["code"] == 400, "llama-server's own numbers"


@pytest.mark.parametrize(("name", "tier"), [("haiku", "fast"), ("sonnet", "balanced"), ("opus", "deep-coder")])
async def test_openclaude_s_names_for_its_helpers_are_tiers(engine: EngineProcess, name: str, tier: str) -> None:
    """Version 0.1.8 sends the key of its `agentModels` as the model's name."""
    status, answer = await engine.post("/v1/chat/completions", chat(name, tokens=2))
    assert status == 200, answer
    assert (await engine.get("/engine/requests"))["recent"][0]["tier"] == tier


async def test_three_tiers_asked_for_at_once_are_all_served(engine: EngineProcess) -> None:
    """As helpers of one turn do: one model at a time is resident here."""
    asked = [
        engine.post("/v1/chat/completions", chat(tier, f"Say {number}.", tokens=4))
        for number in range(2)
        for tier in ("fast", "balanced", "deep-coder")
    ]
    answers = await asyncio.gather(*asked)
    assert [status for status, _ in answers] == [200] * 6
    rows = (await engine.get("/engine/requests"))["recent"][:6]
    swaps = [row["model"] for row in sorted(rows, key=lambda row: row["began_at"] + row["total_ms"] / 1000)]
    changes = sum(one != two for one, two in itertools.pairwise(swaps))
    assert changes == 2, "those of one model go together"


RUN = {
    "type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"], "additionalProperties": False,
}  # fmt: skip
CODEX_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "exec_command", "description": "Run.", "strict": False, "parameters": RUN},
    {"type": "custom", "name": "apply_patch", "description": "Edit.", "format": {
        "type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"',
    }},
    {"type": "namespace", "name": "collaboration", "description": "Others.", "tools": [
        {"type": "function", "name": "spawn_agent", "description": "Start.", "strict": False, "parameters": RUN},
    ]},
    {"type": "web_search", "external_web_access": False},
]  # fmt: skip


def codex(*more: dict[str, Any]) -> dict[str, Any]:
    """A request of Codex's: developer's words beside the instructions, tools of types that only others can run, fields
    for a service that keeps things."""

    def said(role: str, text: str) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    return {
        "model": "balanced", "instructions": "You are an agent for code. " * 20,
        "input": [said("developer", "Commands run in a sandbox."), said("user", "<cwd>/scratch</cwd>"),
                  said("user", "Say hello."), *more],
        "tools": CODEX_TOOLS, "tool_choice": "auto", "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"}, "store": False, "stream": True,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199", "client_metadata": {"x": "y"},
    }  # fmt: skip


async def test_codex_is_answered_though_it_offers_what_only_others_can_run(engine: EngineProcess) -> None:
    """Its own end of a stream, and nothing read twice: it repeats its reasoning, which is not kept."""
    turns = [
        codex(),
        codex(
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
            {"type": "function_call", "call_id": "call_1", "name": "exec_command", "arguments": '{"cmd":"ls"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "Exit code: 0\nOutput:\ngreeting.py\n"},
        ),
    ]  # fmt: skip
    for turn in turns:
        status, stream = await engine.post("/v1/responses", {**turn, "max_output_tokens": 4})
        assert status == 200, stream
        kinds = re.findall(r"^event: (\S+)", stream, re.MULTILINE)
        assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
        assert '"total_tokens"' in stream.rpartition("event: ")[2]
    first, second = list((await engine.get("/engine/requests"))["recent"][:2])[::-1]
    assert second["cached_tokens"] >= first["prompt_tokens"] - 8 > 100, "but for how a template ends a conversation"
    told = [line for line in engine.output if "passed over" in line]
    assert any("namespace" in line for line in told) and any("web_search" in line for line in told)


def opencode(model: str, *messages: dict[str, Any]) -> dict[str, Any]:
    """A request of OpenCode's: by the AI SDK."""
    tool = {
        "name": "bash",
        "description": "Run.",
        "parameters": {"$schema": "http://json-schema.org/draft-07/schema#", **RUN},
    }
    return {
        "model": model, "max_tokens": 4, "messages": list(messages), "tools": [{"type": "function", "function": tool}],
        "tool_choice": "auto", "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def test_opencode_s_title_costs_no_swap_and_its_turn_no_second_reading(engine: EngineProcess) -> None:
    """It asks for a title while its first turn runs: of whatever model is there."""
    system = {"role": "system", "content": "You are an agent for code. " * 20}
    user = {"role": "user", "content": "Say hello."}
    await engine.post("/v1/chat/completions", chat("balanced", tokens=1))
    swaps = len((await engine.get("/engine/status"))["swaps"])
    title = {**opencode("resident", {"role": "system", "content": "You are a title generator."}, user), "tools": []}
    both = await asyncio.gather(
        engine.post("/v1/chat/completions", opencode("balanced", system, user)),
        engine.post("/v1/chat/completions", {key: value for key, value in title.items() if key != "tool_choice"}),
    )
    for status, stream in both:
        assert status == 200 and stream.endswith("data: [DONE]\n\n"), stream
        assert '"finish_reason":"' in stream and '"usage":{' in stream
    first = next(row for row in (await engine.get("/engine/requests"))["recent"] if row["prompt_tokens"] > 100)
    called = {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "bash", "arguments": '{"cmd":"ls"}'}},
    ]}  # fmt: skip
    shown = {"role": "tool", "tool_call_id": "call_1", "content": "greeting.py"}
    status, stream = await engine.post("/v1/chat/completions", opencode("balanced", system, user, called, shown))
    assert status == 200, stream
    second = (await engine.get("/engine/requests"))["recent"][0]
    assert second["cached_tokens"] >= first["prompt_tokens"] - 8
    assert len((await engine.get("/engine/status"))["swaps"]) == swaps
