"""The first time with a model: what it does is tried, on the real llama-server, and kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import of, open_session, scripted, turn
from tests.support.engine import embedded_config, running
from variet.agent import opening, profiles, sessions
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import Notice, TierChanged, TurnEnded, TurnStarted
from variet.agent.model import EngineModel
from variet.agent.opening import Wishes
from variet.agent.profiles import profile
from variet.agent.rendering import Prefix
from variet.agent.runtime import ModelBinding
from variet.connection import Connection
from variet.errors import AnswerFailed
from variet.tiers import TIERS

# One that writes everything as ChatML does; where a thought is written is what differs.
_TEMPLATE = """\
{%- set found = namespace(last=0) -%}
{%- for one in messages -%}{%- if one.role == 'user' -%}{%- set found.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for one in messages -%}
<|im_start|>{{ one.role }}
{% if one.reasoning_content and (WHEN) %}<think>{{ one.reasoning_content }}</think>{% endif -%}
{{ one.content or '' }}
{%- for call in one.tool_calls or [] %}<tool_call>{{ call.function.name }}</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
SWITCH{%- endif -%}
"""
_SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
_IN_TURN = "loop.index0 > found.last"
# By tier: where a thought is written, whether there is a switch, what the tier says of it, and the profile that suits.
TEMPLATES: dict[str, tuple[str, str, bool | None, str]] = {
    "fast": ("true", "", None, "replayed"),
    "balanced": (f"preserve_thinking or {_IN_TURN}", _SWITCH, None, "preserved"),
    "deep-coder": (_IN_TURN, _SWITCH, None, "unthinking"),
    "deep-logic": (_IN_TURN, _SWITCH, True, "replayed"),
    "ultra": ("false", "", None, "native"),
}


pytestmark = pytest.mark.usefixtures("home")


def config(folder: Path, models: Path) -> dict[str, Any]:
    """A model a tier, all of the same file, each with a template of its own."""
    given = embedded_config(scheduling={"max_wait_s": 1, "min_residency_s": 0, "preload": []})
    file = f"path:{next((models / 'smollm2-135m').glob('*.gguf'))}"
    small = {**given["models"]["smollm2-135m"], "files": {"model": file}}
    given["models"], given["tiers"] = {}, {}
    for tier in TIERS:
        when, switch, reasoning, _ = TEMPLATES[tier]
        template = folder / f"{tier}.jinja"
        template.write_text(_TEMPLATE.replace("WHEN", when).replace("SWITCH", switch))
        name = f"for-{tier}"
        given["models"][name] = {**small, "context_tokens": 2048, "args": ["--chat-template-file", str(template)]}
        given["tiers"][tier] = {"model": name, "max_tokens": 32, "reasoning": reasoning}
    return given


async def opened(url: str, root: Path, tier: str, kind: Any = "ask") -> Conversation:
    wishes = Wishes(tier, kind=kind)
    return await opening.start(root, EngineModel(Connection(url)), wishes, "auto-edit", present=False)


async def asked(one: Conversation, words: str) -> list[Any]:
    try:
        return [event async for event in run_prompt(one, words)]
    finally:
        await one.close()


@pytest.mark.parametrize("tried", [("fast", "deep-coder"), pytest.param(TIERS, marks=pytest.mark.long)])
async def test_what_templates_do_with_reasoning_decides_how_it_is_replayed(
    tmp_path: Path, models: Path, work: Path, tried: tuple[str, ...]
) -> None:
    async with running(tmp_path / "engine", models, config(tmp_path, models)) as engine:
        rows = {row["id"]: row for row in (await engine.get("/v1/models"))["data"]}
        assert all(100e6 < rows[tier]["parameters"] < 200e6 and rows[tier]["trained_as"] for tier in TIERS)
        assert rows["auto"]["parameters"] == rows["resident"]["parameters"] == 0, "they stand for no one model"
        assert len({rows[tier]["configured"] for tier in TIERS}) == len(TIERS)
        for tier in tried:
            wanted = TEMPLATES[tier][3]
            one = await opened(engine.url, work, tier)
            events = await asked(one, "hello")
            assert one.runtime.profile == wanted, tier
            assert [event.code for event in of(events, Notice)] == ["new_model"]
            assert of(events, TurnEnded)[-1].reason in ("done", "limit"), events
            again = await opened(engine.url, work, tier)
            assert again.runtime.profile == wanted, "at once, the second time"
            assert not of(await asked(again, "hello"), Notice)
            assert again.session.header.profile == wanted
            assert again.session.stored[wanted].request == {**profile(wanted).fields}


async def test_the_smallest_models_are_held_to_a_schema_and_go_on_with_what_was_begun(
    tmp_path: Path, models: Path, work: Path, home: Path
) -> None:
    (work / "a.py").write_text("A = 1\n")
    async with running(tmp_path / "engine", models, config(tmp_path, models)) as engine:
        one = await opened(engine.url, work, "fast", "code")
        assert one.runtime.untried and one.runtime.profile == "blocks"
        await asked(one, "hello")
    (kept,) = home.rglob("abilities/*.json")
    assert json.loads(kept.read_text()) == {
        "reasoning": "ignored", "calls": None, "schema_held": True, "goes_on": True,
    }  # fmt: skip


@pytest.mark.long
async def test_a_model_that_calls_a_tool_gets_tools(
    tmp_path: Path, models: Path, work: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real 0.5B, as if it were no small one."""
    monkeypatch.setattr(profiles, "SMALL_PARAMETERS", 1)
    async with running(tmp_path / "engine", models, embedded_config()) as engine:
        one = await opened(engine.url, work, "balanced", "code")
        one.runtime.limits = one.runtime.limits.__class__(steps=1, nudges=0)
        await asked(one, "Say hello, and nothing more.")
    (kept,) = home.rglob("abilities/*.json")
    assert json.loads(kept.read_text())["calls"] is True
    assert one.runtime.profile == "native"


