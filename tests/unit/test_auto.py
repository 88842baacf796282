"""`auto`: rules say what is needed, once and for all of a conversation; costs decide what answers."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.engine.auto.choice import Choice, Option, choose
from variet.engine.auto.rules import HEIGHT, Need, Rules
from variet.engine.auto.wording import Wording, has_images, readable_bytes, wordings
from variet.engine.config import AutoConfig, AutoRule
from variet.tiers import TIERS, Tier

ROOT = Path(__file__).resolve().parent.parent.parent
WORTH = AutoConfig().worth_s
BUILT_IN = Rules(AutoConfig())


def need(text: str, **fields: Any) -> Tier:
    return BUILT_IN.need(Wording(text, **fields)).tier


def rules(*made: dict[str, Any], otherwise: Tier = "balanced") -> Rules:
    return Rules(AutoConfig(rules=tuple(AutoRule(**one) for one in made), otherwise=otherwise))


# --- wording ---


def test_what_a_person_said_is_found_in_each_api() -> None:
    said: list[dict[str, Any]] = [
        {"messages": [{"role": "system", "content": "no"}, {"role": "user", "content": "Why?"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]},
        {"input": "Why?"},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}]},
        {"prompt": "Why?"},
    ]
    assert [[one.message for one in wordings(body)] for body in said] == [["Why?"]] * 5


def test_results_of_tools_and_what_clients_add_are_nobodys_words() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": "deadlock"}
    body = {
        "messages": [
            {"role": "user", "content": "<system-reminder>\nbe exhaustive\n</system-reminder>\nlist the files"},
            {"role": "assistant", "content": "deadlock"},
            {"role": "user", "content": [result]},
            {"role": "tool", "content": "deadlock"},
        ]
    }
    assert [one.message for one in wordings(body)] == ["list the files"]


def test_code_is_seen_and_its_words_are_not_read() -> None:
    one = Wording("What does it do?\n```python\nprove(theorem)\n```")
    assert one.code and one.words == 4 and "prove" not in one.text
    assert Wording("I get\nTraceback (most recent call last):\n  x").code
    assert not Wording("import duties on wine for me").code


def test_pictures_are_seen_in_each_api() -> None:
    for kind in ("image", "image_url", "input_image"):
        assert has_images({"messages": [{"role": "user", "content": [{"type": kind}]}]})
    assert not has_images({"messages": [{"role": "user", "content": "an image"}]})


def test_what_is_no_text_is_no_prompt() -> None:
    """A screenshot in a tool's result is half a million tokens only to who counts its letters."""
    picture = {"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo" * 100_000}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [picture]}
    words = "what do you see " * 100
    body = {"messages": [{"role": "user", "content": [result, {"type": "text", "text": words}]}]}
    assert len(words) < readable_bytes(body) < len(words) + 300
    assert readable_bytes({"input": "x " * 5_000}) == 10_000 and readable_bytes({"prompt": [1, 2, 3]}) == 0


