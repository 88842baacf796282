"""Takes a slot back to where the next request of its conversation will begin, before it is saved.

Recurrent state cannot be rolled back after a restore, and of a sliding window only the newest part is saved: such a
state serves a prompt that goes on exactly where it ends, no other. But templates render the last answer anew, without
its thinking, and a person may ask for another answer. What stays the same in any case is the prompt, up to where a
rendering with one more turn departs from it; never all of it, since a model must read one token to answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from variet.engine.upstream import Upstream

_ONE_MORE = ({"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go on."})
_JSON = [(b"content-type", b"application/json")]
_FEWEST = 64  # tokens, below which nothing is worth it


async def rewind(upstream: Upstream, slot: int, asked: Mapping[str, Any], prompt_tokens: int) -> int | None:
    """Roll the slot back that answered `asked`; returns how many tokens it holds now, None if that cannot be said.

    Cheap where the child keeps checkpoints (llama.cpp b10068: four tokens are read again); it must have answered since
    it started. Raises UpstreamError, TimeoutError, and ValueError for answers that are none.
    """
    prompt = await _prompt(upstream, asked)
    if prompt is None or len(prompt) != prompt_tokens:
        return None  # media, adapters, or another way to say a prompt: its tokens are not what the slot holds
    stable = len(prompt) - 1
    if "messages" in asked:
        later = await _prompt(upstream, {**asked, "messages": [*asked["messages"], *_ONE_MORE]})
        stable = min(stable, _common(prompt, later or []))
    if stable < _FEWEST:
        return None
    await _go_back(upstream, {"prompt": prompt[:stable], "n_predict": 0, "cache_prompt": True, "id_slot": slot})
    return stable


async def _go_back(upstream: Upstream, body: Mapping[str, Any]) -> None:
    """As a stream with progress: only of such a one the child sees when it is given up, and reads no further."""
    data = json.dumps({**body, "stream": True, "return_progress": True}).encode()
    answer = await upstream.ask("POST", b"/completion", _JSON, data)
    try:
        text = await answer.read_all()
    finally:
        answer.close()
    if answer.status != 200 or b'"stop":true' not in text.replace(b" ", b""):
        raise ValueError(f"/completion answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")


async def _prompt(upstream: Upstream, asked: Mapping[str, Any]) -> list[int] | None:
    """The tokens that the child makes of a request."""
    text = asked.get("prompt")
    if "messages" in asked:
        text = (await _ask(upstream, b"/apply-template", dict(asked))).get("prompt")
    if isinstance(text, list) and all(type(token) is int for token in text):
        return text
    if not isinstance(text, str):
        return None
    body = {"content": text, "add_special": True, "parse_special": True}
    tokens = (await _ask(upstream, b"/tokenize", body)).get("tokens")
    return tokens if isinstance(tokens, list) else None


async def _ask(upstream: Upstream, path: bytes, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = await upstream.ask("POST", path, _JSON, json.dumps(body).encode())
    try:
        text = await answer.read_all()
    finally:
        answer.close()
    said = json.loads(text)
    if answer.status != 200 or not isinstance(said, dict):
        raise ValueError(f"{path.decode()} answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")
    return said


def _common(left: list[int], right: list[int]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