def to(one: Conversation, name: str) -> ModelBinding:
    form = profile(name).form()
    one.session.store(sessions.Stored(profile=name, model="scripted", system="Write files.", request={}))
    return ModelBinding(one.runtime.facts, name, form, Prefix("Write files.", {}))


async def test_a_session_sits_anew_before_its_first_words(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "done"}, {"say": "done"}]) as server:
        one = await open_session(server.url, work)
        tries: list[int] = []

        async def get_to_know(_: Any) -> ModelBinding:
            tries.append(1)
            return to(one, "blocks")

        one.runtime.untried, one.runtime.get_to_know = True, get_to_know
        events = await turn(one, "go") + await turn(one, "go on")
        bodies = [json.loads(body) for body in await server.bodies()]
        await one.close()
        resumed = await open_session(server.url, work, resume=one.session.header.id)
        assert resumed.runtime.profile == "blocks"
        await resumed.close()
    assert len(tries) == 1
    assert [type(event) for event in events[:3]] == [TurnStarted, Notice, TierChanged]
    assert of(events, TierChanged)[0].words == "scripted is spoken to as `blocks` from here on"
    assert all(body["messages"][0]["content"] == "Write files." for body in bodies)
    assert [one["content"].count("a - b") for one in bodies[0]["messages"]] == [0, 1], "it is shown the files"
    assert bodies[0]["messages"][1]["content"].endswith("\n\ngo")


async def test_an_interruption_while_a_model_is_tried_keeps_what_the_person_said(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "done"}]) as server:
        one = await open_session(server.url, work)

        async def for_ever(_: Any) -> ModelBinding | None:
            await asyncio.Event().wait()
            return None

        one.runtime.untried, one.runtime.get_to_know = True, for_ever
        events = []
        async for event in run_prompt(one, "go"):
            events.append(event)
            if isinstance(event, Notice):
                one.cancel()
        assert of(events, TurnStarted)[0].input == "go"
        assert of(events, TurnEnded)[0].reason == "cancelled"
        assert not await server.bodies()
        assert one.runtime.untried, "next time, then"
        await one.close()
        later = await open_session(server.url, work, resume=one.session.header.id)
        events = await turn(later, "again")
        await later.close()
        roles = [message["role"] for message in json.loads((await server.bodies())[0])["messages"]]
    assert of(events, TurnEnded)[0].reason == "done" and roles == ["system", "user", "assistant", "user"]


async def test_a_model_that_cannot_be_tried_is_asked_all_the_same(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "done"}]) as server:
        one = await open_session(server.url, work)

        async def fails(_: Any) -> ModelBinding | None:
            raise AnswerFailed("it does not answer")

        one.runtime.untried, one.runtime.get_to_know = True, fails
        events = await turn(one, "go")
        await one.close()
    assert of(events, TurnEnded)[-1].reason == "done" and one.runtime.untried
