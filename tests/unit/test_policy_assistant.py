"""What the assistant's tools may do: reads never ask, acts always do, words go out where nothing private can."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.policy.action import MODES, Action, Facts, Rule, Taint, Verdict
from variet.policy.assistant import TRAITS, sink
from variet.policy.decide import decide

CLEAN = Taint(private=False, foreign=False, visits=0, visits_of_all=0)
WORSE = {"private": True, "named": False, "hit": False, "host_before": False, "typed": False, "foreign": True,
         "hit_before": False, "visits": 1_000, "visits_of_all": 1_000}  # fmt: skip
ORDER = {"allow": 0, "ask": 1, "deny": 2}

NUMBERS = ("visits", "visits_of_all")
taints = st.builds(
    Taint, **{one.name: st.integers(0, 20) if one.name in NUMBERS else st.booleans() for one in fields(Taint)}
)
tools = st.sampled_from([*TRAITS, "mail.forward", "unheard-of"])
targets = st.sampled_from(["docs.example", "evil.example", "a@example.org"])
rules = st.lists(
    st.builds(
        Rule, st.just("mine"), st.sampled_from([*TRAITS, "*", "mail.*"]),
        st.sampled_from(["", "docs.example", "*"]), st.sampled_from(["allow", "ask", "deny"]),
    ),
    max_size=3,
)  # fmt: skip


def judged(tool: str, taint: Taint, *mine: Rule, target: str = "docs.example", present: bool = True) -> Verdict:
    return decide(Action(tool, sink(tool, target), "ask"), Facts(mine, person_present=present, taint=taint))


@pytest.mark.parametrize(
    ("tool", "taint", "answer", "rule"),
    [
        ("mail.read", Taint(), "allow", "looks"),
        ("calendar.agenda", Taint(), "allow", "looks"),
        ("search.search", CLEAN, "allow", "nothing-private"),
        ("search.search", replace(CLEAN, foreign=True), "allow", "nothing-private"),
        ("search.search", replace(CLEAN, private=True), "allow", "known-words"),
        ("search.search", replace(CLEAN, private=True, foreign=True), "ask", "foreign-words"),
        ("search.search", replace(CLEAN, private=True, frequent=True), "ask", "frequent-words"),
        ("search.search", replace(CLEAN, private=True, frequent=True, foreign=True), "ask", "foreign-words"),
        ("search.fetch", CLEAN, "ask", "made-up"),
        ("search.fetch", replace(CLEAN, named=True), "allow", "named"),
        ("search.fetch", replace(CLEAN, hit=True), "allow", "named"),
        ("search.fetch", replace(CLEAN, private=True, named=True), "ask", "new-site"),
        ("search.fetch", replace(CLEAN, private=True, hit=True), "ask", "new-site"),
        ("search.fetch", replace(CLEAN, private=True, named=True, host_before=True), "ask", "new-site"),
        ("search.fetch", replace(CLEAN, private=True, hit=True, host_before=True), "ask", "new-site"),
        ("search.fetch", replace(CLEAN, private=True, hit=True, hit_before=True), "allow", "hit"),
        ("search.fetch", replace(CLEAN, private=True, hit_before=True, visits=3), "ask", "many-pages"),
        ("search.fetch", replace(CLEAN, private=True, hit_before=True, visits_of_all=12), "ask", "many-pages"),
        ("search.fetch", Taint(typed=True), "allow", "typed"),
        ("search.fetch", Taint(), "ask", "new-site"),
        ("mail.send", CLEAN, "ask", "acts"),
        ("unheard-of", CLEAN, "ask", "acts"),
    ],
)
def test_what_a_tool_may_do(tool: str, taint: Taint, answer: str, rule: str) -> None:
    verdict = judged(tool, taint)
    assert (verdict.answer, verdict.rule_id) == (answer, rule) and verdict.reason


@pytest.mark.parametrize("tool", [name for name, trait in TRAITS.items() if trait.kind == "act"])
def test_a_standing_rule_speaks_only_of_what_tells_nobody_and_can_be_taken_back(tool: str) -> None:
    allowed = judged(tool, Taint(), Rule("mine", tool, "", "allow")).answer == "allow"
    assert allowed == (tool in ("mail.label", "mail.archive"))
    assert judged(tool, Taint(), Rule("mine", tool, "", "deny")).answer == "deny"


def test_a_rule_for_a_site_is_for_that_site() -> None:
    mine = Rule("mine", "search.fetch", "docs.example", "allow")
    assert judged("search.fetch", Taint(), mine).answer == "allow"
    assert judged("search.fetch", Taint(), mine, target="docs.example.evil.example").answer == "ask"


@given(tools, taints, rules, targets, st.sampled_from(list(WORSE)), st.booleans(), st.sampled_from(MODES))
def test_more_taint_never_allows_more(
    tool: str, taint: Taint, mine: list[Rule], target: str, worse: str, present: bool, mode: str
) -> None:
    action = Action(tool, sink(tool, target), mode)  # type: ignore[arg-type]
    facts = Facts(tuple(mine), person_present=present, taint=taint)
    tainted = replace(facts, taint=replace(taint, **{worse: WORSE[worse]}))  # type: ignore[arg-type]
    assert ORDER[decide(action, tainted).answer] >= ORDER[decide(action, facts).answer]


@given(tools, taints, rules, targets, st.sampled_from(MODES))
def test_with_nobody_present_nothing_asks_and_nothing_more_is_allowed(
    tool: str, taint: Taint, mine: list[Rule], target: str, mode: str
) -> None:
    action = Action(tool, sink(tool, target), mode)  # type: ignore[arg-type]
    here = decide(action, Facts(tuple(mine), taint=taint))
    away = decide(action, Facts(tuple(mine), person_present=False, taint=taint))
    assert away.answer == ("deny" if here.answer == "ask" else here.answer)


@given(tools, taints, rules, targets)
def test_nothing_acts_without_a_rule_of_its_person(tool: str, taint: Taint, mine: list[Rule], target: str) -> None:
    verdict = decide(Action(tool, sink(tool, target), "full"), Facts(tuple(mine), taint=taint))
    trait = TRAITS.get(tool)
    if (trait is None or trait.kind == "act") and verdict.answer == "allow":
        assert trait is not None and trait.standing and any(rule.answer == "allow" for rule in mine)
    if any(rule.answer == "deny" and rule.tool == "*" and not rule.pattern for rule in mine):
        assert verdict.answer == "deny"


@given(taints, st.sampled_from([name for name, trait in TRAITS.items() if trait.kind == "look"]))
def test_reads_never_ask(taint: Taint, tool: str) -> None:
    assert judged(tool, taint).answer == "allow"
