"""OpenAI's Responses said in Chat Completions.

llama-server serves `/v1/responses` by itself, but says of an answer that was cut, even in the middle of a call, that it
is complete, leaves out the numbers by which clients order events, and refuses thinking that it told without its text.
Format: https://platform.openai.com/docs/api-reference/responses; its answers are in response_writer.py. Nothing is
stored: a client sends the whole conversation each time.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import orjson

from variet.engine.dialects.base import Event, NotUnderstood, sse
from variet.engine.dialects.chat import choice_among, reminded, whole_object
from variet.engine.dialects.response_writer import Envelope, ResponseWriter
from variet.engine.problems import Problem

# Of the API, but without a meaning for a chat, or said there in other words. All else (`top_k`, `seed`) goes through.
_FOR_RESPONSES = frozenset({
    "input", "instructions", "tools", "tool_choice", "max_output_tokens", "reasoning", "text", "store", "metadata",
    "include", "previous_response_id", "conversation", "prompt", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "safety_identifier", "service_tier", "truncation", "background", "stream_options",
    "max_tool_calls", "top_logprobs", "user", "context_management", "client_metadata", "moderation",
})  # fmt: skip
_KEPT_ELSEWHERE = {  # what asks for a memory that the engine does not have
    "previous_response_id": "responses are not stored here: send the whole conversation in `input`",
    "conversation": "conversations are not stored here: send the whole conversation in `input`",
    "background": "responses are not stored here: ask without `background`, with `stream` if it takes long",
    "prompt": "prompts are not stored here: send its text in `instructions` and `input`",
}
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_SEAL = "variet1."
_WORD = re.compile(r"[^\w.-]")
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class Responses:
    """A Dialect. Raises NotUnderstood for a body that is no such request."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._asked = body
        self._envelope = Envelope(body)
        try:
            self.chat, self.passed_over = to_chat(body)
        except (TypeError, AttributeError, KeyError):
            text = "`input`, `tools` or `text` are not what the API wants: a text or lists of objects with their types"
            raise NotUnderstood(text) from None

    def whole(self, chat: Event) -> Event:
        """What the last event of the stream would carry."""
        choice = chat["choices"][0]
        said = choice["message"]
        calls = [{**call, "index": index} for index, call in enumerate(said.get("tool_calls") or ())]
        delta = {**said, "tool_calls": calls}
        usage = chat.get("usage") or {}
        writer = self.writer(0, 0)
        events = writer.take({**chat, "choices": [{**choice, "delta": delta}], "usage": usage})
        if not writer.stopped:
            raise ValueError("it says no reason for its end")
        response: Event = events[-1]["response"]
        return response

    def writer(self, prompt: int, cached: int) -> ResponseWriter:
        include = self._asked.get("include")
        sealed = isinstance(include, list) and "reasoning.encrypted_content" in include
        return ResponseWriter(self._envelope, seal if sealed else None)

    def alive(self, facts: Mapping[str, Any]) -> list[Event]:
        return self._envelope.alive(facts)

    def failed(self, problem: Problem) -> list[Event]:
        return self._envelope.failed(problem)

    def written(self, events: list[Event]) -> bytes:
        return b"".join(map(sse, map(self._envelope.numbered, events)))


def to_chat(body: Mapping[str, Any]) -> tuple[Event, tuple[str, ...]]:
    """The Chat Completions request, and the types of what was left out of it.

    Raises NotUnderstood, or TypeError, AttributeError or KeyError for what is no such request.
    """
    for field, sentence in _KEPT_ELSEWHERE.items():
        if body.get(field):
            raise NotUnderstood(sentence)
    chat = {key: value for key, value in body.items() if key not in _FOR_RESPONSES}
    talk = _Talk(body.get("instructions"))
    for item in _items(body["input"]):
        talk.add(item)
    chat["messages"] = talk.end()
    tools, skipped = _tools(body.get("tools") or ())
    choice, tools = choice_among(body.get("tool_choice"), tools)
    if tools:
        chat["tools"] = tools
    if choice is not None:
        chat["tool_choice"] = choice
    if body.get("max_output_tokens") is not None:
        chat["max_tokens"] = body["max_output_tokens"]
    chat |= _effort(body.get("reasoning"), chat) | _form(body.get("text"))
    return chat, (*talk.passed_over, *skipped)


def seal(thoughts: str) -> str:
    """Thinking in a field that clients keep and send back unread. Not a secret: who has it has seen it."""
    return _SEAL + base64.b64encode(thoughts.encode()).decode()


def _unseal(content: Any) -> str:
    if not isinstance(content, str) or not content.startswith(_SEAL):
        return ""
    try:
        return base64.b64decode(content[len(_SEAL) :], validate=True).decode()
    except ValueError:  # no base64, or of no text
        return ""


def _items(said: Any) -> list[Event]:
    if isinstance(said, str):
        return [{"role": "user", "content": said}]
    if not isinstance(said, list):
        raise NotUnderstood("`input` is a text or a list of items")
    return said


