"""A person's yes or no to one exact action, as agent, broker and surfaces tell it each other."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Scope = Literal["once", "session", "always"]
State = Literal["pending", "approved", "rejected", "expired", "executing", "done", "failed", "unknown"]


class _Model(BaseModel):
    # Written whole: whoever reads it finds every field, hence the schema requires them all.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_serialization_defaults_required=True)


class Approval(_Model):
    """A person's yes to one exact action: asked for, or decided.

    `payload_sha256`: of exactly what would be done, 64 hexadecimal digits. `preview`: all of it, in words for a person.
    """

    id: str
    origin: Literal["agent", "broker"] = "agent"
    session_id: str | None = None
    client: str = "variet"
    tool: str
    sink: str
    account: str | None = None
    summary: str
    preview: str
    payload_sha256: str
    etag: str | None = None
    reason: str
    scopes: tuple[Scope, ...] = ("once",)
    created_ms: int
    expires_ms: int | None = None
    state: State = "pending"
    decided_by: str | None = None
    surface: str | None = None
    feedback: str | None = None
    result: str | None = None


class Decision(_Model):
    """What a person decided, of exactly this payload. The first one counts."""

    approval_id: str
    payload_sha256: str
    choice: Literal["approve", "reject"]
    scope: Scope = "once"
    feedback: str | None = None
    surface: str = ""
