"""Models that remember otherwise, by a running state or a sliding window: what comes back of their conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_contexts import Talk, files, outcomes
from tests.support import tiny_model
from tests.support.engine import EngineProcess, chat, embedded_config, running
from variet.engine import gguf_facts
from variet.tiers import TIERS

pytestmark = pytest.mark.models
WORDS = 5000


@pytest.fixture(scope="module", params=[pytest.param("mamba", marks=pytest.mark.long), "lfm2"])
def recurrent(request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = next((models / "smollm2-135m").glob("*.gguf"))
    return tiny_model.write(request.param, tokenizer, tmp_path_factory.mktemp("tiny") / f"{request.param}.gguf")


def beside_smollm(file: Path, **model: Any) -> dict[str, Any]:
    """The model of a file behind `balanced`, another one behind `fast`, one of them resident."""
    config = embedded_config(scheduling={"preload": [], "max_resident": 1, "max_wait_s": 0.2, "min_residency_s": 0})
    odd = {"files": {"model": f"path:{file}"}, "context_tokens": 8192, "gpus": "none", **model}
    config["models"] = {"smollm2-135m": config["models"]["smollm2-135m"], "odd": odd}
    config["tiers"] = {tier: {"model": "smollm2-135m" if tier == "fast" else "odd"} for tier in TIERS}
    return config


async def away_and_back(engine: EngineProcess, talk: Talk, text: str = "Go on.") -> None:
    assert (await engine.post("/v1/chat/completions", chat("fast")))[0] == 200
    await talk.turn(text)


def test_what_a_model_remembers_is_read_from_its_header(recurrent: Path, models: Path) -> None:
    facts = gguf_facts.read_files([recurrent])
    assert facts.memory == "recurrent"
    assert sum(layer.recurrent_bytes > 0 for layer in facts.layers) == (2 if recurrent.stem == "lfm2" else 4)
    assert gguf_facts.read_files([next((models / "gemma3-270m").glob("*.gguf"))]).memory == "window"
    assert gguf_facts.read_files([next((models / "smollm2-135m").glob("*.gguf"))]).memory == "plain"


async def test_a_running_state_comes_back_whatever_the_next_turn_makes_of_the_answer(
    recurrent: Path, tmp_path: Path, models: Path
) -> None:
    async with running(tmp_path / "home", models, beside_smollm(recurrent)) as engine:
        # Long enough that keeping it is worth it for a model that reads thousands of tokens a second.
        talk = Talk(engine, "ships", words=WORDS, tier="balanced")
        await talk.turn()
        await away_and_back(engine, talk)
        assert talk.reused >= WORDS, "the answer was added as it was"
        talk.messages[-1]["content"] = " ".join(talk.messages[-1]["content"].split()[4:])
        before = talk.reused
        await away_and_back(engine, talk)
        assert talk.reused > before, "its beginning was left out, as templates leave thinking out"
        del talk.messages[-1]
        before = talk.reused
        await away_and_back(engine, talk)
        assert talk.reused > before, "another answer to the same question"
        counted = await outcomes(engine)
        assert counted == {"saved": 3, "restored": 3, "held": 3}


async def test_a_running_state_serves_only_what_goes_on_from_it(recurrent: Path, tmp_path: Path, models: Path) -> None:
    async with running(tmp_path / "home", models, beside_smollm(recurrent)) as engine:
        talk = Talk(engine, "ships", words=WORDS, tier="balanced")
        for _ in range(2):
            await talk.turn()
        talk.messages[0]["content"] += " and shoes"
        await away_and_back(engine, talk)
        assert talk.reused == 0
        assert "restored" not in await outcomes(engine), (
            "an edited conversation finds nothing: that would spare nothing"
        )


async def test_a_small_model_keeps_its_whole_window_so_that_conversations_come_back(
    tmp_path: Path, models: Path
) -> None:
    file = next((models / "gemma3-270m").glob("*.gguf"))
    async with running(tmp_path / "home", models, beside_smollm(file)) as engine:
        talk = Talk(engine, "ships", words=700, tier="balanced")
        await talk.turn()
        await away_and_back(engine, talk)
        assert talk.reused >= 700
        assert await outcomes(engine) == {"saved": 1, "restored": 1, "held": 1}


@pytest.mark.long
async def test_a_window_that_cannot_come_back_is_tried_once_and_said(tmp_path: Path, models: Path) -> None:
    file = next((models / "gemma3-270m").glob("*.gguf"))
    async with running(tmp_path / "home", models, beside_smollm(file, swa_full=False)) as engine:
        talk = Talk(engine, "ships", words=300, tier="balanced")
        for _ in range(3):
            await talk.turn()
            await engine.post("/v1/chat/completions", chat("fast"))
        assert talk.reused == 0
        counted = await outcomes(engine)
        assert counted.get("restored", 0) == 0
        assert len([file for file in files(engine) if file.parent.name == "odd"]) == 0
        assert any("does not save what a sliding window needs" in line for line in engine.output)
