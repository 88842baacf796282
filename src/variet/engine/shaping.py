"""Pure: what the engine changes in a request's body before the child sees it, and what it refuses in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from variet.engine.apis import Api
from variet.engine.config import TierConfig

_SLOT_FIELDS = ("id_slot", "slot_id", "session_id", "cache_prompt")
_REMOTE = ("http:", "https:", "file:", "ftp:")
_MEDIA = frozenset({"image_url", "input_audio", "video_url", "audio_url", "source", "url", "file_url"})


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


def look_over(body: dict[str, Any]) -> tuple[int, str | None]:
    """How deep a body is nested, and an address in it that the child would fetch by itself, if there is one: image,
    audio and video parts with anything but inline data.
    """
    depth, found = 0, None
    level: list[Any] = [body]
    while level:
        depth += 1
        below: list[Any] = []
        for one in level:
            if type(one) is list:
                below += [inner for inner in one if type(inner) is dict or type(inner) is list]
                continue
            for key, inner in one.items():
                kind = type(inner)
                if kind is dict or kind is list:
                    below.append(inner)
                if key in _MEDIA:
                    address = inner.get("url") if kind is dict else inner
                    if type(address) is str and address.lstrip()[:6].lower().startswith(_REMOTE):
                        found = address
        level = below
    return depth, found
