"""APIs that reach the child as a chat, and their answers said back: Anthropic's Messages, OpenAI's Responses.

Only as a chat do a tier's settings, the place of a conversation, rescued calls and progress hold for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from variet.engine.apis import Family
from variet.engine.dialects.base import Dialect
from variet.engine.dialects.messages import Messages
from variet.engine.dialects.responses import Responses

_DIALECTS: dict[Family, Callable[[Mapping[str, Any]], Dialect]] = {"messages": Messages, "responses": Responses}


def dialect_of(family: Family, body: Mapping[str, Any]) -> Dialect | None:
    """None where the child is asked in the API's own words. Raises NotUnderstood."""
    made = _DIALECTS.get(family)
    return made(body) if made is not None else None