class _Talk:
    """The messages of a chat in the making. What an assistant thought, said and called in a row is one of them, as are
    the instructions with the system's messages that follow: chat templates know no other form."""

    def __init__(self, instructions: Any) -> None:
        self.passed_over: list[str] = []
        self._messages: list[Event] = []
        self._growing: list[Event] = []  # those whose texts are still lists: adding to a text would copy it each time
        self._pictures: list[Event] = []  # of tool results, which are texts in a chat
        if instructions:
            self._system(instructions)

    def add(self, item: Event) -> None:
        kind = item.get("type") or "message"
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._thoughts(item)
        elif kind == "function_call":
            self._call(item["call_id"], item["name"], item["arguments"])
        elif kind.endswith("_call_output") and item.get("call_id"):
            self._result(item["call_id"], item["output"])
        elif kind.endswith("_call") and item.get("call_id"):  # of a tool that is no function: what it did is told
            told = {key: value for key, value in item.items() if key not in ("type", "id", "call_id", "name", "status")}
            self._call(item["call_id"], item.get("name") or kind, orjson.dumps(told).decode())
        elif kind == "item_reference":
            raise NotUnderstood(
                "responses are not stored here: send the items themselves, not `item_reference` (with `store: false` "
                "clients do; in the AI SDK it is providerOptions.openai.store)"
            )
        else:
            self.passed_over.append(_word(kind))

    def end(self) -> list[Event]:
        self._show_pictures()
        for turn in self._growing:
            turn["content"] = "\n\n".join(turn["content"])
            if "reasoning_content" in turn:
                turn["reasoning_content"] = "".join(turn["reasoning_content"])
        return self._messages

    def _message(self, item: Event) -> None:
        role = _ROLES.get(item["role"])
        if role is None:
            raise NotUnderstood(f"a message is of user, assistant, system or developer, not of {_word(item['role'])!r}")
        content = item["content"]
        if role == "assistant":
            self._assistant()["content"].append(_text(content))
        elif role == "user":
            said = content if isinstance(content, str) else [_part(part) for part in content]
            self._append({"role": "user", "content": said})
        elif not self._messages or self._messages[-1]["role"] == "system":
            self._system(content)
        else:  # many templates refuse a later one, or leave it out
            self._append({"role": "user", "content": reminded(_text(content))})

    def _system(self, content: Any) -> None:
        if not self._messages:
            self._append({"role": "system", "content": []})
            self._growing.append(self._messages[0])
        self._messages[0]["content"].append(_text(content))

    def _thoughts(self, item: Event) -> None:
        text = "".join(part.get("text", "") for part in item.get("content") or ())
        text = text or _unseal(item.get("encrypted_content"))
        if text:
            self._assistant().setdefault("reasoning_content", []).append(text)

    def _call(self, call_id: Any, name: Any, arguments: Any) -> None:
        function = {"name": name, "arguments": whole_object(arguments)}
        call = {"id": call_id, "type": "function", "function": function}
        self._assistant().setdefault("tool_calls", []).append(call)

    def _result(self, call_id: Any, output: Any) -> None:
        text = output if isinstance(output, str) else "" if output is None else orjson.dumps(output).decode()
        if isinstance(output, list):
            parts = [_part(part) for part in output]
            text = "\n".join(part["text"] for part in parts if part["type"] == "text")
            self._pictures += [part for part in parts if part["type"] != "text"]
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": text})

    def _show_pictures(self) -> None:
        if self._pictures:
            pictures, self._pictures = self._pictures, []
            self._messages.append({"role": "user", "content": pictures})

    def _append(self, message: Event) -> None:
        self._show_pictures()
        self._messages.append(message)

    def _assistant(self) -> Event:
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._append({"role": "assistant", "content": []})
            self._growing.append(self._messages[-1])
        return self._messages[-1]


def _text(content: Any) -> str:
    """The text of a string, or of parts and whole messages in a list."""
    if isinstance(content, str):
        return content
    return "\n".join(_text(part["content"]) if "content" in part else _part(part).get("text", "") for part in content)


def _part(part: Event) -> Event:
    kind = part["type"]
    if kind in _TEXTS:
        return {"type": "text", "text": part[_TEXTS[kind]]}
    if kind in ("input_image", "image_url") and part.get("image_url"):
        address = part["image_url"]
        return {"type": "image_url", "image_url": address if isinstance(address, dict) else {"url": address}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise NotUnderstood(
        f"a part of type {_word(kind)!r} cannot be read here: texts go as input_text, pictures as data in image_url"
    )


def _word(kind: Any) -> str:
    """A type as it may stand in a message and in the log."""
    return _WORD.sub("?", str(kind)[:40])


def _tools(tools: Any) -> tuple[list[Event], list[str]]:
    """Functions as a chat has them, and the types of tools that only OpenAI's servers can run."""
    functions, skipped = [], []
    for tool in tools:
        if tool.get("type", "function") != "function":
            skipped.append(f"tool {_word(tool['type'])}")
            continue
        tool = tool.get("function") or tool  # as a chat has it already
        wanted = {key: tool[key] for key in ("description", "parameters", "strict") if tool.get(key) is not None}
        functions.append({"type": "function", "function": {"name": tool["name"], "parameters": {}, **wanted}})
    return functions, skipped


def _effort(reasoning: Any, chat: Event) -> Event:
    effort = reasoning.get("effort") if reasoning else None
    if effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False, **(chat.get("chat_template_kwargs") or {})}}
    return {"reasoning_effort": effort} if effort else {}


def _form(text: Any) -> Event:
    """The form that the answer is to have."""
    form = (text or {}).get("format")
    if not form or form["type"] == "text":
        return {}
    if form["type"] == "json_schema":
        named = {key: form[key] for key in ("name", "schema", "strict", "description") if key in form}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"response_format": {"type": form["type"]}}
