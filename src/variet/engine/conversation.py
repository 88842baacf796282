"""Pure: which conversation a request belongs to, as digests of its growing prefixes.

The chain only *proposes* where the KV cache of a conversation may be; the child's token prefix decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Encode = Callable[[Any], bytes]
# What stands before the first turn; of `tool_choice` only what leaves tools out: agents change it from turn to turn.
# What an answer must look like (`response_format`) holds for that answer, and is hardly ever part of what is read.
_SHAPING = ("tools", "system", "instructions", "chat_template_kwargs", "lora")
_BLOCK = 512  # tokens of a prompt that comes as numbers, to one link
_WANDERING = "cache_control"  # a mark that clients move from message to message; the model never sees it


@dataclass(frozen=True, slots=True)
class Chain:
    """`digests[0]` covers what stands before the first turn, each next one adds a message; `sizes` are the bytes that
    each prefix has, which stand for its tokens where these are not known."""

    digests: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def common(self, other: Chain) -> int:
        """How many links two chains share."""
        count = 0
        for one, two in zip(self.digests, other.digests, strict=False):
            if one != two:
                break
            count += 1
        return count

    def share(self, links: int) -> float:
        """The part of the whole that its first links are."""
        if not links or not self.sizes:
            return 0.0
        return self.sizes[links - 1] / self.sizes[-1] if self.sizes[-1] else 0.0


NOTHING = Chain()


def chain(body: Mapping[str, Any], encode: Encode) -> Chain:
    """The chain of a request; NOTHING for one that is no conversation.

    `encode` turns a JSON value into bytes, the same value always into the same ones.
    """
    said = body.get("messages", body.get("input", body.get("prompt")))
    if not said:
        return NOTHING
    last, size = "", 0
    for key in _SHAPING:
        if key in body:
            data = encode(_settled(body[key]))
            last, size = _digest(last, key.encode() + b"\0" + data), size + len(data)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and ("name" in choice or "tools" in choice):
        data = encode(choice)
        last, size = _digest(last, data), size + len(data)
    turns = _turns(said)
    start = 0
    while start < len(turns) and isinstance(turns[start], dict) and turns[start].get("role") in ("system", "developer"):
        data = encode(_turn(turns[start]))
        last, size = _digest(last, data), size + len(data)
        start += 1
    last = _digest(last, b"")
    digests, sizes = [last], [size]
    for turn in turns[start:]:
        data = encode(_turn(turn))
        last, size = _digest(last, data), size + len(data)
        digests.append(last)
        sizes.append(size)
    return Chain(tuple(digests), tuple(sizes))


def _turns(said: Any) -> list[Any]:
    if not isinstance(said, list):
        return [said]
    if all(type(token) is int for token in said):
        return [said[start : start + _BLOCK] for start in range(0, len(said), _BLOCK)]
    return said if all(isinstance(turn, dict) for turn in said) else [said]


def _turn(turn: Any) -> Any:
    """A message as the model sees it: one text is the same whether it is a string or a list of one part."""
    if not isinstance(turn, dict):
        return turn
    content = turn.get("content")
    if isinstance(content, list):
        parts = [_settled(part) for part in content]
        if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].keys() == {"type", "text"}:
            return {**turn, "content": parts[0]["text"]}
        return {**turn, "content": parts}
    return turn


def _settled(value: Any) -> Any:
    """Without the marks that wander: on a part, a tool, a block of the system prompt."""
    if isinstance(value, dict):
        return {key: inner for key, inner in value.items() if key != _WANDERING} if _WANDERING in value else value
    return [_settled(one) for one in value] if isinstance(value, list) else value


def _digest(before: str, data: bytes) -> str:
    """SHA-256, since processors compute it: twice as fast as BLAKE2 here."""
    return hashlib.sha256(before.encode() + data).hexdigest()[:24]
