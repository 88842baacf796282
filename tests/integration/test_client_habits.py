"""What other people's clients do on the wire, shaped as they do it, and what the engine makes of it."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from tests.support.engine import EngineProcess, chat

pytestmark = pytest.mark.models
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
