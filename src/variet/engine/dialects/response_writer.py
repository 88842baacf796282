"""A chat's stream as the events of OpenAI's Responses.

Format: https://platform.openai.com/docs/api-reference/responses-streaming. The official SDK reads each of them in the
tests. What llama-server adds to its own, `timings` of the last event, is kept.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from variet.engine.dialects.base import Event
from variet.engine.problems import Problem

_ECHOED: dict[str, Any] = {  # what a response repeats of its request, and what it says where that is silent
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True, "reasoning": None,
    "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": None,
    "truncation": "disabled",
}  # fmt: skip

# What clients know of why a response failed, by our codes and by status; Codex shortens its history for the first.
_CODES = {"exceed_context_size_error": "context_length_exceeded", 429: "rate_limit_exceeded"}


class Envelope:
    """The response around its output: one a request, whichever child answers it at last."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.announced = False
        self._asked = asked
        self._id, self._created = f"resp_{secrets.token_hex(16)}", int(time.time())
        self._model = asked.get("model")
        self._sequence = 0

    def numbered(self, event: Event) -> Event:
        """The next event of its stream."""
        number, self._sequence = self._sequence, self._sequence + 1
        return {**event, "sequence_number": number}

    def announce(self, model: str | None = None) -> list[Event]:
        """What stands at the beginning, once. `model`: what answers, where the request named none."""
        if self.announced:
            return []
        self.announced, self._model = True, self._model or model or "resident"
        response = self.response("in_progress", [])
        return [_event(kind, response=response) for kind in ("response.created", "response.in_progress")]

    def alive(self, facts: Mapping[str, Any]) -> list[Event]:
        """Codex counts events, not comments, when it decides that a server is gone; `response.in_progress` may come
        again, and again without what the request said."""
        events = self.announce()
        if not events:
            events = [_event("response.in_progress", response=self.response("in_progress", [], brief=True))]
        events[-1] |= {"variet": facts} if facts else {}
        return events

    def failed(self, problem: Problem) -> list[Event]:
        """OpenAI's SDKs raise for an event with an `error`, others for one of the type, Codex for a failed response."""
        first = self.announce()
        code = _CODES.get(problem.code) or _CODES.get(problem.status, "server_error")
        response = {**self.response("failed", []), "error": {"code": code, "message": problem.message}}
        flat = {"code": problem.code, "message": problem.message, "param": None}
        error = {"type": problem.kind, **flat}
        return [*first, _event("response.failed", response=response), _event("error", **flat, error=error)]

    def response(self, status: str, output: list[Event], usage: Event | None = None, *, brief: bool = False) -> Event:
        asked = {} if brief else self._asked
        echoed = {key: silent if (value := asked.get(key)) is None else value for key, silent in _ECHOED.items()}
        cut = status == "incomplete"
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": status, "background": False,
            "completed_at": int(time.time()) if status == "completed" else None, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None, "model": self._model,
            **echoed, "output": list(output), "previous_response_id": None, "store": False, "usage": usage,
        }  # fmt: skip


class ResponseWriter:
    """A Writer of base.py. `seal`: makes of thinking what its client is to send back with the next turn."""

    def __init__(self, envelope: Envelope, seal: Callable[[str], str] | None) -> None:
        self.begun = self.ending = self.stopped = False
        self._envelope, self._seal = envelope, seal
        self._open: _Item | None = None
        self._output: list[Event] = []
        self._thought = self._said = 0  # characters
        self._cut = False
        self._timings: Event = {}

    def take(self, chunk: Event) -> list[Event]:
        out = self._envelope.announce(chunk.get("model"))
        self.begun = True
        for choice in chunk.get("choices") or ():
            out += self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                self.ending, self._cut = True, choice["finish_reason"] == "length"
                out += self._close()
        if chunk.get("timings"):
            self._timings = {"timings": chunk["timings"]}
        if self.ending and chunk.get("usage") is not None and not self.stopped:
            self.stopped = True
            status = "incomplete" if self._cut else "completed"
            response = self._envelope.response(status, self._output, self._usage(chunk["usage"]))
            out.append(_event(f"response.{status}", response=response, **self._timings))
        return out

    def _delta(self, delta: Event) -> list[Event]:
        out: list[Event] = []
        if delta.get("reasoning_content"):
            self._thought += len(delta["reasoning_content"])
            out += self._grow("thoughts", lambda: _Thoughts(self._seal), delta["reasoning_content"])
        if delta.get("content"):
            self._said += len(delta["content"])
            out += self._grow("text", _Text, delta["content"])
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            name, call_id, arguments = function.get("name"), call.get("id"), function.get("arguments") or ""
            self._said += len(arguments)
            key = f"call {call.get('index', 0)}"
            out += self._grow(key, lambda name=name, call_id=call_id: _Call(name, call_id), arguments)  # type: ignore[misc]
        return out

    def _grow(self, key: str, make: Callable[[], _Item], text: str) -> list[Event]:
        """Go on in the item of this key, or close another and open it."""
        out: list[Event] = []
        if self._open is None or self._open.key != key:
            out += self._close(cut=False)
            self._open = make()
            self._open.key = key
            out += [_event(kind, **fields) for kind, fields in self._open.begin(len(self._output))]
        if text:
            out += [_event(kind, **fields) for kind, fields in self._open.grow(text)]
        return out

    def _close(self, *, cut: bool | None = None) -> list[Event]:
        if self._open is None:
            return []
        item, self._open = self._open, None
        status = "incomplete" if (self._cut if cut is None else cut) else "completed"
        out = [_event(kind, **fields) for kind, fields in item.end(status)]
        self._output.append(item.said(status))
        return out

    def _usage(self, usage: Event) -> Event:
        """llama-server does not count thinking apart: it gets its share of the characters."""
        read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        thought = round(written * self._thought / ((self._thought + self._said) or 1))
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": read - cached},
            "output_tokens": written, "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": read + written,
        }  # fmt: skip


