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
    running = hashlib.blake2b(digest_size=12)
    for key in _SHAPING:
        if key in body:
            running.update(key.encode() + b"\0" + encode(body[key]))
    messages = body.get("messages", body.get("input", body.get("prompt")))
    turns = list(messages) if isinstance(messages, list) else [messages]
    while turns and isinstance(turns[0], dict) and turns[0].get("role") in ("system", "developer"):
        running.update(encode(turns.pop(0)))
    digests = [running.copy().hexdigest()]
    for turn in turns:
        running.update(b"\1" + encode(turn))
        digests.append(running.copy().hexdigest())
    return tuple(digests)
