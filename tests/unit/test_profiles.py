"""How a model is spoken to: by what a person set, by its size, by what it did when it was tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from variet.agent import abilities
from variet.agent.abilities import Abilities, Reasoning
from variet.agent.model import ModelFacts
from variet.agent.probe import reasoning_of
from variet.agent.profiles import PROFILES, chosen, suited
from variet.agent.settings import ProfileName
from variet.errors import SessionError

LARGE, TINY = 31_000_000_000, 1_500_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    return tmp_path


def facts(parameters: int = LARGE, **more: Any) -> ModelFacts:
    return ModelFacts("deep-coder", "a-model", 4096, parameters=parameters, settled=True, **more)


@pytest.mark.parametrize(
    ("parameters", "coding", "found", "profile"),
    [
        (LARGE, True, None, "native"),
        (0, True, None, "native"),
        (LARGE, True, Abilities(reasoning="kept", calls=True), "replayed"),
        (LARGE, True, Abilities(reasoning="preserved", calls=True), "preserved"),
        (LARGE, True, Abilities(reasoning="dropped", calls=True), "replayed"),
        (LARGE, True, Abilities(reasoning="switched_off", calls=True), "unthinking"),
        (LARGE, True, Abilities(reasoning="kept"), "replayed"),
        (LARGE, True, Abilities(reasoning="kept", calls=False), "blocks"),
        (LARGE, False, Abilities(reasoning="kept", calls=False), "replayed"),
        (TINY, True, None, "blocks"),
        (TINY, False, None, "native"),
        (TINY, False, Abilities(reasoning="kept"), "replayed"),
        (TINY, True, Abilities(schema_held=True, goes_on=True), "blocks"),
        (TINY, True, Abilities(schema_held=False, goes_on=True), "open-blocks"),
        (TINY, True, Abilities(schema_held=True, goes_on=False), "open-blocks"),
    ],
)
def test_a_model_is_spoken_to_as_suits_it(parameters: int, coding: bool, found: Abilities | None, profile: str) -> None:
    assert suited(facts(parameters), found, coding=coding) == profile


def test_what_was_found_is_kept_by_tier_and_model() -> None:
    found = Abilities(reasoning="preserved", calls=True)
    abilities.keep(facts(), found, coding=True)
    assert abilities.known(facts(), coding=True) == found
    assert abilities.known(facts(), coding=False) is None
    assert abilities.known(facts(identity="another file, or another word of the owner's"), coding=True) is None


def test_what_was_found_and_cannot_be_read_is_tried_again(home: Path) -> None:
    abilities.keep(facts(), Abilities(), coding=True)
    (kept,) = home.rglob("abilities/*.json")
    for damaged in (b'{"reasoning": "loud"}', b"\xff\xfe", b""):
        kept.write_bytes(damaged)
        assert abilities.known(facts(), coding=True) is None


def test_a_person_decides_by_tier_or_model_and_nothing_is_tried() -> None:
    for wanted in ({"deep-coder": "blocks"}, {"a-model": "blocks"}):
        profile, untried = chosen(facts(), wanted, coding=True)
        assert (profile.name, untried) == ("blocks", False)
    assert chosen(facts(), {"fast": "blocks"}, coding=True)[1], "another tier"
    with pytest.raises(SessionError, match="loud"):
        chosen(facts(), {"deep-coder": "loud"}, coding=True)


def test_only_a_name_that_stands_for_one_model_of_an_engine_is_tried() -> None:
    assert chosen(facts(), {}, coding=True)[1]
    assert not chosen(ModelFacts("auto", "a-model", 4096), {}, coding=True)[1]
    abilities.keep(facts(), Abilities(), coding=True)
    assert not chosen(facts(), {}, coding=True)[1]


def template(shows: Callable[[dict[str, Any], bool], bool], *, switch: bool = False) -> Callable[[Any], Any]:
    """`shows`: whether reasoning is written (fields of the request, whether a person's words follow)."""

    async def render(body: dict[str, Any]) -> str:
        last = max(at for at, one in enumerate(body["messages"]) if one["role"] == "user")
        fields = body.get("chat_template_kwargs", {})
        text = ""
        for at, one in enumerate(body["messages"]):
            thought = one.get("reasoning_content", "") if shows(fields, at < last) else ""
            text += f"<{one['role']}>{thought}{one['content']}"
        return text + ("<off>" if switch and fields.get("enable_thinking") is False else "")

    return render


@pytest.mark.parametrize(
    ("render", "found"),
    [
        (template(lambda fields, past: True), "kept"),
        (template(lambda fields, past: True, switch=True), "kept"),
        (template(lambda fields, past: not past or bool(fields.get("preserve_thinking"))), "preserved"),
        (template(lambda fields, past: not past), "dropped"),
        (template(lambda fields, past: not past, switch=True), "switched_off"),
        (template(lambda fields, past: False), "ignored"),
        (template(lambda fields, past: False, switch=True), "ignored"),
    ],
)
async def test_what_a_template_does_with_reasoning_is_seen(render: Any, found: Reasoning) -> None:
    assert await reasoning_of(render) == found


async def test_a_template_that_refuses_tools_is_one_without_reasoning() -> None:
    async def refuses(body: dict[str, Any]) -> str:
        return ""

    assert await reasoning_of(refuses) == "ignored"


async def test_thinking_stays_on_where_switching_it_off_spares_no_reading() -> None:
    """As Qwen3.5's: an answer of the turn under way begins with a thought, be it empty; earlier ones lose that."""

    async def render(body: dict[str, Any]) -> str:
        last = max(at for at, one in enumerate(body["messages"]) if one["role"] == "user")
        text = ""
        for at, one in enumerate(body["messages"]):
            thought = f"<think>{one.get('reasoning_content', '')}</think>"
            text += f"<{one['role']}>{thought if one['role'] == 'assistant' and at > last else ''}{one['content']}"
        off = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
        return text + ("<assistant><think></think>" if off else "<assistant><think>")

    assert await reasoning_of(render) == "dropped"


@pytest.mark.parametrize("name", ["preserve_thinking", "clear_thinking", "truncate_history_thinking"])
async def test_whatever_a_template_calls_it_thoughts_are_preserved(name: str) -> None:
    async def render(body: dict[str, Any]) -> str:
        last = max(at for at, one in enumerate(body["messages"]) if one["role"] == "user")
        keeps = body.get("chat_template_kwargs", {}).get(name) is (name == "preserve_thinking")
        return "".join(
            f"<{one['role']}>{one.get('reasoning_content', '') if keeps or at > last else ''}{one['content']}"
            for at, one in enumerate(body["messages"])
        )

    assert await reasoning_of(render) == "preserved"


def test_settings_know_all_profiles() -> None:
    assert set(get_args(ProfileName)) == set(PROFILES)
