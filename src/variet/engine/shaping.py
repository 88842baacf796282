"""Pure: what the engine changes in a request's body before the child sees it, and what it refuses in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from variet.engine.apis import Api
from variet.engine.config import TierConfig

_SLOT_FIELDS = ("id_slot", "slot_id", "session_id", "cache_prompt")
_REMOTE = ("http:", "https:", "file:", "ftp:")


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
        if tier.reasoning is not None and api.conversation:
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


def media_urls(value: Any) -> Iterator[str]:
    """Addresses that the child would fetch by itself: image, audio and video parts with anything but inline data."""
    if isinstance(value, list):
        for item in value:
            yield from media_urls(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("image_url", "input_audio", "video_url", "audio_url", "source", "url", "file_url"):
                address = inner.get("url") if isinstance(inner, dict) else inner
                if isinstance(address, str) and address.lower().lstrip().startswith(_REMOTE):
                    yield address
            if isinstance(inner, dict | list):
                yield from media_urls(inner)
