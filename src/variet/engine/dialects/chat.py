"""Pure: a Chat Completions request as llama-server and every chat template take it.

All APIs come by here, so that a system message in the middle, a call that was cut and a choice of one tool mean the
same in each of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

from variet.engine.dialects.base import Event, NotUnderstood

_SYSTEM = ("system", "developer")
_NO_CALL = "`tool_choice` asks for a call, but there is no function in `tools` that it may be of"


def as_templates_take_it(chat: Event) -> Event:
    """The same object where there was nothing to change. Raises NotUnderstood for a choice that cannot be made."""
    messages, tools, choice = chat.get("messages"), chat.get("tools"), chat.get("tool_choice")
    changed: Event = {}
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        told = with_whole_arguments(folded(messages))
        if told is not messages:
            changed["messages"] = told
    if choice is not None and isinstance(tools, list | None):
        word, left = choice_among(choice, tools or [])
        if word != choice:
            changed["tool_choice"] = word
        if len(left) != len(tools or []):
            changed["tools"] = left
    return {**chat, **changed} if changed else chat


def folded(messages: list[Event]) -> list[Event]:
    """System messages at the beginning as one; a later one as a part of a user's turn, marked. Many templates refuse
    it, others leave it out in silence."""
    leading = next((at for at, one in enumerate(messages) if one.get("role") not in _SYSTEM), len(messages))
    if leading <= 1 and not any(one.get("role") in _SYSTEM for one in messages[leading:]):
        return messages
    out: list[Event] = []
    if leading:
        first = messages[0]
        texts = [text_of(one.get("content")) for one in messages[:leading]]
        out.append(first if leading == 1 else {**first, "content": "\n\n".join(text for text in texts if text)})
    waiting: list[str] = []  # of reminders, until the results of a call are all there
    for one in messages[leading:]:
        role = one.get("role")
        if role in _SYSTEM:
            waiting.append(reminded(text_of(one.get("content"))))
            if out and out[-1].get("role") == "user":
                out[-1] = {**out[-1], "content": _joined(out[-1].get("content"), waiting.pop())}
        elif role == "tool" or not waiting:
            out.append(one)
        elif role == "user":
            out.append({**one, "content": _before("\n\n".join(waiting), one.get("content"))})
            waiting.clear()
        else:
            out += [{"role": "user", "content": "\n\n".join(waiting)}, one]
            waiting.clear()
    if waiting:
        out.append({"role": "user", "content": "\n\n".join(waiting)})
    return out


def reminded(text: str) -> str:
    """What a system message says in a user's turn."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _joined(content: Any, text: str) -> Any:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": text}]
    return f"{content}\n\n{text}" if content else text


def _before(text: str, content: Any) -> Any:
    if isinstance(content, list):
        return [{"type": "text", "text": text}, *content]
    return f"{text}\n\n{content}" if content else text


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(str(one["text"]) for one in parts if isinstance(one, dict) and isinstance(one.get("text"), str))


def with_whole_arguments(messages: list[Event]) -> list[Event]:
    """Calls of the history with arguments that are no JSON object have none: templates break on what was cut, each time
    it is told."""
    out = messages
    for at, one in enumerate(messages):
        calls = one.get("tool_calls")
        if not isinstance(calls, list):
            continue
        mended = [_mended(call) for call in calls]
        if any(new is not old for new, old in zip(mended, calls, strict=True)):
            out = list(messages) if out is messages else out
            out[at] = {**one, "tool_calls": mended}
    return out


def _mended(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    whole = whole_object(function["arguments"])
    return call if whole == function["arguments"] else {**call, "function": {**function, "arguments": whole}}


def whole_object(arguments: Any) -> str:
    """A call's arguments as an object in JSON that every parser takes; an empty one where they are none. Models write
    NaN, numbers without end, halves of a character and line ends in a text, too: null, `?`, and an escape."""
    try:
        return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
    except ValueError:
        return _strict(arguments)


def _strict(arguments: Any) -> str:
    try:
        told = json.loads(
            arguments, strict=False, parse_constant=lambda _: None, parse_float=_finite, parse_int=_finite
        )
        text = json.dumps(told, ensure_ascii=False) if isinstance(told, dict) else "{}"
    except (ValueError, TypeError, RecursionError):
        return "{}"
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(text: str) -> float | int | None:
    number = float(text)
    if not math.isfinite(number):
        return None
    return int(text) if text.lstrip("-").isdigit() else number


def choice_among(choice: Any, tools: list[Event]) -> tuple[str | None, list[Event]]:
    """The choice as a word, which is all that llama-server understands, and the tools that it leaves. In all forms:
    `any`; `{"type": "function", "function": {"name": ...}}`, the same without the inner object, `{"type": "tool",
    "name": ...}`; `allowed_tools` with its tools inside or beside. Raises NotUnderstood where it asks for a call that
    cannot be made."""
    word, left = choice, tools
    if isinstance(choice, Mapping):
        word = "auto"
        kind = choice.get("type")
        if kind == "allowed_tools":
            inside = choice.get("allowed_tools")
            allowed = inside if isinstance(inside, Mapping) else choice
            names = {_name(one) for one in allowed["tools"]}
            word, left = allowed.get("mode", "auto"), [one for one in tools if _name(one) in names]
        elif kind in ("function", "tool"):
            word, left = "required", [one for one in tools if _name(one) == _name(choice)]
        elif kind in ("any", "none", "auto", "required"):
            word = kind
    if word == "any":
        word = "required"
    if word == "required" and not left:
        raise NotUnderstood(_NO_CALL)
    return word, left


def _name(tool: Any) -> Any:
    """Of a tool or of a choice, wherever its API has it."""
    inner = tool.get("function") if isinstance(tool, Mapping) else None
    return (inner if isinstance(inner, Mapping) else tool).get("name") if isinstance(tool, Mapping) else None
