"""Opens a session, a new one or one that was left, with all that its agent works with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from variet.agent import abilities, sessions, settings, trust
from variet.agent import rules as standing
from variet.agent.checkpoints import Checkpoints
from variet.agent.events import Compacted, MessageDone, TierChanged, TurnStarted
from variet.agent.guards import Limits
from variet.agent.helpers import Helpers
from variet.agent.kinds import KINDS, KindName
from variet.agent.kit import Kit, Seat
from variet.agent.loop import Agent
from variet.agent.model import Model, ModelFacts
from variet.agent.permissions import Permissions
from variet.agent.probe import Tell, load, tried
from variet.agent.profiles import Profile, chosen, profile, small
from variet.agent.prompt.preface import INSTRUCTIONS, preface, texts
from variet.agent.rendering import Prefix, Rendering
from variet.agent.sandbox import Sandbox, open_sandbox
from variet.agent.servers import Servers, told
from variet.agent.sessions import Session, Stored
from variet.agent.settings import ServerSettings, Settings
from variet.agent.tools import assistant_tools, coding_tools, further_tools
from variet.agent.tools.base import Toolbox, close_all
from variet.agent.workspace import Workspace
from variet.errors import AnswerFailed, CheckpointFailed, SessionError
from variet.policy.action import Facts, Mode, Rule

log = logging.getLogger("variet.agent")


@dataclass(frozen=True, slots=True)
class Wishes:
    """Of a new session. `tier`: empty for that of the settings; `profile`: empty for what suits the model."""

    tier: str = ""
    profile: str = ""
    limits: Limits = field(default_factory=Limits)
    sampling: dict[str, Any] = field(default_factory=dict)
    check: str = ""
    kind: KindName = "code"


@dataclass(frozen=True, slots=True)
class Equipment:
    """What is around a session, opened before it."""

    settings: Settings = field(default_factory=Settings)
    servers: Servers = field(default_factory=Servers)
    sandbox: Sandbox | None = None

    async def close(self) -> None:
        await self.servers.close()
        if self.sandbox is not None:
            self.sandbox.close()


async def start(
    root: Path, model: Model, wishes: Wishes, mode: Mode | None, rules: tuple[Rule, ...] = (), *, present: bool,
    name: str | None = None, servers: Mapping[str, ServerSettings] | None = None,
    brokered: Mapping[str, ServerSettings] | None = None,
) -> Opened:  # fmt: skip
    """A session of this folder with all that is around it, a new one or `name`; without a tier, that of the settings.
    `mode`: None is the one that the session was left in, of a new one `ask`. `servers`: those that the person
    configured elsewhere; `brokered`: Variet's own, which ask its broker.
    The model is the session's from now on. Raises ConfigError, AnswerFailed, SessionError, and leaves nothing open."""
    equipment: Equipment | None = None
    try:
        if name is not None:  # the folder it began in, wherever it is taken up again
            root = _folder_of(name, wishes.kind)
        trusted = trust.trusted(root)
        equipment, notes = await _equip(root, servers or {}, brokered or {}, trusted=trusted, kind=wishes.kind)
        facts = Facts(
            (*rules, *standing.of(root)), person_present=present, trusted=trusted,
            sandboxed=equipment.sandbox is not None,
        )  # fmt: skip
        permissions = Permissions(mode or "ask", facts, _keeper(root))
        if name is None:
            kind = KINDS[wishes.kind]
            tier = wishes.tier or equipment.settings.roles.get(kind.role, kind.tier)
            opened = await new(root, model, permissions, replace(wishes, tier=tier), equipment)
        else:
            opened = await again(name, model, permissions, wishes.limits, equipment, wishes.tier or None, wishes.check)
    except BaseException:
        await model.close()
        if equipment is not None:
            await equipment.close()
        raise
    opened.agent.set_mode(mode or opened.session.last_mode)
    opened.notes = notes
    return opened


