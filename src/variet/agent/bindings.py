"""How a session speaks to a model: under which profile, with which beginning of its requests; who answers instead."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from variet.agent import abilities
from variet.agent.kinds import KINDS
from variet.agent.model import ModelFacts
from variet.agent.probe import Tell, load, tried
from variet.agent.profiles import Profile, chosen, profile, small
from variet.agent.rendering import Prefix
from variet.agent.runtime import ModelBinding, Runtime
from variet.agent.sessions import Stored
from variet.agent.settings import Settings
from variet.agent.tools.base import Toolbox
from variet.errors import AnswerFailed

log = logging.getLogger("variet.agent")


def suited_profile(facts: ModelFacts, wished: str, settings: Settings, *, coding: bool) -> tuple[Profile, bool]:
    """(the profile that a person wished, else the one that suits a model, whether it was never tried). Raises
    SessionError."""
    return (profile(wished), False) if wished else chosen(facts, settings.profiles, coding=coding)


_SAMPLING = ("seed", "temperature")  # what a person may wish, whoever answers


def stored_prefix(suits: Profile, facts: ModelFacts, kind: str, tools: Toolbox, sampling: dict[str, Any]) -> Stored:
    """What requests under a profile begin with."""
    form = suits.form()
    return Stored(
        profile=suits.name, model=facts.model, system=form.system(KINDS[kind].system, tools),
        request={**form.request(tools), **suits.fields, **sampling},
    )  # fmt: skip


def binding_of(runtime: Runtime, facts: ModelFacts, settings: Settings) -> ModelBinding:
    """Of a model that comes to a session: under a profile that the session knows, its prefix is the stored one."""
    session = runtime.session
    suits, untried = suited_profile(facts, runtime.wished, settings, coding=KINDS[session.header.kind].coding)
    if suits.name not in session.stored:
        own, usual = session.stored[runtime.profile].request, profile(runtime.profile).fields
        sampling = {key: own[key] for key in _SAMPLING if key in own and own[key] != usual.get(key)}
        session.store(stored_prefix(suits, facts, session.header.kind, runtime.tools, sampling))
    stored = session.stored[suits.name]
    return ModelBinding(facts, suits.name, suits.form(), Prefix(stored.system, stored.request), untried)


def acquaintance(runtime: Runtime, settings: Settings) -> Callable[[Tell], Awaitable[ModelBinding | None]]:
    """Tries the model that answers now, unless another session did meanwhile, and keeps what was found."""

    async def get_to_know(tell: Tell) -> ModelBinding | None:
        coding = KINDS[runtime.session.header.kind].coding
        await load(runtime.model, runtime.facts.name, tell)
        # What its file says is known only now where it had to be fetched first.
        facts = runtime.facts = await runtime.model.facts(runtime.facts.name)
        if abilities.known(facts, coding=coding) is None:
            prompt = KINDS[runtime.session.header.kind].system if coding else ""
            found = await tried(
                runtime.model, facts, prompt, runtime.tools, runtime.workspace, tell, in_fences=coding and small(facts)
            )
            if found is not None:
                abilities.keep(facts, found, coding=coding)
        binding = binding_of(runtime, facts, settings)
        return binding if binding.profile != runtime.profile else None

    return get_to_know


def escalation(runtime: Runtime, settings: Settings) -> Callable[[str], Awaitable[ModelBinding | None]]:
    """The tiers of the settings, those above the one that works now, each once."""

    async def take_over(_: str) -> ModelBinding | None:
        path = settings.escalation
        above = path[path.index(runtime.facts.name) + 1 :] if runtime.facts.name in path else path
        for tier in above:
            try:
                facts = await runtime.model.facts(tier)
            except AnswerFailed as error:
                log.warning("no escalation to %s: %s", tier, error)
                continue
            if facts.model != runtime.facts.model:
                return binding_of(runtime, facts, settings)
        return None

    return take_over
