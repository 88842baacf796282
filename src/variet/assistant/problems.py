"""What goes wrong in a tool, in words for a model and a person, with a code for programs."""

from __future__ import annotations

from typing import Literal

from variet.errors import VarietError

Code = Literal[
    "bad_request", "forbidden_address", "not_found", "rate_limited", "timeout", "unavailable", "unsupported_type",
]  # fmt: skip


class ToolProblem(VarietError):
    """`code`: stable, for programs."""

    def __init__(self, code: Code, what: str, next_step: str = "") -> None:
        self.code: Code = code
        super().__init__(what, next_step=next_step)
