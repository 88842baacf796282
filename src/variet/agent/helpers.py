"""Helpers of a session: agents with a context, a log and a tier of their own, which look and report.

A helper changes nothing, whatever the mode: its permissions are those of mode plan, with nobody to ask. Its events are
told beside the parent's, under its own agent_id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from variet.agent import sessions
from variet.agent.equipment import Equipment
from variet.agent.events import EventBase, MessageDone, Notice, TextPart, TurnEnded
from variet.agent.guards import Limits
from variet.agent.loop import Agent
from variet.agent.model import Model
from variet.agent.permissions import Permissions
from variet.agent.profiles import chosen, profile
from variet.agent.prompt.preface import preface
from variet.agent.prompt.system import HELPERS
from variet.agent.rendering import Prefix, Rendering
from variet.agent.routing import Choice, tier_for
from variet.agent.runtime import Runtime
from variet.agent.tools import looking_tools
from variet.agent.tools.base import Place, Result, close_all
from variet.agent.tools.task import HelperRole
from variet.agent.workspace import Workspace
from variet.errors import AnswerFailed

_LIMITS = Limits(steps=40, output_tokens=30_000)


@dataclass
class Helpers:
    """Sent by the agent whose runtime this is: its tier of now is where it stands."""

    root: Path
    model: Model
    permissions: Permissions
    equipment: Equipment
    parent: Runtime | None = None

    async def send(self, role: HelperRole, prompt: str, place: Place) -> Result:
        """What it reports. What goes wrong with it is told, and the parent goes on."""
        try:
            choice = await self._choose(role)
            runtime = await self._runtime(role, choice, place.call_id)
        except AnswerFailed as error:
            return Result(f"the helper could not start: {error}", failed=True)
        place.say(f"{role} on {choice.tier}: {choice.reason}\n")
        report = _Report(place.tell)
        try:
            context = preface(self.root, trusted=self.permissions.facts.trusted)
            await Agent(runtime, report.hear).turn(prompt, context)
        finally:
            await close_all(runtime.tools)
            runtime.session.close()
        return report.result()

    async def _choose(self, role: HelperRole) -> Choice:
        assert self.parent is not None
        main = self.parent.facts
        wanted = self.equipment.settings.roles.get(role, main.name)
        facts = main if wanted == main.name else await self.model.facts(wanted)
        same = facts.model == main.model
        beside = {main.name: [wanted] if same or facts.model in main.beside else []}
        return tier_for(role, self.equipment.settings.roles, main.name, beside)

    async def _runtime(self, role: HelperRole, choice: Choice, call_id: str) -> Runtime:
        assert self.parent is not None
        facts = await self.model.facts(choice.tier)
        main = self.parent
        same = facts.model == main.facts.model and not main.form.small
        # It only looks: what writes files in fences could not even read.
        suits = profile(main.profile) if same else chosen(facts, {}, coding=False)[0]
        form, tools = suits.form(), looking_tools(self.equipment.sandbox, self.equipment.environ)
        stored = sessions.Stored(
            profile=suits.name, model=facts.model, system=form.system(HELPERS[role], tools),
            request={**form.request(tools), **suits.fields},
        )  # fmt: skip
        session = sessions.create(self.root, choice.tier, stored, kind=role, parent=main.session.header.id)
        watched = replace(self.permissions.facts, person_present=False)
        return Runtime(
            session, self.model, facts, form, tools, Workspace(self.root), Permissions("plan", watched),
            Rendering(Prefix(stored.system, stored.request), form), _LIMITS, profile=suits.name,
            agent_id=f"{role}-{call_id}", parent_id=main.agent_id,
        )  # fmt: skip


class _Report:
    """What a helper says in the end, or what kept it from its end. `tell` hears its events, too."""

    def __init__(self, tell: Callable[[EventBase], None]) -> None:
        self._tell = tell
        self._words = ""
        self._problem = ""
        self._end: TurnEnded | None = None

    def hear(self, event: EventBase) -> None:
        self._tell(event)
        if isinstance(event, MessageDone):
            self._words = _text_of(event) or self._words
        elif isinstance(event, TurnEnded):
            self._end = event
        elif isinstance(event, Notice) and event.level == "error":
            self._problem = event.text

    def result(self) -> Result:
        if self._end is not None and self._end.reason == "done":
            return Result(self._words)
        why = self._problem or (self._end.detail if self._end else "")
        return Result(f"{self._words}\n(the helper did not finish: {why})".lstrip(), failed=True)


def _text_of(message: MessageDone) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart)).strip()