def _folder_of(name: str, kind: str) -> Path:
    """Raises SessionError."""
    header = sessions.read(name)[0]
    if header.kind != kind:
        known = KINDS.get(header.kind)
        raise SessionError(
            f"it is of another kind: {header.kind}", where=name, next_step=f"Use: {known.go_on}" if known else ""
        )
    folder = Path(header.cwd)
    try:
        return folder.resolve(strict=True)
    except OSError as error:
        raise SessionError(f"its folder {folder} cannot be used: {error.strerror}", where=name) from None


def _keeper(root: Path) -> Callable[[Sequence[Rule]], None]:
    """Keeps what a person allows for good; where that cannot be written, it lasts for the session."""

    def keep(rules: Sequence[Rule]) -> None:
        try:
            standing.keep(
                *(
                    standing.Kept(
                        folder=str(root), tool=one.tool, pattern=one.pattern, exact=one.exact, network=one.network
                    )
                    for one in rules
                )
            )
        except OSError as error:
            log.warning("a rule could not be kept: %s", error)

    return keep


async def _equip(
    root: Path,
    given: Mapping[str, ServerSettings],
    brokered: Mapping[str, ServerSettings],
    *,
    trusted: bool,
    kind: KindName,
) -> tuple[Equipment, list[str]]:
    """(what a session in this folder works with, what its person should know of that). Raises ConfigError."""
    notes: list[str] = []
    wanted = settings.load()
    coding = KINDS[kind].coding
    brought = settings.of_project(root) if trusted and coding else {}
    servers = Servers()
    connecting = asyncio.ensure_future(servers.connect({**brought, **given, **wanted.servers}, brokered))
    sandbox: Sandbox | None = None
    try:
        if coding:
            sandbox, why = await open_sandbox(root)
            if sandbox is None:
                notes.append(f"commands have no sandbox: {why}")
            unread = [name for name in (*INSTRUCTIONS, ".mcp.json") if (root / name).is_file()]
            if not trusted and unread:
                notes.append(f"{' and '.join(unread)} of this folder count once you trust it (--trust)")
        await connecting
    except BaseException:  # nobody waits for them any more
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await servers.close()
        raise
    notes += [f"MCP server {name}: Variet's own takes its place here" for name in brokered if name in wanted.servers]
    notes += [f"MCP server {name}: {problem}" for name, problem in servers.failed.items()]
    notes += [f"MCP server {name} still starts: its tools come as soon as it answers" for name in servers.joining
              if name not in servers.brokered]  # fmt: skip
    return Equipment(wanted, servers, sandbox), notes


@dataclass
class Opened:
    """`close` ends what runs in the background, and lets the session go."""

    agent: Agent
    session: Session
    kit: Kit
    equipment: Equipment
    notes: list[str] = field(default_factory=list)  # what its person should know

    def context(self) -> str:
        """What is told before a person's next words: all of it once, then only what changed since. The smallest models
        are shown the files anew where those changed; others read what they need."""
        before = _contexts(self.session)
        if before and not self.kit.form.small:
            again = KINDS[self.session.header.kind].again()
            return _together(again, told(self.equipment.servers.foreign, before))
        now = self.kit.context_now()
        return "" if before and before[-1].partition("</context>")[0] in now else now

    async def seat(self, tier: str) -> Seat:
        """What another tier would sit on. Raises AnswerFailed where there is no such tier."""
        return _seat(self.kit, await self.kit.model.facts(tier), self.equipment.settings)

    async def close(self) -> None:
        await close_all(self.kit.tools)
        await self.kit.model.close()
        await self.equipment.close()
        self.session.close()


def _contexts(session: Session) -> list[str]:
    """What was told beside a person's words so far, without those that told nothing."""
    texts = (
        event.context if isinstance(event, TurnStarted) else event.summary if isinstance(event, Compacted) else ""
        for event in session.events
    )
    return [text for text in texts if text]


