"""`auto` on real models: the tier that is asked for, swaps that are spared, and the reason said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.engine import EngineProcess, light_config, running
from variet.engine.llama_server import candidates

pytestmark = pytest.mark.models
BIG, SMALL = "qwen2.5-coder-1.5b", "smollm2-135m"


async def ask(engine: EngineProcess, *said: str, **fields: Any) -> tuple[dict[str, str], str]:
    """The marks of the answer to a conversation (a person's and the model's turns alternate), and its text."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    body = {"model": "auto", "messages": messages, "max_tokens": 8, "temperature": 0, **fields}
    async with (
        aiohttp.ClientSession(engine.url) as session,
        session.post("/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        told = await answer.json()
        return dict(answer.headers), told["choices"][0]["message"]["content"]


async def variet(engine: EngineProcess, *words: str) -> str:
    env = {**os.environ, "VARIET_HOME": str(engine.home), "VARIET_ENGINE_URL": engine.url, "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "variet",
        *words,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def slow_to_load(folder: Path) -> str:
    """A llama-server that takes three seconds longer to load: swaps are worth sparing, however quick the machine is."""
    (_, binary, library), *_ = candidates(None)
    made = folder / "llama-server"
    made.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH="{library or ""}:$LD_LIBRARY_PATH"\n'
        f'case "$*" in *--version*|*--help*) ;; *) sleep 3;; esac\nexec "{binary}" "$@"\n'
    )
    made.chmod(0o755)
    return str(made)


async def test_a_conversation_finds_its_tier_and_keeps_it(tmp_path: Path, models: Path) -> None:
    worth = {"balanced": 30.0, "deep-coder": 600.0, "deep-logic": 600.0, "ultra": 900.0}  # however slow this machine is
    config = light_config(auto={"worth_s": worth}, llama_server={"path": slow_to_load(tmp_path)})
    async with running(tmp_path / "home", models, config) as engine:
        marks, _ = await ask(engine, "what is the capital of Australia?")
        assert marks["x-variet-tier"] == "fast" and "'quick questions'" in marks["x-variet-reason"]
        hard = "Find the deadlock in our worker and fix it."
        marks, text = await ask(engine, hard)
        assert (marks["x-variet-tier"], marks["x-variet-model"]) == ("deep-coder", BIG)
        assert "asks for deep-coder" in marks["x-variet-reason"]

        marks, _ = await ask(engine, "what is the capital of Austria?", max_tokens=2)
        assert marks["x-variet-model"] == BIG and "quicker" in marks["x-variet-reason"], "no swap for a quick question"
        marks, _ = await ask(engine, hard, text, "thanks, and now?")
        assert marks["x-variet-tier"] == "deep-coder", "a conversation stays as high as it was"
        status = await engine.status()
        assert [one["model"] for one in status["swaps"]] == [SMALL, BIG]

        async with (
            aiohttp.ClientSession(engine.url) as session,
            session.post("/v1/messages", json={
                "model": "auto", "max_tokens": 2, "stream": True, "messages": [{"role": "user", "content": hard}]
            }) as answer,
        ):  # fmt: skip
            assert answer.headers["x-variet-tier"] == "deep-coder" and "message_stop" in await answer.text()

        shown = await variet(engine, "explain", "prove that there is no largest prime")
        assert "deep-logic" in shown and "'prove'" in shown and "lacks" in shown
        told = json.loads(await variet(engine, "explain", "--json", "prove that there is no largest prime"))
        assert told["tier"] == "deep-logic" and {one["tier"] for one in told["options"]} >= {"fast", "ultra"}
        number = str((await engine.get("/engine/requests"))["recent"][-2]["number"])
        assert "asks for deep-coder" in await variet(engine, "explain", "--request", number)
        rules = json.loads(await variet(engine, "explain", "--rules"))
        assert rules["otherwise"] == "balanced" and rules["rules"][0]["name"] == "chores"


async def test_rules_are_the_owners_and_a_reload_changes_them(tmp_path: Path, models: Path) -> None:
    rule = {"name": "mine", "tier": "deep-coder", "says": ["abracadabra"]}
    config = light_config(auto={"rules": [rule], "otherwise": "fast", "worth_s": {"deep-coder": 600.0}})
    config["server"] = {"max_body_mib": 1}
    config["aliases"] = {**config.get("aliases", {}), "any-*": "auto"}
    async with running(tmp_path / "home", models, config) as engine:
        told = {entry["id"]: entry for entry in (await engine.get("/v1/models"))["data"]}
        assert told["auto"]["kind"] == "auto"
        status, explained = await engine.post("/engine/explain", {"prompt": "Abracadabra!"})
        assert (status, explained["tier"], explained["need"]["rule"]) == (200, "deep-coder", "mine")
        marks, _ = await ask(engine, "Abracadabra!", model="any-one")
        assert marks["x-variet-tier"] == "deep-coder"
        config["auto"]["rules"][0]["says"] = ["hocus pocus"]
        engine.write_config(config)
        status, _ = await engine.post("/engine/config/reload", {})
        assert status == 200
        _, explained = await engine.post("/engine/explain", {"prompt": "Abracadabra!"})
        assert explained["need"] == {"tier": "fast", "rule": "otherwise", "phrase": ""}
        status, refused = await engine.post("/engine/swap", {"model": "auto"})
        assert status == 400 and "no model of its own" in refused["detail"]
        status, refused = await engine.post("/engine/explain", {"model": "auto"})
        assert status == 400
        status, _ = await engine.post("/engine/explain", {"prompt": "word " * 500_000})
        assert status == 413
        status, refused = await engine.post("/engine/explain", {"prompt": "\ud800"})
        assert status in (200, 400), refused
        status, _ = await engine.post("/tokenize", {"model": "auto", "content": "Hello"})
        assert status == 200, "what is no conversation goes to whatever is loaded"
