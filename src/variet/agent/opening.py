"""Opens a session, a new one or one that was left, with all that its agent works with."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from variet.agent import sessions
from variet.agent.checkpoints import Checkpoints
from variet.agent.guards import Limits
from variet.agent.loop import Agent, Kit
from variet.agent.model import Model
from variet.agent.permissions import Permissions
from variet.agent.profiles import profile
from variet.agent.prompt.preface import preface
from variet.agent.prompt.system import CODING
from variet.agent.rendering import Prefix, Rendering
from variet.agent.sandbox import Sandbox
from variet.agent.sessions import Session, Stored
from variet.agent.tools import coding_tools
from variet.agent.tools.shell import Shell
from variet.agent.workspace import Workspace
from variet.errors import CheckpointFailed
from variet.policy.action import Rule

log = logging.getLogger("variet.agent")


# The smallest models are quick to make a test say what their code does.
TESTS_STAY = tuple(
    Rule(
        "tests-stay", tool, pattern, "deny", "tests say what is wanted, they stay as they are: change the code instead"
    )
    for tool in ("write", "edit")
    for pattern in ("test_*", "*/test_*", "*_test.*", "tests", "*/tests/*", "conftest.py")
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """Of a new session."""

    tier: str = "balanced"
    profile: str = "native"
    limits: Limits = field(default_factory=Limits)
    sampling: dict[str, Any] = field(default_factory=dict)
    check: str = ""


@dataclass
class Opened:
    """`close` ends what runs in the background, and lets the session go."""

    agent: Agent
    session: Session
    kit: Kit

    async def close(self) -> None:
        for tool in self.kit.tools.tools.values():
            if isinstance(tool, Shell):
                await tool.close()
        await self.kit.model.close()
        self.session.close()


async def new(
    root: Path, model: Model, permissions: Permissions, wishes: Wishes, sandbox: Sandbox | None = None
) -> Opened:
    """Raises AnswerFailed where the model cannot be had, SessionError where the session cannot be kept."""
    chosen = profile(wishes.profile)
    facts = await model.facts(wishes.tier)
    form = chosen.form()
    tools = coding_tools(sandbox)
    stored = Stored(
        model=facts.model, system=form.system(CODING, tools),
        request={**form.request(tools), **chosen.sampling, **wishes.sampling},
    )  # fmt: skip
    session = sessions.create(root, chosen.name, wishes.tier, stored)
    workspace = Workspace(root)
    if form.small and wishes.check:
        permissions.add(*TESTS_STAY)
    kit = Kit(
        session, model, facts, form, tools, workspace, permissions,
        Rendering(Prefix(stored.system, stored.request), form), wishes.limits,
        checkpoints=await _checkpoints(workspace, session), check=wishes.check,
        context_now=lambda: preface(root, trusted=permissions.facts.trusted, with_files=form.small),
    )  # fmt: skip
    return Opened(Agent(kit), session, kit)


async def again(
    name: str, model: Model, permissions: Permissions, limits: Limits, sandbox: Sandbox | None = None
) -> Opened:
    """The prefix is the stored one, whatever this version would write today: the model has read it."""
    session = sessions.resume(name)
    try:
        form = profile(session.header.profile).form()
        tools = coding_tools(sandbox)
        facts = await model.facts(session.header.tier)
        prefix = Prefix(session.stored.system, session.stored.request)
        workspace = Workspace(Path(session.header.cwd))
    except BaseException:
        session.close()
        raise
    kit = Kit(session, model, facts, form, tools, workspace, permissions, Rendering(prefix, form), limits)
    kit.checkpoints = await _checkpoints(workspace, session)
    return Opened(Agent(kit), session, kit)


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