async def new(
    root: Path, model: Model, permissions: Permissions, wishes: Wishes, equipment: Equipment | None = None
) -> Opened:
    """Raises AnswerFailed where the model cannot be had, SessionError where the session cannot be kept."""
    equipment = equipment or Equipment()
    facts = await model.facts(wishes.tier)
    suits, untried = _suits(facts, wishes.profile, equipment.settings, coding=KINDS[wishes.kind].coding)
    form = suits.form()
    helpers = Helpers(root, model, permissions, equipment.settings, equipment.sandbox)
    plain = wishes.kind == "ask" and not equipment.servers.any
    tools = Toolbox({}) if plain else _tools(wishes.kind, equipment, helpers)
    stored = _stored(suits, facts, wishes.kind, tools, wishes.sampling)
    session = sessions.create(root, wishes.tier, stored, kind=wishes.kind)
    kit = Kit(
        session, model, facts, form, tools, Workspace(root), permissions,
        Rendering(Prefix(stored.system, stored.request), form), wishes.limits, check=wishes.check,
        profile=suits.name, untried=untried, wished=wishes.profile,
    )  # fmt: skip
    return await _opened(kit, helpers, equipment)


async def again(
    name: str, model: Model, permissions: Permissions, limits: Limits, equipment: Equipment | None = None,
    tier: str | None = None, check: str = "",
) -> Opened:  # fmt: skip
    """The prefix is the stored one, whatever this version would write today: the model has read it. `tier`: another
    one than it was left on."""
    equipment = equipment or Equipment()
    session = sessions.resume(name)
    try:
        last = session.last_tier
        kept = last.profile if last else session.header.profile
        form, stored = profile(kept).form(), session.stored[kept]
        root = Path(session.header.cwd)
        workspace = Workspace(root)
        helpers = Helpers(root, model, permissions, equipment.settings, equipment.sandbox)
        tools = _tools(session.header.kind, equipment, helpers)
        facts = await model.facts(last.tier if last else session.header.tier)
        kit = Kit(
            session, model, facts, form, tools, workspace, permissions,
            Rendering(Prefix(stored.system, stored.request), form), limits, profile=kept, check=check,
            untried=_unanswered(session) and _untried(facts, kept, session, equipment.settings),
        )  # fmt: skip
        opened = await _opened(kit, helpers, equipment)
        if tier is not None and tier != facts.name:
            opened.agent.sit(await opened.seat(tier), "chosen by the person")
    except BaseException:
        session.close()
        raise
    return opened


def _unanswered(session: Session) -> bool:
    """Whether the model that sits now has said nothing yet."""
    for event in reversed(session.events):
        if isinstance(event, MessageDone | TierChanged):
            return isinstance(event, TierChanged) and not event.tried
    return True


def _untried(facts: ModelFacts, kept: str, session: Session, settings: Settings) -> bool:
    """Whether nobody knows what suits the model, and nobody wished for the profile that it has."""
    suits, untried = chosen(facts, settings.profiles, coding=KINDS[session.header.kind].coding)
    return untried and suits.name == kept


async def _opened(kit: Kit, helpers: Helpers, equipment: Equipment) -> Opened:
    root, trusted = kit.workspace.root, kit.permissions.facts.trusted
    kind = KINDS[kit.session.header.kind]

    def now() -> str:
        if kit.form.small:
            kit.workspace.saw_all(name for name, text in texts(root).items() if text is not None)
            return preface(root, trusted=trusted, with_files=True)
        here = preface(root, trusted=trusted) if kind.coding else kind.first()
        return _together(here, told(equipment.servers.foreign))

    kit.context_now = now
    if kind.coding:
        kit.checkpoints = await _checkpoints(kit.workspace, kit.session)
    kit.permissions.keep_tests(kit.form.small and bool(kit.check))
    helpers.parent = kit
    kit.take_over = _escalation(kit, equipment.settings)
    kit.get_to_know = _acquaintance(kit, equipment.settings)
    return Opened(Agent(kit), kit.session, kit, equipment)


