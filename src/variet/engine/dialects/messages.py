"""Anthropic's Messages said in OpenAI's Chat Completions, and the answers said back.

llama-server serves `/v1/messages` by itself, but hands only a few sampling fields on: no slot and no template
arguments, so neither a tier's settings nor the place of a conversation would hold there. Its chat API takes them all.
Formats: https://docs.anthropic.com/en/api/messages and /messages-streaming; what llama-server makes of them is kept,
but for tool results, which come before the text of their message here, as chat templates want them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from variet.engine.dialects.base import Event, NotUnderstood, sse
from variet.engine.dialects.chat import as_templates_take_it
from variet.engine.problems import Problem

_FOR_ANTHROPIC = frozenset({
    "system", "messages", "tools", "tool_choice", "stop_sequences", "thinking", "metadata", "context_management",
    "output_config", "service_tier", "container", "mcp_servers", "betas", "cache_control",
})  # fmt: skip
_MAX_TOKENS = 4096  # what llama-server takes where a client leaves the required field out
_NOT_READ = "cannot be read here: send its text"
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Messages:
    """A Dialect. Raises NotUnderstood for a body that is no such request."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        try:
            self.chat, self.passed_over = to_chat(body)
        except (TypeError, AttributeError, KeyError):
            text = "`messages`, `system` or `tools` are not what the API wants: lists of objects with their types"
            raise NotUnderstood(text) from None

    def whole(self, chat: Event) -> Event:
        return to_message(chat)

    def writer(self, prompt: int, cached: int) -> Writer:
        return Writer(prompt, cached)

    def alive(self, facts: Mapping[str, Any]) -> list[Event]:
        return [{"type": "ping", "variet": facts} if facts else {"type": "ping"}]

    def failed(self, problem: Problem) -> list[Event]:
        return [problem.shape("messages")]

    def written(self, events: list[Event]) -> bytes:
        return b"".join(map(sse, events))


# --- the request ---


def to_chat(body: Mapping[str, Any]) -> tuple[Event, tuple[str, ...]]:
    """A Messages request as a Chat Completions request, and the types of what was left out of it; fields that Anthropic
    does not know stay as they are.

    Raises NotUnderstood, or TypeError, AttributeError or KeyError for what is no such request.
    """
    chat = {key: value for key, value in body.items() if key not in _FOR_ANTHROPIC}
    passed_over: list[str] = []
    messages: list[dict[str, Any]] = []
    if body.get("system") is not None:
        messages.append({"role": "system", "content": _text(body["system"])})
    for turn in body["messages"]:
        messages += _turn(turn, passed_over)
    chat["messages"] = messages
    chat.setdefault("max_tokens", _MAX_TOKENS)
    # A tool with a type of its own runs on Anthropic's servers: no model here could have it run.
    ours = [one for one in body.get("tools") or () if one.get("type") in (None, "custom") or "input_schema" in one]
    passed_over += [f"tool {word(one['type'])}" for one in body.get("tools") or () if one not in ours]
    if ours:
        chat["tools"] = [_tool(one) for one in ours]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        chat["tool_choice"] = choice
        if choice.get("disable_parallel_tool_use") is True:
            chat["parallel_tool_calls"] = False
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
        chat["verbose"] = True  # tells which of them ended the answer
    thinking = body.get("thinking")
    if isinstance(thinking, dict):
        if thinking.get("type") == "enabled":
            chat["thinking_budget_tokens"] = thinking.get("budget_tokens", 10_000)
        elif thinking.get("type") == "disabled":
            chat["chat_template_kwargs"] = {"enable_thinking": False, **(chat.get("chat_template_kwargs") or {})}
    return as_templates_take_it(chat), tuple(passed_over)


def _turn(turn: dict[str, Any], passed_over: list[str]) -> list[dict[str, Any]]:
    if not isinstance(turn.get("content"), list):
        return [turn] if "content" in turn or turn.get("role") != "assistant" else []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    thoughts: list[str] = []
    pictures: list[dict[str, Any]] = []  # of tool results, which are texts in a chat
    for block in turn["content"]:
        kind = block.get("type")
        if kind == "text":
            parts.append({"type": "text", "text": block.get("text", "")})
        elif kind == "thinking":
            thoughts.append(block.get("thinking", ""))
        elif kind == "image":
            parts += _image(block.get("source"))
        elif kind == "document":
            parts += _document(block.get("source"))
        elif kind == "tool_use":
            arguments = orjson.dumps(block.get("input", {})).decode()
            function = {"name": block.get("name", ""), "arguments": arguments}
            calls.append({"id": block.get("id", ""), "type": "function", "function": function})
        elif kind == "tool_result":
            text, shown = _result(block.get("content"), passed_over)
            pictures += shown
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id", ""), "content": text})
        else:
            passed_over.append(word(kind))
    parts = pictures + parts
    said: dict[str, Any] = {"role": turn.get("role"), "content": parts or ""}
    if calls:
        said["tool_calls"] = calls
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    return [*results, *([said] if parts or calls or thoughts else [])]


