"""Pure: which conversation a request belongs to, as digests of its growing prefixes.

The chain only *proposes* where the KV cache of a conversation may be; the child's token prefix decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

Encode = Callable[[Any], bytes]
_SHAPING = ("tools", "system", "instructions", "response_format", "chat_template_kwargs", "tool_choice")


def chain(body: Mapping[str, Any], encode: Encode) -> tuple[str, ...]:
    """Digests d0, d1, ...: d0 covers what stands before the first turn, each next one adds a message.

    `encode` turns a JSON value into bytes, the same value always into the same ones.
    """
    last = ""
    for key in _SHAPING:
        if key in body:
            last = _digest(last, key.encode() + b"\0" + encode(body[key]))
    messages = body.get("messages", body.get("input", body.get("prompt")))
    turns = list(messages) if isinstance(messages, list) else [messages]
    start = 0
    while start < len(turns) and isinstance(turns[start], dict) and turns[start].get("role") in ("system", "developer"):
        last = _digest(last, encode(turns[start]))
        start += 1
    last = _digest(last, b"")
    digests = [last]
    for turn in turns[start:]:
        last = _digest(last, encode(turn))
        digests.append(last)
    return tuple(digests)


def _digest(before: str, data: bytes) -> str:
    """SHA-256, since processors compute it: twice as fast as BLAKE2 here."""
    return hashlib.sha256(before.encode() + data).hexdigest()[:24]
