"""OpenAI's Responses said in Chat Completions.

llama-server serves `/v1/responses` by itself, but says of an answer that was cut, even in the middle of a call, that it
is complete, leaves out the numbers by which clients order events, and refuses thinking that it told without its text.
Format: https://platform.openai.com/docs/api-reference/responses; its answers are in response_writer.py. Nothing is
stored: a client sends the whole conversation each time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from variet.engine.dialects.base import Event, NotUnderstood
from variet.engine.dialects.response_writer import ResponseWriter

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
}
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_SEAL = "variet1."
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class Responses:
    """A Dialect. Raises NotUnderstood for a body that is no such request."""

    quiet = b": variet\n\n"

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._asked = body
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
        *_, last = writer.take({**chat, "choices": [{**choice, "delta": delta}], "usage": usage})
        response: Event = last["response"]
        return response

    def writer(self, prompt: int, cached: int) -> ResponseWriter:
        include = self._asked.get("include")
        sealed = isinstance(include, list) and "reasoning.encrypted_content" in include
        return ResponseWriter(self._asked, seal if sealed else None)


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
    choice, tools = _choice(body.get("tool_choice"), tools)
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
    except (binascii.Error, UnicodeDecodeError):
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
        self._pictures: list[Event] = []  # of tool results, which are texts in a chat
        if instructions:
            self._messages.append({"role": "system", "content": _text(instructions)})

    def add(self, item: Event) -> None:
        kind = item.get("type") or "message"
        if kind == "function_call_output":
            self._result(item)
            return
        self._show_pictures()
        add = self._KINDS.get(kind)
        if add is not None:
            add(self, item)
        elif kind == "item_reference":
            raise NotUnderstood("responses are not stored here: send the items themselves, not `item_reference`")
        else:
            self.passed_over.append(str(kind)[:40])

    def end(self) -> list[Event]:
        self._show_pictures()
        return self._messages

    def _message(self, item: Event) -> None:
        role = _ROLES.get(item["role"])
        if role is None:
            raise NotUnderstood(
                f"a message is of user, assistant, system or developer, not of {str(item['role'])[:40]!r}"
            )
        if role == "assistant":
            turn = self._assistant()
            turn["content"] += _text(item["content"])
        elif role == "system" and len(self._messages) == 1 and self._messages[0]["role"] == "system":
            self._messages[0]["content"] += "\n\n" + _text(item["content"])
        elif role == "system" and not self._messages:
            self._messages.append({"role": "system", "content": _text(item["content"])})
        else:
            content = item["content"]
            self._messages.append({
                "role": role, "content": content if isinstance(content, str) else [_part(part) for part in content],
            })  # fmt: skip

    def _thoughts(self, item: Event) -> None:
        text = "".join(part.get("text", "") for part in item.get("content") or ())
        text = text or _unseal(item.get("encrypted_content"))
        if text:
            turn = self._assistant()
            turn["reasoning_content"] = turn.get("reasoning_content", "") + text

    def _call(self, item: Event) -> None:
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        self._assistant().setdefault("tool_calls", []).append(call)

    def _result(self, item: Event) -> None:
        output = item["output"]
        parts = [_part(part) for part in output] if isinstance(output, list) else []
        self._pictures += [part for part in parts if part["type"] != "text"]
        text = "\n".join(part["text"] for part in parts if part["type"] == "text") if parts else str(output)
        self._messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})

    def _show_pictures(self) -> None:
        if self._pictures:
            self._messages.append({"role": "user", "content": self._pictures})
            self._pictures = []

    def _assistant(self) -> Event:
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append({"role": "assistant", "content": ""})
        return self._messages[-1]

    _KINDS: Mapping[str, Callable[[_Talk, Event], None]] = {
        "message": _message,
        "reasoning": _thoughts,
        "function_call": _call,
    }


def _text(content: Any) -> str:
    """The text of a string, or of parts and whole messages in a list."""
    if isinstance(content, str):
        return content
    texts = (_text(part["content"]) if "content" in part else _part(part).get("text", "") for part in content)
    return "".join(texts)


def _part(part: Event) -> Event:
    kind = part["type"]
    if kind in _TEXTS:
        return {"type": "text", "text": part[_TEXTS[kind]]}
    if kind == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    raise NotUnderstood(
        f"a part of type {str(kind)[:40]!r} cannot be read here: texts go as input_text, pictures as data in image_url"
    )


def _tools(tools: Any) -> tuple[list[Event], list[str]]:
    """Functions as a chat has them, and the types of tools that only OpenAI's servers can run."""
    functions, skipped = [], []
    for tool in tools:
        if tool.get("type", "function") != "function":
            skipped.append(f"tool {str(tool['type'])[:40]}")
            continue
        wanted = {
            key: tool[key] for key in ("name", "description", "parameters", "strict") if tool.get(key) is not None
        }
        functions.append({"type": "function", "function": {"parameters": {}, **wanted}})
    return functions, skipped


def _choice(choice: Any, tools: list[Event]) -> tuple[str | None, list[Event]]:
    """The choice as a word, which is all that a child understands, and the tools that it leaves."""
    if choice is None or isinstance(choice, str):
        return choice, tools
    if choice.get("type") == "allowed_tools":
        names = {one.get("name") for one in choice["tools"]}
        return choice.get("mode", "auto"), [tool for tool in tools if tool["function"]["name"] in names]
    if choice.get("type") == "function":
        return "required", [tool for tool in tools if tool["function"]["name"] == choice["name"]]
    return "auto", tools


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
