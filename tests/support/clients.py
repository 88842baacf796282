"""Answers as the official SDKs of Anthropic and OpenAI understand them: every event must be one of their types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import Field, TypeAdapter

Event = dict[str, Any]
_MESSAGES: TypeAdapter[Any] = TypeAdapter(Annotated[RawMessageStreamEvent, Field(discriminator="type")])
RESPONSE_EVENTS: TypeAdapter[Any] = TypeAdapter(Annotated[ResponseStreamEvent, Field(discriminator="type")])


def message_of(events: Iterable[Event]) -> Event:
    """The message that a stream of `/v1/messages` tells. Raises ValidationError for an event that is none."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    last = ""
    for event in events:
        last = event["type"]
        if last != "ping":
            known = _MESSAGES.validate_python(event)
            message = accumulate_event(event=known, current_snapshot=message, json_bufs=buffers)
    assert last == "message_stop"
    whole: Event = message.model_dump(exclude_unset=True)
    whole.pop("stop_details")  # the SDK's own
    return whole


def response_of(events: Iterable[Event]) -> Event:
    """The response that a stream of `/v1/responses` tells. Raises ValidationError for an event that is none, and
    AssertionError for one out of its order."""
    texts: dict[str, str] = {}
    items: list[Event] = []
    last: Event = {}
    for number, event in enumerate(events):
        RESPONSE_EVENTS.validate_python(event)
        assert event["sequence_number"] == number
        last = event
        if event["type"].endswith(".delta"):
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
        elif event["type"] == "response.output_item.added":
            assert event["output_index"] == len(items)
        elif event["type"] == "response.output_item.done":
            item = event["item"]
            items.append(item)
            said = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
            assert texts.get(item["id"], "") == said, "what was told bit by bit"
    assert last["type"] in ("response.completed", "response.incomplete")
    response: Event = last["response"]
    Response.model_validate(response)
    assert response["output"] == items
    return response