def _result(content: Any, passed_over: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """The text of a tool's result, and the pictures in it."""
    if not isinstance(content, list):
        return _text(content), []
    texts: list[str] = []
    pictures: list[dict[str, Any]] = []
    for block in content:
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text", ""))
        elif kind == "image":
            pictures += _image(block.get("source"))
        elif kind == "document":
            texts += [part["text"] for part in _document(block.get("source"))]
        else:
            passed_over.append(word(kind))
    return "".join(texts), pictures


def word(kind: Any) -> str:
    """A type as it may stand in a message and in the log."""
    return re.sub(r"[^\w.-]", "?", str(kind)[:40])


def _text(content: Any) -> str:
    """The text of a string or of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else ()
    return "".join(one.get("text", "") for one in blocks if isinstance(one, dict) and one.get("type") == "text")


def _image(source: Any) -> list[dict[str, Any]]:
    if not isinstance(source, dict):
        return []
    url = source.get("url", "")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type', 'image/jpeg')};base64,{source.get('data', '')}"
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(source: Any) -> list[dict[str, Any]]:
    """Its text; of one that is no text the model hears that there is one, and what it is."""
    if not isinstance(source, dict):
        return []
    if source.get("type") == "text":
        return [{"type": "text", "text": source.get("data", "")}]
    if source.get("type") == "content":
        return [{"type": "text", "text": _text(source.get("content"))}]
    kind = "PDF document" if source.get("media_type") == "application/pdf" else "document"
    return [{"type": "text", "text": f"(a {kind} that {_NOT_READ})"}]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = {
        "name": tool.get("name", ""),
        "description": tool.get("description", ""),
        "parameters": tool.get("input_schema") or {},
    }
    return {"type": "function", "function": function}


# --- the answer ---


def to_message(chat: Mapping[str, Any]) -> Event:
    """A whole chat.completion as a message."""
    choice = chat["choices"][0]
    said = choice["message"]
    content: list[Event] = []
    if said.get("reasoning_content"):
        content.append({"type": "thinking", "thinking": said["reasoning_content"], "signature": ""})
    if said.get("content"):
        content.append({"type": "text", "text": said["content"]})
    for call in said.get("tool_calls") or ():
        content.append(_use(call))
    usage = chat.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "id": chat.get("id"), "type": "message", "role": "assistant", "content": content, "model": chat.get("model"),
        **_end(choice.get("finish_reason"), chat),
        "usage": _usage(usage.get("prompt_tokens", 0), cached, usage.get("completion_tokens", 0)),
    }  # fmt: skip


def _use(call: Mapping[str, Any]) -> Event:
    function = call["function"]
    try:
        arguments = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError:  # cut by the limit
        arguments = {}
    return {"type": "tool_use", "id": call.get("id"), "name": function["name"], "input": arguments}


def _end(finish: str | None, last: Mapping[str, Any]) -> Event:
    word = (last.get("__verbose") or {}).get("stopping_word") or None
    return {"stop_reason": _REASONS.get(finish or "stop", "end_turn"), "stop_sequence": word}


def _usage(prompt: int, cached: int, output: int) -> Event:
    """Anthropic counts what was cached apart from the rest of the prompt."""
    return {"cache_read_input_tokens": cached, "input_tokens": prompt - cached, "output_tokens": output}


class Writer:
    """Chat chunks in, Messages events out."""

    def __init__(self, prompt: int, cached: int) -> None:
        self.begun = False
        self._prompt, self._cached = prompt, cached
        self._index = -1  # of the block that is open
        self._open = ""  # its kind; a call's has its number
        self._end: Event | None = None
        self._output: int | None = None
        self.stopped = False

    @property
    def ending(self) -> bool:
        """Whether the child has said its last word."""
        return self._end is not None

    def take(self, chunk: Event) -> list[Event]:
        out: list[Event] = []
        if not self.begun:
            self.begun = True
            message: Event = {
                "id": chunk.get("id"), "type": "message", "role": "assistant", "content": [],
                "model": chunk.get("model"), "stop_reason": None, "stop_sequence": None,
                "usage": _usage(self._prompt, self._cached, 0),
            }  # fmt: skip
            out.append({"type": "message_start", "message": message})
        for choice in chunk.get("choices") or ():
            out += self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                out += self._close()
                self._end = _end(choice["finish_reason"], chunk)
        counted = (chunk.get("timings") or {}).get("predicted_n")
        if counted is None and chunk.get("usage"):
            counted = chunk["usage"].get("completion_tokens")
        self._output = counted if counted is not None else self._output
        if self._end is not None and self._output is not None and not self.stopped:
            self.stopped = True
            out.append({"type": "message_delta", "delta": self._end, "usage": {"output_tokens": self._output}})
            out.append({"type": "message_stop"})
        return out

    def _delta(self, delta: Event) -> list[Event]:
        out: list[Event] = []
        if delta.get("reasoning_content"):
            out += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out.append(self._grow({"type": "thinking_delta", "thinking": delta["reasoning_content"]}))
        if delta.get("content"):
            out += self._block("text", {"type": "text", "text": ""})
            out.append(self._grow({"type": "text_delta", "text": delta["content"]}))
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            use = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
            out += self._block(f"call {call.get('index', 0)}", use)
            if function.get("arguments"):
                out.append(self._grow({"type": "input_json_delta", "partial_json": function["arguments"]}))
        return out

    def _block(self, kind: str, content: Event) -> list[Event]:
        """Go on in the block of this kind, or open it."""
        if self._open == kind:
            return []
        closed = self._close()
        self._index, self._open = self._index + 1, kind
        return [*closed, {"type": "content_block_start", "index": self._index, "content_block": content}]

    def _grow(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> list[Event]:
        if not self._open:
            return []
        self._open = ""
        return [{"type": "content_block_stop", "index": self._index}]
