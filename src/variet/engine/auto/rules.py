"""Pure: the rules of `auto`, and which tier a conversation needs by them. The first rule that holds decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from variet.engine.auto.wording import Wording
from variet.engine.config import AutoConfig, AutoRule
from variet.tiers import Tier

HEIGHT: dict[Tier, int] = {"fast": 0, "balanced": 1, "deep-coder": 2, "deep-logic": 2, "ultra": 3}
_NOT_A_WORD = re.compile(r"[^\w'*]+")


@dataclass(frozen=True, slots=True)
class Need:
    """A tier, the rule that asks for it, and the phrase of that rule that was found (empty: it looks at no phrase)."""

    tier: Tier
    rule: str
    phrase: str = ""

    def explained(self) -> str:
        found = f" ({self.phrase!r})" if self.phrase else ""
        return f"rule {self.rule!r}{found} asks for {self.tier}"


class Rules:
    """The rules of one configuration."""

    def __init__(self, config: AutoConfig) -> None:
        self._otherwise = Need(config.otherwise, "otherwise")
        self._rules = [(rule, [*map(_phrase, rule.says)], [*map(_phrase, rule.and_says)]) for rule in config.rules]

    def need(self, one: Wording) -> Need:
        """What one message asks for."""
        for rule, says, and_says in self._rules:
            if not _holds(rule, one):
                continue
            found = _first(says, one)
            if (says and not found) or (and_says and not _first(and_says, one)):
                continue
            return Need(rule.tier, rule.name, found)
        return self._otherwise

    def need_of_all(self, said: Iterable[Wording], before: Need | None = None) -> Need:
        """What a conversation needs: the highest that any of its messages asked for, the first of equally high ones."""
        for one in said:
            need = self.need(one)
            if before is None or HEIGHT[need.tier] > HEIGHT[before.tier]:
                before = need
        return before or self._otherwise


def _holds(rule: AutoRule, one: Wording) -> bool:
    """Whether all that a rule says of the shape of a message is so."""
    if rule.words_at_most is not None and one.words > rule.words_at_most:
        return False
    if rule.words_at_least is not None and one.words < rule.words_at_least:
        return False
    if rule.tools is not None and one.tools != rule.tools:
        return False
    if rule.effort and one.effort not in rule.effort:
        return False
    if rule.code is not None and one.code != rule.code:
        return False
    return rule.files_at_least is None or one.files >= rule.files_at_least


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase as it is written, as it is looked for in a Wording's text, and its first word, if that is whole."""

    written: str
    sought: str
    word: str


def _phrase(written: str) -> _Phrase:
    words = _NOT_A_WORD.sub(" ", written.lower()).strip()
    open_end = words.endswith("*")
    first = words.partition(" ")[0]
    return _Phrase(written, f" {words[:-1]}" if open_end else f" {words} ", "" if first.endswith("*") else first)


def _first(phrases: Sequence[_Phrase], one: Wording) -> str:
    """The first of them that a message has; a look into its set of words spares most searches."""
    text, words = one.text, one.word_set
    return next((it.written for it in phrases if (not it.word or it.word in words) and it.sought in text), "")
