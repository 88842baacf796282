"""What goes wrong in a tool, in words for a model and a person, with a code for programs."""

from __future__ import annotations

from typing import Literal, get_args

from variet.errors import VarietError

Code = Literal[
    "already_decided", "approval_required", "bad_request", "broker_down", "conflict", "denied", "expired", "failed",
    "forbidden_address", "insufficient_scope", "locked", "no_pin", "not_found", "payload_changed", "rate_limited",
    "reauth_required", "rejected", "timeout", "unavailable", "unknown_outcome", "unsupported_type", "wrong_pin",
]  # fmt: skip
CODES: frozenset[str] = frozenset(get_args(Code))


class ToolProblem(VarietError):
    """`code`: stable, for programs."""

    def __init__(self, code: Code, what: str, next_step: str = "") -> None:
        self.code: Code = code
        super().__init__(what, next_step=next_step)
