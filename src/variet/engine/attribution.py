"""Pure: a line that some clients write at the head of their system prompt, and that changes with every request.

Claude Code and what derives from it begin with `x-anthropic-billing-header: cc_version=…; cch=…`, meant for Anthropic's
accounts. For a local model it would make each request another conversation from its first token on: nothing that was
read before could be used again. A client can be told to leave it out (CLAUDE_CODE_ATTRIBUTION_HEADER=0), which
`variet connect` does; this is for clients that were not.
"""

from __future__ import annotations

import re
from typing import Any

_LINE = re.compile(r"\s*x-anthropic-billing-header:[^\n]*\n?", re.IGNORECASE)


def without_attribution(body: dict[str, Any]) -> bool:
    """Take the line out of a request of any of the three APIs; whether there was one."""
    found = False
    for field in ("system", "instructions"):
        if field in body:
            kept = _without(body[field])
            found, body[field] = found or kept is not body[field], kept
    messages = body.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    if isinstance(first, dict) and first.get("role") == "system":
        content = first.get("content")
        kept, rest = _without(content), body["messages"][1:]
        if kept is not content:
            found, body["messages"] = True, [{**first, "content": kept}, *rest] if kept else rest
    return found


def _without(said: Any) -> Any:
    """The same object where there is no such line. A part of nothing else goes as a whole."""
    if isinstance(said, str):
        line = _LINE.match(said)
        return said[line.end() :] if line else said
    if isinstance(said, list) and said and isinstance(said[0], dict) and isinstance(said[0].get("text"), str):
        kept = _without(said[0]["text"])
        if kept is not said[0]["text"]:
            return [{**said[0], "text": kept}, *said[1:]] if kept else said[1:]
    return said
