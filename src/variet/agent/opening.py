"""Opens a session, a new one or one that was left, with all that its agent works with."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from variet.agent import rules as standing
from variet.agent import sessions, settings, trust
from variet.agent.bindings import acquaintance, escalation, stored_prefix, suited_profile
from variet.agent.checkpoints import Checkpoints
from variet.agent.conversation import Conversation
from variet.agent.equipment import Equipment
from variet.agent.events import MessageDone, TierChanged
from variet.agent.guards import Limits
from variet.agent.helpers import Helpers
from variet.agent.kinds import KINDS, KindName
from variet.agent.model import Model, ModelFacts
from variet.agent.permissions import Permissions
from variet.agent.profiles import chosen, profile
from variet.agent.prompt.preface import INSTRUCTIONS, preface, texts
from variet.agent.rendering import Prefix, Rendering
from variet.agent.runtime import Runtime
from variet.agent.sandbox import Sandbox, open_sandbox
from variet.agent.servers import Servers, told
from variet.agent.sessions import Session
from variet.agent.settings import ServerSettings, Settings
from variet.agent.tools import assistant_tools, coding_tools, further_tools
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace
from variet.errors import CheckpointFailed, SessionError
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


async def start(
    root: Path, model: Model, wishes: Wishes, mode: Mode | None, rules: tuple[Rule, ...] = (), *, present: bool,
    name: str | None = None, servers: Mapping[str, ServerSettings] | None = None,
    brokered: Mapping[str, ServerSettings] | None = None, environ: Mapping[str, str] = os.environ,
) -> Conversation:  # fmt: skip
    """A session of this folder with all that is around it, a new one or `name`; without a tier, that of the settings.
    `mode`: None is the one that the session was left in, of a new one `ask`. `servers`: those that the person
    configured elsewhere; `brokered`: Variet's own, which ask its broker; `environ`: of commands and servers.
    The model is the session's from now on. Raises ConfigError, AnswerFailed, SessionError, and leaves nothing open."""
    equipment: Equipment | None = None
    try:
        if name is not None:  # the folder it began in, wherever it is taken up again
            root = _folder_of(name, wishes.kind)
        trusted = trust.trusted(root)
        equipment, notes = await _equip(root, servers or {}, brokered or {}, environ, trusted=trusted, kind=wishes.kind)
        facts = Facts(
            (*rules, *standing.of(root)), person_present=present, trusted=trusted,
            sandboxed=equipment.sandbox is not None,
        )  # fmt: skip
        permissions = Permissions(mode or "ask", facts, _keeper(root))
        if name is None:
            kind = KINDS[wishes.kind]
            tier = wishes.tier or equipment.settings.roles.get(kind.role, kind.tier)
            conversation = await new(root, model, permissions, replace(wishes, tier=tier), equipment)
        else:
            conversation = await again(
                name, model, permissions, wishes.limits, equipment, wishes.tier or None, wishes.check
            )
    except BaseException:
        await model.close()
        if equipment is not None:
            await equipment.close()
        raise
    conversation.set_mode(mode or conversation.session.last_mode)
    conversation.notes = tuple(notes)
    return conversation


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
    environ: Mapping[str, str],
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
    connecting = asyncio.ensure_future(servers.connect({**brought, **given, **wanted.servers}, brokered, environ))
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
    return Equipment(wanted, servers, sandbox, environ), notes


async def new(
    root: Path, model: Model, permissions: Permissions, wishes: Wishes, equipment: Equipment | None = None
) -> Conversation:
    """Raises AnswerFailed where the model cannot be had, SessionError where the session cannot be kept."""
    equipment = equipment or Equipment()
    facts = await model.facts(wishes.tier)
    suits, untried = suited_profile(facts, wishes.profile, equipment.settings, coding=KINDS[wishes.kind].coding)
    form = suits.form()
    helpers = Helpers(root, model, permissions, equipment)
    plain = wishes.kind == "ask" and not equipment.servers.any
    tools = Toolbox({}) if plain else _tools(wishes.kind, equipment, helpers)
    stored = stored_prefix(suits, facts, wishes.kind, tools, wishes.sampling)
    session = sessions.create(root, wishes.tier, stored, kind=wishes.kind)
    runtime = Runtime(
        session, model, facts, form, tools, Workspace(root), permissions,
        Rendering(Prefix(stored.system, stored.request), form), wishes.limits, check=wishes.check,
        profile=suits.name, untried=untried, wished=wishes.profile,
    )  # fmt: skip
    return await _opened(runtime, helpers, equipment)


async def again(
    name: str, model: Model, permissions: Permissions, limits: Limits, equipment: Equipment | None = None,
    tier: str | None = None, check: str = "",
) -> Conversation:  # fmt: skip
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
        helpers = Helpers(root, model, permissions, equipment)
        tools = _tools(session.header.kind, equipment, helpers)
        facts = await model.facts(last.tier if last else session.header.tier)
        runtime = Runtime(
            session, model, facts, form, tools, workspace, permissions,
            Rendering(Prefix(stored.system, stored.request), form), limits, profile=kept, check=check,
            untried=_unanswered(session) and _untried(facts, kept, session, equipment.settings),
        )  # fmt: skip
        conversation = await _opened(runtime, helpers, equipment)
        if tier is not None and tier != facts.name:
            await conversation.set_tier(tier)
    except BaseException:
        session.close()
        raise
    return conversation


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


async def _opened(runtime: Runtime, helpers: Helpers, equipment: Equipment) -> Conversation:
    root, trusted = runtime.workspace.root, runtime.permissions.facts.trusted
    kind = KINDS[runtime.session.header.kind]

    def now() -> str:
        if runtime.form.small:
            runtime.workspace.saw_all(name for name, text in texts(root).items() if text is not None)
            return preface(root, trusted=trusted, with_files=True)
        here = preface(root, trusted=trusted) if kind.coding else kind.first()
        return _together(here, told(equipment.servers.foreign))

    runtime.context_now = now
    if kind.coding:
        runtime.checkpoints = await _checkpoints(runtime.workspace, runtime.session)
    runtime.permissions.keep_tests(runtime.form.small and bool(runtime.check))
    helpers.parent = runtime
    runtime.take_over = escalation(runtime, equipment.settings)
    runtime.get_to_know = acquaintance(runtime, equipment.settings)
    return Conversation(runtime, equipment)


def _together(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _tools(kind: str, equipment: Equipment, helpers: Helpers) -> Toolbox:
    if kind == "ask":
        return further_tools(equipment.servers)
    if kind == "assistant":
        return assistant_tools(equipment.servers)
    return coding_tools(equipment.sandbox, equipment.servers, helpers.send, equipment.environ)


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
