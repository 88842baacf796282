"""Pure: what the assistant's tools are to policy, as plain data, and what is decided from that.

Data names where a tool's words come from and what it does outside, never what a task is about. A model may be fooled by
anything that it reads, so nothing here asks what it was told: what it has read counts, and where its words would go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from variet.policy.action import Action, Rule, Sink, Taint, Verdict

Kind = Literal["look", "search", "page", "act"]
KINDS: frozenset[str] = frozenset({"look", "search", "page", "act"})


# Pages after private text was read, unasked: which of several is asked for tells its site something.
MOST_VISITS, MOST_VISITS_OF_ALL = 3, 12


@dataclass(frozen=True, slots=True)
class Trait:
    """`private`: its result is the person's alone; `strangers`: it holds words that others wrote. `standing`: a rule of
    the person may allow it without asking, as it tells nobody anything and can be taken back. `twice`: done once more,
    it is there twice. `targets`: it reaches somebody, of whom a rule may speak."""

    kind: Kind
    private: bool = False
    strangers: bool = False
    standing: bool = False
    twice: bool = False
    targets: bool = False


TRAITS: dict[str, Trait] = {
    "search.search": Trait("search", strangers=True),
    "search.fetch": Trait("page", strangers=True, targets=True),
    "mail.search": Trait("look", private=True, strangers=True),
    "mail.read": Trait("look", private=True, strangers=True),
    "mail.attachment": Trait("look", private=True, strangers=True),
    "mail.labels": Trait("look", private=True),
    "mail.send": Trait("act", twice=True, targets=True),
    "mail.draft": Trait("act", twice=True, targets=True),
    "mail.label": Trait("act", standing=True),
    "mail.archive": Trait("act", standing=True),
    "calendar.calendars": Trait("look", private=True, strangers=True),
    "calendar.agenda": Trait("look", private=True, strangers=True),
    "calendar.event": Trait("look", private=True, strangers=True),
    "calendar.free": Trait("look", private=True),
    "calendar.create": Trait("act", twice=True, targets=True),
    "calendar.change": Trait("act", targets=True),
    "calendar.cancel": Trait("act", targets=True),
}


def sink(tool: str, *targets: str) -> Sink:
    """What a tool does, to whom. One that is not known acts, for all that is known."""
    trait = TRAITS.get(tool)
    return Sink(trait.kind if trait else "act", targets, inside=False)


def judge(action: Action, taint: Taint, allowing: Rule | None) -> Verdict:
    """`allowing`: a rule of the person that allows all of it; refusing ones were looked at before."""
    if action.sink.kind == "look":
        return Verdict("allow", "looks", "it shows the person's own things to the person's own model")
    if action.sink.kind == "search":
        return _search(taint, allowing)
    if action.sink.kind == "page":
        return _page(taint, allowing)
    return _act(action, allowing)


def _search(taint: Taint, allowing: Rule | None) -> Verdict:
    if not taint.private:
        return Verdict("allow", "nothing-private", "nothing private was read before")
    if allowing:
        return Verdict("allow", allowing.id, "your rules allow it")
    if taint.foreign:
        return Verdict(
            "ask", "foreign-words", "your mail or calendar was read: words that you did not type would go out"
        )
    if taint.frequent:
        return Verdict(
            "ask", "frequent-words", "your mail or calendar was read, and how frequent words are put can tell of it"
        )
    return Verdict("allow", "known-words", "you typed each of its words, or they stood in public text from before")


def _page(taint: Taint, allowing: Rule | None) -> Verdict:
    if taint.typed:
        return Verdict("allow", "typed", "you wrote this address")
    if allowing:
        return Verdict("allow", allowing.id, "your rules allow it")
    if not taint.private:
        if taint.named or taint.hit:
            return Verdict("allow", "named", "what was read names this very address")
        return Verdict("ask", "made-up", "nothing that was read names this address: it may carry words out")
    if taint.hit_before and taint.visits < MOST_VISITS and taint.visits_of_all < MOST_VISITS_OF_ALL:
        return Verdict("allow", "hit", "a search gave this address before your mail or calendar was read")
    if taint.hit_before:
        return Verdict(
            "ask", "many-pages", "many pages were read since your mail or calendar was: which, can tell of it"
        )
    return Verdict("ask", "new-site", "your mail or calendar was read, and which address is asked for can tell of it")


def _act(action: Action, allowing: Rule | None) -> Verdict:
    if action.mode == "plan":
        return Verdict("deny", "plan-mode", "in plan mode nothing is changed")
    trait = TRAITS.get(action.tool)
    if allowing and trait is not None and trait.standing:
        return Verdict("allow", allowing.id, "your rules allow it")
    return Verdict("ask", "acts", "it would be done in your name")