@pytest.mark.parametrize("unit", ["\n", " \n", "a.", "at x", "SELECT ", "word ", "\n\n\nx"])
def test_no_message_holds_up_the_engine(unit: str) -> None:
    """Patterns that look back and forth would take seconds here; these take milliseconds."""
    began = time.process_time()
    for _ in range(5):
        one = Wording(unit * (200_000 // len(unit)))
        assert one.code in (True, False) and one.files >= 0
    assert time.process_time() - began < 2.0


@given(st.text(max_size=300))
def test_any_text_has_words(text: str) -> None:
    one = Wording(text)
    assert one.words == len(one.text.split()) and one.code in (True, False) and one.files >= 0
    assert BUILT_IN.need(one).tier in TIERS


# --- rules ---


def test_a_phrase_is_whole_words_unless_it_says_otherwise() -> None:
    made = rules({"name": "a", "tier": "ultra", "says": ["race", "dead lock*"]}, otherwise="fast")
    told = {
        text: made.need(Wording(text)).tier for text in ("race!", "A Race", "brace", "races", "dead-locked", "dead")
    }
    assert told == {
        "race!": "ultra", "A Race": "ultra", "brace": "fast", "races": "fast", "dead-locked": "ultra", "dead": "fast",
    }  # fmt: skip


def test_a_rule_holds_when_all_that_it_says_is_so() -> None:
    made = rules(
        {"name": "both", "tier": "ultra", "says": ["fix"], "and_says": ["bug", "fault"], "words_at_most": 4},
        {"name": "files", "tier": "deep-coder", "files_at_least": 2},
        {"name": "effort", "tier": "deep-logic", "effort": ["high"], "tools": False},
    )
    assert made.need(Wording("fix this fault")) == Need("ultra", "both", "fix")
    assert made.need(Wording("fix this")).rule == "otherwise"
    assert made.need(Wording("fix this very old bug")).rule == "otherwise"
    assert made.need(Wording("see a.py and src/b.ts")).rule == "files"
    assert made.need(Wording("see a.py and a.py")).rule == "otherwise"
    assert made.need(Wording("why", effort="high")).rule == "effort"
    assert made.need(Wording("why", effort="high", tools=True)).rule == "otherwise"


def test_an_empty_phrase_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="letter or digit"):
        AutoRule(name="a", tier="fast", says=("*",))


def test_a_conversation_only_moves_up_and_never_sideways() -> None:
    said = [Wording("prove that it ends"), Wording("thanks"), Wording("find the deadlock in it")]
    assert BUILT_IN.need_of_all(said[:1]).tier == "deep-logic"
    assert BUILT_IN.need_of_all(said[:2]).tier == "deep-logic"
    assert BUILT_IN.need_of_all(said).tier == "deep-logic", "deep-coder is as high, not higher"
    assert BUILT_IN.need_of_all([*said, Wording("be exhaustive now")]).tier == "ultra"


@given(st.lists(st.sampled_from(["thanks", "write a function", "prove it", "audit the code", "deadlock"]), min_size=1))
def test_a_need_never_falls(texts: list[str]) -> None:
    before: Need | None = None
    for text in texts:
        now = BUILT_IN.need_of_all([Wording(text)], before)
        assert before is None or HEIGHT[now.tier] >= HEIGHT[before.tier]
        before = now
    assert before == BUILT_IN.need_of_all(map(Wording, texts)), "remembered or read again, it is the same"


@pytest.mark.parametrize(
    "text",
    [
        "what does npm audit do?",
        "There is a mistake in my README, fix it",
        "add a corrupted file to the fixtures",
        "make the button blue across the page",
        "please optimise the wording of this mail",
        "Kill the process on port 3000",
        "I made a mistake in the invoice, can you write to them",
        "npm audit fix fails with ERESOLVE",
    ],
)
def test_everyday_words_call_for_no_big_model(text: str) -> None:
    assert HEIGHT[need(text)] <= HEIGHT["balanced"]


def test_work_with_tools_is_no_chat() -> None:
    assert (need("clean this up for me"), need("clean this up for me", tools=True)) == ("fast", "balanced")


def _labelled(half: str) -> list[tuple[str, Tier]]:
    lines = (ROOT / "bench" / "data" / f"auto_{half}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [(text.replace("\\n", "\n"), next(tier for tier in TIERS if tier == label)) for label, text in rows]


def test_the_labelled_prompts_are_what_they_should_be() -> None:
    tuning, held_back = _labelled("tuning"), _labelled("held_back")
    assert len(tuning) == len(held_back) == 100
    assert not {text for text, _ in tuning} & {text for text, _ in held_back}


@pytest.mark.parametrize("half", ["tuning", "held_back"])
def test_the_built_in_rules_agree_with_the_labels(half: str) -> None:
    """`python -m bench auto` prints how far; this only guards against a change that breaks them."""
    agreed = sum(need(text) == tier for text, tier in _labelled(half))
    assert agreed >= 80


# --- choice ---


def chosen(needed: Tier, *but: Tier, **changes: dict[str, Any]) -> Choice:
    """Each tier `but` those that cannot answer a model of its own, nothing loaded, ten seconds a load."""
    made = []
    for tier in TIERS:
        usual: dict[str, Any] = {"load_s": 10.0, "problem": "gone" if tier in but else ""}
        made.append(Option(tier, f"model-{tier}", **{**usual, **changes.get(tier.replace("-", "_"), {})}))
    return choose(Need(needed, "a rule", "word"), made, WORTH)


def test_what_is_needed_answers_where_it_costs_no_more_than_it_is_worth() -> None:
    for tier in TIERS:
        assert chosen(tier).tier == tier


def test_a_swap_is_not_worth_a_quick_question() -> None:
    one = chosen("fast", deep_coder={"load_s": 0.0})
    assert one.tier == "deep-coder"
    assert one.reason == "rule 'a rule' ('word') asks for fast; deep-coder, which is loaded, is 10 s quicker"


def test_a_big_model_is_waited_for_up_to_its_worth() -> None:
    middle: tuple[Tier, ...] = ("balanced", "deep-coder", "deep-logic")
    assert chosen("ultra", *middle, ultra={"load_s": 200.0}, fast={"load_s": 0.0}).tier == "ultra"
    one = chosen("ultra", *middle, ultra={"load_s": 250.0}, fast={"load_s": 0.0})
    assert one.tier == "fast"
    assert "costs 250 s, more than it is worth over fast, which is loaded" in one.reason


def test_the_way_back_counts() -> None:
    deep: tuple[Tier, ...] = ("deep-coder", "deep-logic", "ultra")
    assert chosen("balanced", *deep, fast={"load_s": 0.0}, balanced={"load_s": 20.0}).tier == "balanced"
    assert chosen("balanced", *deep, fast={"load_s": 0.0}, balanced={"load_s": 20.0, "back_s": 15.0}).tier == "fast"


def test_a_slow_writer_is_no_bargain() -> None:
    middle: tuple[Tier, ...] = ("balanced", "deep-coder", "deep-logic")
    assert chosen("fast", *middle, ultra={"load_s": 0.0, "write_s": 45.0}, fast={"write_s": 5.0}).tier == "fast"


def test_a_long_conversation_stays_where_it_was_read() -> None:
    read = {"read_s": 100.0}
    one = chosen("balanced", fast=read, balanced={}, deep_coder={"load_s": 0.0, **read}, deep_logic=read, ultra=read)
    assert one.tier == "balanced"


def test_what_cannot_answer_is_not_asked_unless_nothing_can() -> None:
    broken = {"problem": "model-balanced is missing"}
    one = chosen("balanced", balanced=broken)
    assert one.tier == "fast" or HEIGHT[one.tier] > HEIGHT["balanced"]
    assert "model-balanced is missing" in one.reason
    none = {tier.replace("-", "_"): {"problem": "gone"} for tier in TIERS}
    assert chosen("balanced", **none).tier == "balanced", "its own error says what is wrong"


def test_what_probably_cannot_is_asked_before_what_certainly_cannot() -> None:
    made = [
        Option("fast", "a", doubt="fast holds 4096 tokens, and this has about 9000"),
        Option("balanced", "b", problem="b is not on this disk"),
        Option("deep-coder", "c", load_s=30.0, doubt="deep-coder holds 8192 tokens, and this has about 9000"),
        *(Option(tier, "d", problem="d failed to load lately") for tier in ("deep-logic", "ultra")),
    ]
    one = choose(Need("balanced", "a rule"), made, WORTH)
    assert one.tier == "fast" and "b is not on this disk; fast answers" in one.reason


_keys = st.sampled_from(
    ["messages", "input", "prompt", "role", "user", "content", "text", "type", "tools", "reasoning", "effort", "x"]
)
_seconds = st.floats(0, 500)
_option = st.fixed_dictionaries({"load_s": _seconds, "back_s": _seconds, "read_s": _seconds, "write_s": _seconds})


@given(st.sampled_from(TIERS), st.lists(_option, min_size=5, max_size=5))
def test_nothing_cheaper_is_passed_over(needed: Tier, costs: list[dict[str, float]]) -> None:
    one = choose(
        Need(needed, "a"),
        [Option(tier, tier, **cost, problem="", doubt="") for tier, cost in zip(TIERS, costs, strict=True)],
        WORTH,
    )
    totals = {weighed.option.tier: weighed.total_s for weighed in one.weighed}
    assert totals[one.tier] <= min(totals.values()) + 1.0
    if one.tier != needed:
        assert totals[one.tier] < totals[needed]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_keys, _json, max_size=6))
def test_no_body_is_too_odd(body: dict[str, Any]) -> None:
    assert has_images(body) in (True, False)
    assert BUILT_IN.need_of_all(wordings(body)).tier in TIERS


def test_a_reason_fits_a_header_and_quotes_rules_only() -> None:
    one = choose(BUILT_IN.need(Wording("my secret deadlock")), [Option(tier, tier) for tier in TIERS], WORTH)
    assert re.fullmatch(r"[ -~]+", one.reason) and "secret" not in one.reason
    broken = [Option(tier, tier, problem="line one\r\nline two\n" + "x" * 9_000) for tier in TIERS]
    long = choose(BUILT_IN.need(Wording("deadlock")), broken, WORTH).reason
    assert "\n" not in long and "\r" not in long and len(long) <= 400