def _together(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _tools(kind: str, equipment: Equipment, helpers: Helpers) -> Toolbox:
    if kind == "ask":
        return further_tools(equipment.servers)
    if kind == "assistant":
        return assistant_tools(equipment.servers)
    return coding_tools(equipment.sandbox, equipment.servers, helpers.send)


def _suits(facts: ModelFacts, wished: str, settings: Settings, *, coding: bool) -> tuple[Profile, bool]:
    """(the profile that a person wished, else the one that suits a model, whether it was never tried). Raises
    SessionError."""
    return (profile(wished), False) if wished else chosen(facts, settings.profiles, coding=coding)


_SAMPLING = ("seed", "temperature")  # what a person may wish, whoever answers


def _stored(suits: Profile, facts: ModelFacts, kind: str, tools: Toolbox, sampling: dict[str, Any]) -> Stored:
    """What requests under a profile begin with."""
    form = suits.form()
    return Stored(
        profile=suits.name, model=facts.model, system=form.system(KINDS[kind].system, tools),
        request={**form.request(tools), **suits.fields, **sampling},
    )  # fmt: skip


def _seat(kit: Kit, facts: ModelFacts, settings: Settings) -> Seat:
    """Of a model that comes to a session: under a profile that the session knows, its prefix is the stored one."""
    session = kit.session
    suits, untried = _suits(facts, kit.wished, settings, coding=KINDS[session.header.kind].coding)
    if suits.name not in session.stored:
        own, usual = session.stored[kit.profile].request, profile(kit.profile).fields
        sampling = {key: own[key] for key in _SAMPLING if key in own and own[key] != usual.get(key)}
        session.store(_stored(suits, facts, session.header.kind, kit.tools, sampling))
    stored = session.stored[suits.name]
    return Seat(facts, suits.name, suits.form(), Prefix(stored.system, stored.request), untried)


def _acquaintance(kit: Kit, settings: Settings) -> Callable[[Tell], Awaitable[Seat | None]]:
    """Tries the model that sits now, unless another session did meanwhile, and keeps what was found."""

    async def get_to_know(tell: Tell) -> Seat | None:
        coding = KINDS[kit.session.header.kind].coding
        await load(kit.model, kit.facts.name, tell)
        # What its file says is known only now where it had to be fetched first.
        facts = kit.facts = await kit.model.facts(kit.facts.name)
        if abilities.known(facts, coding=coding) is None:
            prompt = KINDS[kit.session.header.kind].system if coding else ""
            found = await tried(
                kit.model, facts, prompt, kit.tools, kit.workspace, tell, in_fences=coding and small(facts)
            )
            if found is not None:
                abilities.keep(facts, found, coding=coding)
        seat = _seat(kit, facts, settings)
        return seat if seat.profile != kit.profile else None

    return get_to_know


def _escalation(kit: Kit, settings: Settings) -> Callable[[str], Awaitable[Seat | None]]:
    """The tiers of the settings, those above the one that works now, each once."""

    async def take_over(_: str) -> Seat | None:
        path = settings.escalation
        above = path[path.index(kit.facts.name) + 1 :] if kit.facts.name in path else path
        for tier in above:
            try:
                facts = await kit.model.facts(tier)
            except AnswerFailed as error:
                log.warning("no escalation to %s: %s", tier, error)
                continue
            if facts.model != kit.facts.model:
                return _seat(kit, facts, settings)
        return None

    return take_over


async def _checkpoints(workspace: Workspace, session: Session) -> Checkpoints | None:
    """None where they cannot be kept; the surface says so once."""
    if Checkpoints.refusal(workspace.root):
        return None
    kept = Checkpoints(workspace, session.folder / "steps.json")
    try:
        await kept.open()
    except CheckpointFailed as error:
        log.warning("no undo: %s", error)
        return None
    return kept
