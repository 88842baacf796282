"""What surfaces and the host say to each other, as types; how it crosses the line is rpc.py's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from variet.agent.guards import Limits
from variet.agent.sessions import Header
from variet.agent.settings import ServerSettings
from variet.agent.state import State
from variet.approval import Approval, Scope
from variet.errors import (
    AnswerFailed,
    CheckpointFailed,
    ConnectionFailed,
    ContextFull,
    ConversationBusy,
    SessionError,
    StreamBroken,
    TrustError,
    VarietError,
)  # fmt: skip
from variet.policy.action import Mode, Rule

STATE: TypeAdapter[State] = TypeAdapter(State)
SCOPES: dict[str, tuple[Scope, ...]] = {"discord": ("once",)}  # what a surface may grant; others: all that are offered


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Opening(_Message):
    """A session to be opened, a new one where `session` is empty. Where it is open already, the surface joins it, and
    only `mode` counts; `only_join`: it is not opened where it is not open. `environ`: of the surface, for commands and
    servers. `engine`, `key`, `authority`: where models are asked."""

    root: str
    session: str = ""
    engine: str
    key: str | None = None
    authority: str | None = None
    tier: str = ""
    profile: str = ""
    mode: Mode | None = None
    limits: Limits = Field(default_factory=Limits)
    sampling: dict[str, Any] = {}
    check: str = ""
    rules: tuple[Rule, ...] = ()
    servers: dict[str, ServerSettings] = {}
    environ: dict[str, str] = {}
    trust: bool = False
    only_join: bool = False


class Joined(_Message):
    """`recorded`: the place of the last event that stands in the log."""

    header: Header
    state: dict[str, Any]
    notes: tuple[str, ...]
    recorded: int


class OpenSession(_Message):
    """A session that the host keeps open. `surfaces`: that follow it."""

    id: str
    cwd: str
    title: str
    tier: str
    working: bool
    approvals: tuple[Approval, ...]
    surfaces: tuple[str, ...]


_KINDS: dict[str, type[VarietError]] = {
    kind.__name__: kind
    for kind in (
        AnswerFailed, CheckpointFailed, ConnectionFailed, ContextFull, ConversationBusy, SessionError, StreamBroken,
        TrustError,
    )
}  # fmt: skip


class HostErrors:
    """Of rpc.py's `Errors`: the tree of errors that people meet."""

    def encode(self, error: Exception) -> dict[str, Any] | None:
        if not isinstance(error, VarietError):
            return None
        told: dict[str, Any] = {
            "message": error.what, "kind": type(error).__name__, "where": error.where, "next_step": error.next_step,
        }  # fmt: skip
        if isinstance(error, AnswerFailed):
            told |= {"status": error.status, "code": error.code}
        return told

    def decode(self, message: str, data: Any) -> VarietError:
        if not isinstance(data, dict):
            return VarietError(f"the host could not do it: {message}", next_step="See `variet host log`")
        where, next_step = str(data.get("where", "")), str(data.get("next_step", ""))
        kind = _KINDS.get(str(data.get("kind")), VarietError)
        if issubclass(kind, AnswerFailed):
            status, code = int(data.get("status", 0)), str(data.get("code", ""))
            return kind(message, status=status, code=code, where=where, next_step=next_step)
        return kind(message, where=where, next_step=next_step)
