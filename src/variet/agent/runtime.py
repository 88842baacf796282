"""What an agent works with, and which model answers: handed in, so that the loop knows neither surface nor server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from variet.agent.checkpoints import Checkpoints
from variet.agent.formats.base import Format
from variet.agent.guards import Limits
from variet.agent.model import Model, ModelFacts
from variet.agent.permissions import Permissions
from variet.agent.rendering import Prefix, Rendering
from variet.agent.sessions import Session
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace


@dataclass
class Runtime:
    """What an agent works with, all of it handed in. `check`: a person's command that tells whether work is done: it is
    run before the model is asked, and again when it says that it is done. `context_now`: what is told with a person's
    words, as it stands now. `take_over`: who goes on where this model does not get on, for the limit it met; None:
    nobody. `untried`: nobody knows yet what suits the model. `get_to_know`: tries that, before it is first asked, and
    says how it is spoken to instead; it is handed what hears where its requests stand. `wished`: the profile that a
    person wants, whichever model answers."""

    session: Session
    model: Model
    facts: ModelFacts
    form: Format
    tools: Toolbox
    workspace: Workspace
    permissions: Permissions
    rendering: Rendering
    limits: Limits = field(default_factory=Limits)
    checkpoints: Checkpoints | None = None
    check: str = ""
    context_now: Callable[[], str] = lambda: ""
    profile: str = "native"
    agent_id: str = "main"
    parent_id: str | None = None
    take_over: Callable[[str], Awaitable[ModelBinding | None]] | None = None
    untried: bool = False
    wished: str = ""
    get_to_know: Callable[[Callable[[Mapping[str, Any]], None]], Awaitable[ModelBinding | None]] | None = None


@dataclass(frozen=True, slots=True)
class ModelBinding:
    """Another model at the same session: what its requests begin with, and how it is spoken to. `untried`: nobody knows
    yet whether that suits it."""

    facts: ModelFacts
    profile: str
    form: Format
    prefix: Prefix
    untried: bool = False