def _event(kind: str, **fields: Any) -> Event:
    return {"type": kind, **fields}


_Fields = tuple[str, dict[str, Any]]


class _Item:
    """A part of the answer that is being written; gives the type and fields of its events."""

    key = ""
    prefix = ""

    def __init__(self) -> None:
        self._id = f"{self.prefix}_{secrets.token_hex(16)}"
        self._pieces: list[str] = []
        self._at: dict[str, Any] = {}

    @property
    def _whole(self) -> str:
        return "".join(self._pieces)

    def said(self, status: str) -> Event:
        """The item as it stands."""
        raise NotImplementedError

    def begin(self, index: int) -> list[_Fields]:
        self._at = {"item_id": self._id, "output_index": index}
        return [("response.output_item.added", {"output_index": index, "item": self.said("in_progress")})]

    def grow(self, text: str) -> list[_Fields]:
        raise NotImplementedError

    def end(self, status: str) -> list[_Fields]:
        return [("response.output_item.done", {"output_index": self._at["output_index"], "item": self.said(status)})]


class _Words(_Item):
    """An item with one part: words."""

    kind = ""  # of the part, and of its events
    more: Mapping[str, Any] = {}  # what the API wants beside the words

    def _part(self) -> Event:
        return {"type": self.kind, "text": self._whole, **self.more}

    def begin(self, index: int) -> list[_Fields]:
        begun = super().begin(index)
        return [*begun, ("response.content_part.added", {**self._at, "content_index": 0, "part": self._part()})]

    def grow(self, text: str) -> list[_Fields]:
        self._pieces.append(text)
        return [(f"response.{self.kind}.delta", {**self._at, "content_index": 0, "delta": text, **self._beside})]

    def end(self, status: str) -> list[_Fields]:
        done = {**self._at, "content_index": 0, "text": self._whole, **self._beside}
        part = {**self._at, "content_index": 0, "part": self._part()}
        return [(f"response.{self.kind}.done", done), ("response.content_part.done", part), *super().end(status)]

    @property
    def _beside(self) -> Event:
        return {key: value for key, value in self.more.items() if key == "logprobs"}


class _Text(_Words):
    prefix, kind = "msg", "output_text"
    more: Mapping[str, Any] = {"annotations": [], "logprobs": []}

    def said(self, status: str) -> Event:
        content = [] if status == "in_progress" else [self._part()]
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": content}


class _Thoughts(_Words):
    prefix, kind = "rs", "reasoning_text"

    def __init__(self, seal: Callable[[str], str] | None) -> None:
        super().__init__()
        self._seal = seal

    def said(self, status: str) -> Event:
        item: Event = {"id": self._id, "type": "reasoning", "status": status, "summary": [], "content": []}
        if status != "in_progress":
            item["content"] = [self._part()]
            item["encrypted_content"] = self._seal(self._whole) if self._seal else None
        return item


class _Call(_Item):
    prefix = "fc"

    def __init__(self, name: Any, call_id: Any) -> None:
        super().__init__()
        self._name = name
        self._call_id = call_id or f"call_{secrets.token_hex(12)}"

    def said(self, status: str) -> Event:
        return {
            "id": self._id, "type": "function_call", "status": status, "call_id": self._call_id, "name": self._name,
            "arguments": self._whole,
        }  # fmt: skip

    def grow(self, text: str) -> list[_Fields]:
        self._pieces.append(text)
        return [("response.function_call_arguments.delta", {**self._at, "delta": text})]

    def end(self, status: str) -> list[_Fields]:
        empty = [] if self._whole or status != "completed" else self.grow("{}")  # clients parse it as JSON
        done = {**self._at, "name": self._name, "arguments": self._whole}
        return [*empty, ("response.function_call_arguments.done", done), *super().end(status)]
