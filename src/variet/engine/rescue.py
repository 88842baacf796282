"""Calls that a model wrote as text become calls in its answer, streamed or whole: toolcalls.py finds them.

An answer without such calls passes byte for byte. What may become one is held back; a client hears empty words
meanwhile, since several give a stream up that says nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from variet.engine.downstream import Source
from variet.engine.upstream import UpstreamError
from variet.toolcalls import Sieve, Tool, ToolCall, find, tools_of

# General names (GGUF `general.name`) of models that write calls as text, with evidence: Qwen2.5-Coder answers a request
# for a tool with a fence of JSON (seen with 0.5B and 1.5B under llama-server b10068; reported up to 32B).
_KNOWN = re.compile(r"qwen2\.5[ _-]coder", re.IGNORECASE)
_SIGN_OF_LIFE_S = 5.0
_END = b"\n\n"
Event = dict[str, Any]


def writes_calls_as_text(general_name: str) -> bool:
    """Whether a model of this name is known to need it."""
    return bool(_KNOWN.search(general_name))


@dataclass(frozen=True, slots=True)
class Rescue:
    """What may be rescued of one answer: calls of these tools, and `several` at once. Falsy: nothing."""

    tools: Mapping[str, Tool]
    several: bool = True

    def __bool__(self) -> bool:
        return bool(self.tools)

    def wished(self, calls: list[ToolCall]) -> list[ToolCall]:
        return calls if self.several else calls[:1]


NOTHING = Rescue({})


def rescue_for(asked: Mapping[str, Any] | None) -> Rescue:
    """Of the answer to a chat as its child is asked; NOTHING without tools, where no calls are wished, several answers
    at once, or probabilities, and where the answer has a form of its own."""
    if not asked or not asked.get("tools") or asked.get("tool_choice") == "none":
        return NOTHING
    if any(asked.get(field) not in (None, 1) for field in ("n", "n_cmpl")) or asked.get("logprobs"):
        return NOTHING
    form = asked.get("response_format")
    if isinstance(form, dict) and form.get("type") not in (None, "text"):
        return NOTHING
    return Rescue(tools_of(asked["tools"]), asked.get("parallel_tool_calls") is not False)


def rescue_whole(chat: Event, rescue: Rescue) -> Event:
    """A chat.completion with the calls of its text. Raises LookupError, TypeError, AttributeError where it is none."""
    if not rescue:
        return chat
    choice = chat["choices"][0]
    said = choice["message"]
    if said.get("tool_calls") or choice.get("finish_reason") != "stop":  # cut: half a call is no call
        return chat
    text, calls = find(said.get("content") or "", rescue.tools)
    calls = rescue.wished(calls or _of_reasoning(said, rescue.tools))
    if not calls:
        return chat
    message = {**said, "content": text.strip() and text, "tool_calls": [_native(call) for call in calls]}
    return {**chat, "choices": [{**choice, "message": message, "finish_reason": "tool_calls"}]}


def _of_reasoning(said: Mapping[str, Any], tools: Mapping[str, Tool]) -> list[ToolCall]:
    """Calls that a model left in its thinking: where it says nothing else, they are meant."""
    if (said.get("content") or "").strip() or not said.get("reasoning_content"):
        return []
    return find(said["reasoning_content"], tools)[1]


def _native(call: ToolCall) -> Event:
    function = {"name": call.name, "arguments": call.written}
    return {"type": "function", "id": f"call_{secrets.token_hex(12)}", "function": function}


class RescuedStream:
    """A stream of chat.completion.chunk events with the calls of its text."""

    def __init__(self, chat: Source, rescue: Rescue) -> None:
        self._chat = chat
        self._rescue = rescue
        self._sieve = Sieve(rescue.tools)
        self._rest = b""  # of an event that is not whole yet
        self._native = False  # the child found a call by itself
        self._like: Event | None = None  # a chunk of this answer, while its end was not seen
        self._said: dict[str, str] = {"content": "", "reasoning_content": ""}
        self._heard_at = time.monotonic()

    @property
    def ended(self) -> bool:
        return self._chat.ended and not self._rest

    async def read(self) -> bytes:
        try:
            while piece := await self._chat.read():
                *events, self._rest = (self._rest + piece).split(_END)
                out = b"".join(self._take(event) for event in events)
                if out:
                    self._heard_at = time.monotonic()
                    return out
        except UpstreamError:
            held = self._release()
            if held:  # the client gets what it would have had; the next read tells the error again
                return held
            raise
        rest, self._rest = self._release() + self._rest, b""
        return rest

    def _take(self, event: bytes) -> bytes:
        """What becomes of one event."""
        whole = event + _END
        if self._native or not event.startswith(b"data: {"):
            return self._release() + whole if event.startswith(b"data: [DONE]") else whole
        try:
            chunk = orjson.loads(event[6:])
        except ValueError:
            return whole
        if "error" in chunk:
            return self._release() + whole
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
        except (ValueError, TypeError, LookupError):
            return whole  # usage: not about words
        if choice.get("index"):
            return whole  # another answer beside this one
        if delta.get("tool_calls"):
            self._like = chunk
            self._native = True
            return self._release() + whole
        for field in self._said:
            self._said[field] += delta.get(field) or ""
        if choice.get("finish_reason"):
            return self._finish(chunk, choice, whole)
        self._like = chunk
        content = delta.get("content")
        if not content:
            return whole
        certain = self._sieve.feed(content)
        if certain == content:
            return whole
        if certain or delta.keys() != {"content"} or time.monotonic() - self._heard_at >= _SIGN_OF_LIFE_S:
            return _event(chunk, {**delta, "content": certain})
        return b""

    def _finish(self, chunk: Event, choice: Event, whole: bytes) -> bytes:
        self._like = chunk
        if choice["finish_reason"] != "stop":  # cut: half a call is no call
            return self._release() + whole
        rest, calls = self._sieve.end()
        calls = self._rescue.wished(calls or _of_reasoning(self._said, self._rescue.tools))
        before = self._chunks(chunk, rest, calls)
        if not calls:
            return before + whole
        last = {**chunk, "choices": [{**choice, "finish_reason": "tool_calls"}]}
        return before + b"data: " + orjson.dumps(last) + _END

    def _release(self) -> bytes:
        """What was held back, as the text that it is after all."""
        held = self._sieve.release()
        return _event(self._like, {"content": held}) if held and self._like is not None else b""

    def _chunks(self, like: Event, text: str, calls: Any) -> bytes:
        out = _event(like, {"content": text}) if text else b""
        for index, call in enumerate(calls):
            out += _event(like, {"tool_calls": [{"index": index, **_native(call)}]})
        return out


def _event(like: Event, delta: Event) -> bytes:
    """A chunk of the same answer with another delta."""
    (choice,) = like["choices"]
    head = {key: value for key, value in like.items() if key not in ("timings", "usage", "__verbose")}
    chunk = {**head, "choices": [{**choice, "delta": delta, "finish_reason": None}]}
    return b"data: " + orjson.dumps(chunk) + _END
