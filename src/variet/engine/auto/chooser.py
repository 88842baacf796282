"""What `auto` decides for a request, from what is loaded, measured and kept now. Reads the engine, changes nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from variet.engine.auto.choice import Choice, Option, choose
from variet.engine.auto.rules import Need, Rules
from variet.engine.auto.wording import has_images, readable_bytes, wordings
from variet.engine.conversation import Chain
from variet.engine.scheduler import Phase
from variet.tiers import TIERS, Tier

if TYPE_CHECKING:
    from variet.engine.engine import Engine

_REMEMBERED = 4096  # conversations whose need is known without reading all of their messages again
_ANSWER_TOKENS = 400  # of an answer, where its request sets no lower limit
_USUAL_TOKENS_PER_S = 30.0  # where neither a measurement nor an expectation is known
_USUAL_LOAD_S = 20.0
_WHY_NOT = {"backing_off": "failed to load lately", "unavailable": "is not on this disk"}


class Chooser:
    """One an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules, self._rules_of = Rules(engine.config.auto), engine.config.auto
        self._needs: OrderedDict[str, tuple[Need, int]] = OrderedDict()  # by digest: and how many messages it covers

    def choose(self, body: Mapping[str, Any], chain: Chain) -> Choice:
        """The tier for a request, and why."""
        need = self._need(body, chain)
        config = self._engine.config
        eyes, size = has_images(body), readable_bytes(body)
        options = [self._option(tier, body, chain, size, eyes=eyes) for tier in TIERS]
        return choose(need, options, config.auto.worth_s)

    def _need(self, body: Mapping[str, Any], chain: Chain) -> Need:
        """The highest that the conversation ever asked for. What was read before is remembered, not read again."""
        if self._rules_of is not self._engine.config.auto:  # reloaded
            self._rules, self._rules_of = Rules(self._engine.config.auto), self._engine.config.auto
            self._needs.clear()
        said = wordings(body)
        before, covered = None, 0
        for digest in reversed(chain.digests[1:]):  # the first link is a system prompt that many conversations share
            if digest in self._needs:
                before, covered = self._needs[digest]
                break
        need = self._rules.need_of_all(said[covered:], before)
        if len(chain.digests) > 1:
            self._needs[chain.digests[-1]] = need, len(said)
            self._needs.move_to_end(chain.digests[-1])
            if len(self._needs) > _REMEMBERED:
                self._needs.popitem(last=False)
        return need

    def _option(self, tier: Tier, body: Mapping[str, Any], chain: Chain, size: int, *, eyes: bool) -> Option:
        engine = self._engine
        spec = engine.config.tiers[tier]
        name, model = spec.model, engine.config.models[spec.model]
        speeds, bytes_per_token = engine.contexts.measured(name)
        tokens = size / bytes_per_token
        load_s, back_s, problem = self._coming(name)
        if not problem and eyes and model.files.mmproj is None:
            problem = f"{tier} sees no pictures"
        doubt = ""
        if tokens > model.context_tokens:
            doubt = f"{tier} holds {model.context_tokens} tokens, and this has about {tokens:.0f}"
        unread = tokens * (1 - engine.contexts.spared_share(name, chain))
        return Option(
            tier,
            name,
            load_s=load_s,
            back_s=back_s,
            read_s=speeds.reading_ms(unread) / 1000,
            write_s=_answer_tokens(body) / (speeds.tokens_per_s or spec.expected_tokens_per_s or _USUAL_TOKENS_PER_S),
            problem=problem,
            doubt=doubt,
        )

    def _coming(self, name: str) -> tuple[float, float, str]:
        """Seconds until a model is loaded, and what loading anew would take of that which has to go for it; or why it
        cannot answer now, without the words of its log."""
        state = self._engine.fleet.scheduler
        own = next((one for one in state.instances.values() if one.model == name and one.live), None)
        if own is not None and own.phase is Phase.READY:
            # Behind a closed gate it is on its way out, and a request now would bring it back.
            return (0.0 if own.gate_since_ms is None else self._load_s(name)), 0.0, ""
        if name in state.pulling:
            return 0.0, 0.0, f"{name} is still being fetched"
        objection = state.objection(name, time.monotonic() * 1000)
        if objection is not None:
            return 0.0, 0.0, f"{name} {_WHY_NOT.get(objection[0], 'cannot run now')}"
        if own is not None:
            running = self._engine.fleet.running.get(own.instance_id)
            return self._load_s(name) * (1 - (running.progress[1] if running else 0.0)), 0.0, ""
        gone = state.would_go(name)
        if gone is None:
            return 0.0, 0.0, f"{name} does not fit beside what is pinned"
        return self._load_s(name), sum(map(self._load_s, gone)), ""

    def _load_s(self, model: str) -> float:
        """As it was measured, else as it is planned."""
        measured = self._engine.fleet.scheduler.load_ms.get(model)
        if measured is not None:
            return measured / 1000
        planned = self._engine.plan.models.get(model)
        return planned.load_s if planned is not None and planned.load_s else _USUAL_LOAD_S


def _answer_tokens(body: Mapping[str, Any]) -> float:
    limits = [body.get(field) for field in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")]
    return min([_ANSWER_TOKENS, *(limit for limit in limits if type(limit) is int and limit > 0)])


def row(choice: Choice) -> dict[str, Any]:
    """A choice as programs get it; seconds, and null for what cannot answer."""
    return {
        "tier": choice.tier,
        "model": choice.model,
        "reason": choice.reason,
        "need": {"tier": choice.need.tier, "rule": choice.need.rule, "phrase": choice.need.phrase},
        "options": [
            {
                "tier": one.option.tier,
                "model": one.option.model,
                "load_s": round(one.option.load_s, 2),
                "back_s": round(one.option.back_s, 2),
                "read_s": round(one.option.read_s, 2),
                "write_s": round(one.option.write_s, 2),
                "lack_s": round(one.lack_s, 2),
                "total_s": None if one.option.problem else round(one.total_s, 2),
                "problem": one.option.problem or one.option.doubt or None,
            }
            for one in choice.weighed
        ],
    }
