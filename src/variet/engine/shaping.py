"""Pure: what the engine changes in a request's body before the child sees it, and what it refuses in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from variet.engine.apis import Api
from variet.engine.config import TierConfig

_SLOT_FIELDS = ("id_slot", "slot_id", "session_id", "cache_prompt")
_REMOTE = ("http:", "https:", "file:", "ftp:")
_TEXTS = frozenset({"text", "refusal", "input_text", "output_text"})  # parts of a message that are only read


def shape(body: Mapping[str, Any], api: Api, model: str, tier: TierConfig | None, slot: int | None) -> dict[str, Any]:
    """The body as the child gets it.

    The client's slot fields go (slots are the engine's), the tier's `defaults` fill gaps, its `force` overrides, its
    cap bounds the answer, and a stream ends with usage unless the client declined it.
    """
    shaped = {key: value for key, value in body.items() if key not in _SLOT_FIELDS}
    shaped["model"] = body.get("model") or model
    if tier is not None:
        for key, value in tier.defaults.items():
            shaped[key] = _merged(value, shaped.get(key)) if key in shaped else value
        for key, value in tier.force.items():
            shaped[key] = _merged(shaped.get(key), value)
        if tier.reasoning is not None and api.templated:
            shaped["chat_template_kwargs"] = _merged(
                shaped.get("chat_template_kwargs"), {"enable_thinking": tier.reasoning}
            )
        if tier.max_tokens is not None and api.limit_fields:
            _cap(shaped, api.limit_fields, tier.max_tokens)
    if api.streams_usage and shaped.get("stream") is True:
        options = shaped.get("stream_options")
        shaped["stream_options"] = {"include_usage": True, **(options if isinstance(options, dict) else {})}
    if slot is not None:
        shaped["id_slot"] = slot
    return shaped


def _merged(under: Any, over: Any) -> Any:
    """Objects merge key by key, `over` winning; anything else is replaced."""
    return {**under, **over} if isinstance(under, dict) and isinstance(over, dict) else over


def _cap(body: dict[str, Any], fields: tuple[str, ...], most: int) -> None:
    named = [field for field in fields if body.get(field) is not None]
    for field in named:
        value = body[field]
        if isinstance(value, int | float) and (value > most or value < 0):  # -1 is llama-server's "without end"
            body[field] = most
    if not named:
        body[fields[0]] = most


def depth_of(body: Any) -> int:
    """How deep it is nested."""
    depth = 0
    level: list[Any] = [body]
    while level:
        depth += 1
        level = [
            inner
            for one in level
            for inner in (one.values() if type(one) is dict else one)
            if type(inner) is dict or type(inner) is list
        ]
    return depth


def fetched_address(body: Mapping[str, Any]) -> str | None:
    """An address that the child would fetch by itself: any in a part of a message that is no text, whatever field of it
    holds the media (`image_url.url`, `input_audio.data`), and any among `multimodal_data`. What else a body says, in
    calls, schemas or metadata, is only read."""
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and not _is_text(part.get("type")) and (found := _address_in(part)):
                return found
    for key in ("prompt", "content", "input"):
        for given in body[key] if isinstance(body.get(key), list) else [body.get(key)]:
            if isinstance(given, dict) and (found := _address_in(given.get("multimodal_data"))):
                return found
    return None


def _is_text(kind: Any) -> bool:
    return isinstance(kind, str) and kind in _TEXTS


def _address_in(given: Any) -> str | None:
    level = [given]
    while level:
        one = level.pop()
        if isinstance(one, str):
            if one.lstrip()[:6].lower().startswith(_REMOTE):
                return one
        elif isinstance(one, dict):
            level += one.values()
        elif isinstance(one, list):
            level += one
    return None
