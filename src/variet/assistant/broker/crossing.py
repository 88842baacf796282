"""How the broker's errors cross the line."""

from __future__ import annotations

from typing import Any

from variet.assistant.problems import CODES, ToolProblem


class Problems:
    """Of rpc.py's `Errors`: ToolProblem alone."""

    def encode(self, error: Exception) -> dict[str, Any] | None:
        if not isinstance(error, ToolProblem):
            return None
        return {"message": error.what, "code": error.code, "next_step": error.next_step}

    def decode(self, message: str, data: Any) -> ToolProblem:
        if isinstance(data, dict) and data.get("code") in CODES:
            return ToolProblem(data["code"], message, str(data.get("next_step", "")))
        return ToolProblem("broker_down", f"the broker could not do it: {message}", "See `variet broker log`")
