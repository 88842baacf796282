"""Conversations come back: after a swap, after others took their slot, after a restart. On a script, and for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.test_scripted import scripted_config
from tests.support.engine import EngineProcess, chat, embedded_config, light_config, running
from variet.tiers import TIERS

pytestmark = pytest.mark.models


def two_models(models: Path, **env: str) -> dict[str, Any]:
    """Two scripted models of two slots, one resident at a time."""
    common: dict[str, Any] = {"preload": [], "max_resident": 1, "max_wait_s": 0.2, "min_residency_s": 0}
    config = scripted_config(models, model={"slots": 2, "env": env}, scheduling=common)
    config["models"]["other"] = config["models"]["told"]
    config["tiers"] = {tier: {"model": "other" if tier == "ultra" else "told"} for tier in TIERS}
    return config


class Talk:
    """A conversation: grows by what was said, remembers what each answer reused."""

    def __init__(self, engine: EngineProcess, about: str, words: int = 200, tier: str = "fast") -> None:
        self.engine, self.tier = engine, tier
        text = f"{about} " * words
        self.messages: list[dict[str, str]] = [{"role": "user", "content": text}]
        self.reused = 0

    async def turn(self, text: str = "Go on.") -> str:
        if self.messages[-1]["role"] == "assistant":
            self.messages.append({"role": "user", "content": text})
        body = {"model": self.tier, "messages": self.messages, "max_tokens": 8, "temperature": 0}
        status, answer = await self.engine.post("/v1/chat/completions", body)
        assert status == 200, answer
        said: str = answer["choices"][0]["message"]["content"]
        self.reused = answer["timings"]["cache_n"]
        self.messages.append({"role": "assistant", "content": said})
        return said


async def outcomes(engine: EngineProcess) -> dict[str, int]:
    """What happened to conversations, over all models."""
    counted: dict[str, int] = {}
    for line in (await engine.text("/metrics")).splitlines():
        if line.startswith("variet_context_total{"):
            name = line.split('outcome="')[1].split('"')[0]
            counted[name] = counted.get(name, 0) + int(float(line.rsplit(" ", 1)[1]))
    return counted


def files(engine: EngineProcess) -> list[Path]:
    return sorted((engine.home / "state" / "snapshots").glob("*/*.kv"))


async def test_a_conversation_comes_back_after_a_swap(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talk = Talk(engine, "ships")
        await talk.turn()
        assert talk.reused == 0
        await engine.post("/v1/chat/completions", chat("ultra"))
        await talk.turn()
        assert talk.reused == 203, "the prompt's 201 words and the answer's two"
        assert await outcomes(engine) == {"saved": 1, "restored": 1, "held": 1}
        swap = (await engine.status())["swaps"][-1]
        assert swap["phases_ms"]["restore"] > 0


async def test_five_conversations_share_two_slots(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talks = [Talk(engine, topic) for topic in ("ships", "shoes", "sealing-wax", "cabbages", "kings")]
        for talk in talks:
            await talk.turn()
        for _ in range(2):
            for talk in reversed(talks):
                grown = sum(len(one["content"].split()) + 1 for one in talk.messages)
                await talk.turn()
                assert talk.reused == grown, "each finds its own, whoever sat in the slot"
        counted = await outcomes(engine)
        assert counted["restored"] == counted["held"] >= 6 and len(files(engine)) <= 5


async def test_a_conversation_outlives_the_engine(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talk = Talk(engine, "ships")
        await talk.turn()
    assert len(files(engine)) == 1, "kept at the end"
    async with running(tmp_path / "home", models, two_models(models)) as again:
        talk.engine = again
        await talk.turn()
        assert talk.reused == 203


@pytest.mark.parametrize("fault", ["save fails", "restore fails", "damaged"])
async def test_what_fails_costs_a_second_reading_only(tmp_path: Path, models: Path, fault: str) -> None:
    async with running(tmp_path / "home", models, two_models(models, SCRIPT_SLOTS=fault)) as engine:
        talk = Talk(engine, "ships")
        await talk.turn()
        await engine.post("/v1/chat/completions", chat("ultra"))
        if fault == "damaged":
            files(engine)[0].write_bytes(files(engine)[0].read_bytes()[::-1])
        await talk.turn()
        assert talk.reused == 0
        counted = await outcomes(engine)
        expected: dict[str, dict[str, int]] = {
            "save fails": {"save failed": 1},
            "restore fails": {"saved": 1, "restore failed": 1},
            "damaged": {"saved": 1, "corrupt": 1},
        }
        assert counted == expected[fault] and not files(engine), "and nothing of it is left"


async def test_a_model_whose_restores_do_not_hold_is_left_alone(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models, SCRIPT_SLOTS="forgets")) as engine:
        talk = Talk(engine, "ships")
        for _ in range(4):
            await talk.turn()
            await engine.post("/v1/chat/completions", chat("ultra"))
        counted = await outcomes(engine)
        assert counted == {"saved": 2, "restored": 2, "did not hold": 2}, "two tries, not one a swap"
        assert any("no more conversations of it are kept" in line for line in engine.output)
        assert "restores spared nothing" in (await engine.variet("context", "list"))[1]
    async with running(tmp_path / "home", models, two_models(models, SCRIPT_SLOTS="forgets")) as again:
        talk = Talk(again, "shoes")
        await talk.turn()
        await again.post("/v1/chat/completions", chat("ultra"))
        assert not await outcomes(again), "it knows that from before"
        assert (await again.variet("context", "purge", "--yes"))[0] == 0
        await talk.turn()
        await again.post("/v1/chat/completions", chat("ultra"))
        assert (await outcomes(again))["saved"] == 1, "a person lets it try again"


async def test_what_was_said_is_kept_once_its_model_rests(tmp_path: Path, models: Path) -> None:
    """Then a crash costs no reading, and a swap need not save."""
    config = two_models(models)
    config["context"] = {"idle_save_s": 0.5}
    async with running(tmp_path / "home", models, config) as engine:
        talk = Talk(engine, "ships")
        await talk.turn()
        while await outcomes(engine) != {"saved": 1}:
            await asyncio.sleep(0.05)
        os.kill((await engine.status())["instances"][0]["pid"], signal.SIGKILL)
        await engine.until("the crash", lambda now: not now["instances"])
        await talk.turn()
        assert talk.reused == 203
        while (await outcomes(engine))["saved"] < 2:
            await asyncio.sleep(0.05)
        await engine.post("/v1/chat/completions", chat("ultra"))
        assert (await outcomes(engine))["saved"] == 2, "the swap had nothing left to save"


@pytest.mark.parametrize("where", ["tier", "engine"])
async def test_what_is_not_to_be_kept_is_never_written(tmp_path: Path, models: Path, where: str) -> None:
    config = two_models(models)
    if where == "tier":
        config["tiers"]["fast"]["keep_context"] = False
    else:
        config["context"] = {"keep": False}
    async with running(tmp_path / "home", models, config) as engine:
        talk, other = Talk(engine, "ships"), Talk(engine, "shoes", tier="balanced")
        await talk.turn()
        await other.turn()
        await engine.post("/v1/chat/completions", chat("ultra"))
        assert len(files(engine)) == (1 if where == "tier" else 0)
        await talk.turn()
        assert talk.reused == 0


async def test_a_client_that_leaves_during_a_restore_disturbs_nothing(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talks = [Talk(engine, topic) for topic in ("ships", "shoes", "kings")]
        for talk in talks:
            await talk.turn()
        for number in range(20):
            body = {"model": "fast", "messages": [*talks[number % 3].messages, {"role": "user", "content": "Go on."}]}
            asked = asyncio.create_task(engine.post("/v1/chat/completions", body))
            await asyncio.sleep(0.001 * number)
            asked.cancel()
        await engine.until("quiet", lambda status: status["requests"]["active"] == [])
        for talk in talks:
            said = await talk.turn()
            assert said == "t0 ", "whole answers"
        assert not [line for line in engine.output if "Traceback" in line]


@pytest.mark.parametrize(
    ("settings", "turns"), [(light_config, 2), pytest.param(embedded_config, 3, marks=pytest.mark.long)]
)
async def test_answers_are_those_of_a_run_that_never_swapped(
    tmp_path: Path, models: Path, settings: Callable[..., dict[str, Any]], turns: int
) -> None:
    """On a real model, three conversations on two slots, a swap between all turns; greedy decoding."""
    topics = ("the sea ", "a bicycle ", "old maps ")

    async def talk_through(engine: EngineProcess, *, swapping: bool) -> tuple[list[str], list[int]]:
        talks = [Talk(engine, topic, words=40, tier="balanced") for topic in topics]
        said, reused = [], []
        for turn in range(turns):
            for talk in talks:
                said.append(await talk.turn(f"Say one thing more about it, number {turn}."))
                reused.append(talk.reused)
            if swapping:
                await engine.post("/v1/chat/completions", chat("fast"))
        return said, reused

    config = settings(scheduling={"preload": [], "max_wait_s": 0.2, "min_residency_s": 0})
    async with running(tmp_path / "warm", models, config) as engine:
        warm, reused = await talk_through(engine, swapping=True)
        assert all(one > 40 for one in reused[3:]), reused
    config["context"] = {"keep": False}
    config["models"]["qwen2.5-coder-0.5b"]["slots"] = 3
    async with running(tmp_path / "plain", models, config) as engine:
        plain, _ = await talk_through(engine, swapping=False)
    assert warm == plain


RENDERINGS = {
    # Thinking of earlier turns is left out, as Qwen3's template does.
    "without its thinking": (
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n"
        "{%- if m.role == 'assistant' %}{{ m.content.split(' ')[-1] }}{%- else %}{{ m.content }}{%- endif %}"
        "<|im_end|>\n"
        "{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
    ),
    # An answer is written anew, as templates do that print tool calls from their JSON.
    "rewritten": (
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n"
        "{%- if m.role == 'assistant' %}[said] {{ m.content | upper }}{%- else %}{{ m.content }}{%- endif %}"
        "<|im_end|>\n"
        "{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", list(RENDERINGS))
async def test_a_last_answer_that_is_rendered_anew_still_hits(tmp_path: Path, models: Path, how: str) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(RENDERINGS[how], encoding="utf-8")
    config = light_config(scheduling={"preload": [], "max_wait_s": 0.2, "min_residency_s": 0})
    config["models"]["smollm2-135m"]["args"] = ["--chat-template-file", str(template)]
    async with running(tmp_path / "home", models, config) as engine:
        talk = Talk(engine, "the sea ", words=150)
        await talk.turn()
        await engine.post("/v1/chat/completions", chat("balanced"))
        await talk.turn()
        assert talk.reused > 280, "all but the answer itself"
        assert (await outcomes(engine))["held"] == 1


async def test_the_log_and_the_headers_say_what_came_back(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talk = Talk(engine, "ships")
        await talk.turn()
        await engine.post("/v1/chat/completions", chat("ultra"))
        talk.messages.append({"role": "user", "content": "Go on."})
        body = {"model": "fast", "messages": talk.messages, "stream": True}
        async with aiohttp.ClientSession(engine.url) as session:
            answer = await session.post("/v1/chat/completions", json=body)
            await answer.read()
        assert answer.headers["x-variet-restored-tokens"] == "203"
        assert float(answer.headers["x-variet-restore-ms"]) > 0
        _, text = await engine.variet("logs")
        last = [json.loads(line) for line in text.splitlines() if '"restored_tokens"' in line][-1]
        assert last["restored_tokens"] == 203


async def test_what_was_read_for_a_client_that_left_is_kept(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        talk = Talk(engine, "ships")
        body = {"model": "fast", "messages": talk.messages, "stream": True, "script": {"tokens": 1_000, "gap_ms": 10}}
        async with aiohttp.ClientSession(engine.url) as session:
            answer = await session.post("/v1/chat/completions", json=body)
            await answer.content.readany()
            answer.close()
        await engine.until("its end", lambda status: status["requests"]["active"] == [])
        await engine.post("/v1/chat/completions", chat("ultra"))
        await talk.turn()
        assert talk.reused == 201


async def test_a_person_sees_and_forgets_what_is_kept(tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, two_models(models)) as engine:
        for topic in ("ships", "shoes", "kings"):
            await Talk(engine, topic).turn()
        await engine.post("/v1/chat/completions", chat("ultra"))
        _, text = await engine.variet("context", "list", "--json")
        kept = json.loads(text)["kept"]
        assert [(one["model"], one["tokens"], one["messages"]) for one in kept] == [("told", 203, 1)] * 3
        code, text = await engine.variet("context", "list")
        assert code == 0 and "just now" in text and "203" in text and kept[0]["id"] in text
        assert (await engine.variet("context", "forget", kept[0]["id"]))[0] == 0
        code, text = await engine.variet("context", "forget", "nonsense")
        assert code == 1 and "variet context list" in text
        assert len(files(engine)) == 2
        assert (await engine.variet("context", "purge"))[0] != 0 and len(files(engine)) == 2, "nobody said yes"
        assert "0 forgotten" in (await engine.variet("context", "purge", "--model", "other", "--yes"))[1]
        assert "2 forgotten" in (await engine.variet("context", "purge", "--yes"))[1]
        assert not files(engine) and "no conversation" in (await engine.variet("context", "list"))[1]


async def test_a_private_tier_s_slot_is_not_kept_by_a_request_that_was_refused(tmp_path: Path, models: Path) -> None:
    config = two_models(models)
    config["tiers"]["fast"]["keep_context"] = False
    config["models"]["told"]["slots"] = config["models"]["other"]["slots"] = 1
    async with running(tmp_path / "home", models, config) as engine:
        await Talk(engine, "secrets").turn()
        status, _ = await engine.post("/v1/chat/completions", chat("balanced", "hello", script={"status": 418}))
        assert status == 418
        await engine.post("/v1/chat/completions", chat("ultra"))
        assert not files(engine) and await outcomes(engine) == {}
