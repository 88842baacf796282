"""Other people's clients, as they are published, connected by `variet connect` and run by its `--check`: the engine is
real, its model is scripted, so that every answer is known; once it is a real one.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support import loopback, other_clients
from tests.support.engine import EngineProcess, embedded_config
from tests.support.other_clients import CLIENTS, environment
from tests.support.scripted_engine import asked, scripted_engine
from variet import paths

pytestmark = [pytest.mark.models, pytest.mark.clients, pytest.mark.timeout(600)]


@pytest.mark.skipif(loopback.ALONE not in os.environ, reason="for `python -m tests.support.loopback pytest`")
def test_nothing_but_loopback_is_there() -> None:
    with pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("192.0.2.1", 80), timeout=5)


async def _checked(engine: EngineProcess, client: str, folder: Path, *words: str, limit_s: int = 120) -> dict[str, Any]:
    """What `variet connect CLIENT --check` finds, with more `words`."""
    env: dict[str, Any] = environment(client, folder / "home")
    code, told = await engine.variet("connect", client, **env)
    assert code == 0, told
    _, told = await engine.variet(
        "connect", client, "--check", "--limit", str(limit_s), "--json", *words, timeout_s=3 * limit_s, **env
    )
    found: dict[str, Any] = json.loads(told)
    return found


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_reads_edits_and_runs_a_command_also_when_models_swap(tmp_path: Path, client: str) -> None:
    # Slow enough that somebody else can ask in between.
    script = other_clients.script(client, first_ms=1500)
    async with scripted_engine(tmp_path, script) as engine:
        found = await _checked(engine, client, tmp_path, "--commands")
    assert found["good"], found["runs"][-1]["said"]
    alone, swapped = found["runs"]
    assert alone["failed"] == swapped["failed"] == 0
    assert swapped["other"] == "fast"
    if client != "aider":  # its first answer is its last
        assert alone["requests"] >= 4 and swapped["swaps"] >= 2


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "aider"])
async def test_a_client_that_is_tried_edits_and_runs_nothing_unless_that_is_wished(tmp_path: Path, client: str) -> None:
    """Codex looks and edits by commands, in its own sandbox."""
    run, shown = "cp greeting.py copied.py && wc -c copied.py", "49 copied.py"
    async with scripted_engine(tmp_path, other_clients.reaching_out(client, run)) as engine:
        found = await _checked(engine, client, tmp_path)
        assert found["good"] and found["runs"][0]["requests"] >= 4, found["runs"][-1]["said"]
        assert client == "codex" or shown not in json.dumps(asked(tmp_path))
        await _checked(engine, client, tmp_path, "--commands")
    assert shown in json.dumps(asked(tmp_path)), "it would have"


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_goes_on_when_its_model_dies_in_mid_stream(tmp_path: Path, client: str) -> None:
    died = tmp_path / "died"
    script = other_clients.script(client, die_after=2, once=str(died))
    async with scripted_engine(tmp_path, script) as engine:
        found = await _checked(engine, client, tmp_path, "--commands")
        if client == "qwen-code":  # it takes the error for an answer, and ends; the engine is there for the next turn
            assert not found["good"] and "the model server ended in mid-answer" in found["runs"][0]["said"]
            found = await _checked(engine, client, tmp_path, "--commands")
        elif client == "aider":  # it asked for no stream: the engine asks its model once more by itself
            assert found["runs"][0]["failed"] == 0
        else:
            assert found["runs"][0]["failed"] >= 1
    assert died.exists() and found["good"], found["runs"][-1]["said"]


async def test_helpers_of_one_turn_ask_three_tiers_at_once(tmp_path: Path) -> None:
    """Claude Code's haiku, sonnet and opus are the resident, `balanced` and `deep-coder`: two models, one at a time."""
    read, edit, look, done = other_clients.steps("claude-code")
    helpers = {
        "calls": [
            {"name": "Agent", "arguments": {
                "description": f"Look {model}", "subagent_type": "general-purpose", "model": model,
                "prompt": f"helper {model}: say what you think",
            }}
            for model in ("haiku", "sonnet", "opus")
        ]
    }  # fmt: skip
    script = other_clients.script("claude-code")
    own = {"when": "helper (haiku|sonnet|opus)", "by_turn": True, "repeat": True, "answers": [{"say": "All is well."}]}
    script["conversations"][1]["answers"] = [helpers, read, edit, look, done]
    script["conversations"].insert(0, own)
    async with scripted_engine(tmp_path, script) as engine:
        found = await _checked(engine, "claude-code", tmp_path, "--commands")
        rows = (await engine.get("/engine/history/request?limit=1000"))["rows"]
    assert found["good"] and found["runs"][0]["failed"] == 0, found["runs"][-1]["said"]
    asked = {row["tier"] for row in rows if row["path"] == "/v1/messages"}
    assert {"balanced", "deep-coder"} <= asked and found["runs"][0]["requests"] >= 8


@pytest.mark.parametrize(
    ("client", "sign"),
    [
        ("opencode", '"compaction_continue":true'), ("claude-code", '"compact_result":'),
        ("qwen-code", "generate the <state_snapshot>"),
        ("codex", "ran out of room in the model's context window"), ("aider", "has hit a token limit"),
    ],
)  # fmt: skip
async def test_a_client_knows_that_its_conversation_is_too_long(tmp_path: Path, client: str, sign: str) -> None:
    """llama-server's refusal, as the engine tells it: OpenCode asks for a summary and goes on; Claude Code and Qwen
    Code set about it, and find a conversation of one turn too short to be made shorter; Codex and aider say it."""
    told = "request (70000 tokens) exceeds the available context size (65536 tokens), try increasing it"
    wrong = {"status": 400, "code": "exceed_context_size_error", "message": told, "once": str(tmp_path / "refused")}
    script = other_clients.script(client, **wrong)
    summaries = [
        {"when": "summary process", "repeat": True, "answers": [{"say": "A greeting."}]},
        {"when": "state_snapshot", "repeat": True, "answers": [{"say": "<state_snapshot>Hm.</state_snapshot>"}]},
    ]
    if "conversations" in script:
        script["conversations"] = [*summaries, *script["conversations"]]
    async with scripted_engine(tmp_path, script) as engine:
        run = (await _checked(engine, client, tmp_path, "--commands"))["runs"][0]
    assert run["failed"] == 1 and run["requests"] < 8, "refused once; it does not go round in circles"
    assert sign in run["said"] + json.dumps(asked(tmp_path))


@pytest.mark.timeout(1500)
async def test_a_client_does_its_task_with_a_real_model(tmp_path: Path) -> None:
    """aider asks for the least; a model of 1.5 billion parameters keeps to its form of edits more often than not."""
    config = embedded_config()
    config["tiers"]["balanced"] = config["tiers"]["deep-coder"]
    engine = EngineProcess(tmp_path / "engine", paths.models_dir())
    try:
        await engine.start(config)
        for _ in range(3):
            found = await _checked(engine, "aider", tmp_path, limit_s=400)
            if found["runs"][0]["good"]:
                break
    finally:
        engine.kill()
        await engine.wait()
    assert found["runs"][0]["good"], found["runs"][0]["said"]
    assert found["runs"][0]["prompt_tokens"] > 1000
