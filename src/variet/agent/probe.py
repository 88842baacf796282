"""Tries what a model at its server does, once: two short answers, and some looks at how its template writes things.

What it reads for that begins as the session will, so that it is not read twice.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from variet.agent.abilities import Abilities, Reasoning
from variet.agent.formats.base import Draft, Message
from variet.agent.formats.native import Native
from variet.agent.model import CallPiece, Finished, Model, ModelFacts, ReasoningPiece, TextPiece, Waiting
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace
from variet.errors import AnswerFailed, ContextFull, StreamBroken

log = logging.getLogger("variet.agent")

_MOST_TOKENS = 400  # of a call, its reasoning included
_ASKED = "List the files of this folder: call the tool for that."
_THOUGHT, _RESULT = "variet-thought", "variet-result"  # found again in what a template writes
_CALL = {"id": "call_1", "type": "function", "function": {"name": "list", "arguments": '{"path":"."}'}}
# What nobody would answer unless they must.
_SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["violet"]}}, "required": ["colour"]}
_SWITCHED_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_PRESERVED = {"chat_template_kwargs": {"preserve_thinking": True}}

Tell = Callable[[Mapping[str, Any]], None]


async def tried(
    model: Model, facts: ModelFacts, system: str, tools: Toolbox, workspace: Workspace, tell: Tell, *, in_fences: bool
) -> Abilities | None:
    """What it does. `system`: what the session begins with; `tell`: hears where a request stands, while the model
    loads; `in_fences`: it is to write files and commands, and call nothing. None where its server cannot say how its
    template writes things: it is no llama-server. Raises AnswerFailed where there is no answer."""
    speak = _Speak(model, facts.name, tell)
    await speak.ask({"messages": [_user("Hello.")], "max_tokens": 1})  # loads it, with progress
    if await model.render({"model": facts.name, "messages": [_user("Hello.")]}) is None:
        return None
    if in_fences:
        begun = [_user("Count."), {"role": "assistant", "content": "one, two,"}]
        written = await model.render({"model": facts.name, "messages": begun}) or ""
        return Abilities(schema_held=await _schema_held(speak), goes_on=written.rstrip().endswith("two,"))
    fields = Native().request(tools)
    reasoning = await reasoning_of(lambda body: model.render({"model": facts.name, **fields, **body}))
    fields |= _SWITCHED_OFF if reasoning == "switched_off" else {}
    messages = [{"role": "system", "content": system}, _user(_ASKED)]
    calls = await _calls(speak, {"messages": messages, **fields}, tools, workspace) if tools.tools else None
    return Abilities(reasoning=reasoning, calls=calls)


async def reasoning_of(render: Callable[[dict[str, Any]], Any]) -> Reasoning:
    """By what the template writes of one conversation, and of the same with a further turn behind it."""
    answer: Message = {"role": "assistant", "content": "", "reasoning_content": _THOUGHT, "tool_calls": [_CALL]}
    first = [_user("a"), answer, {"role": "tool", "tool_call_id": "call_1", "content": _RESULT}]
    said = {"role": "assistant", "content": "b", "reasoning_content": "further"}
    second = [*first, said, _user("c")]

    async def written(messages: list[Message], **fields: Any) -> str:
        return str(await render({"messages": messages, **fields}) or "")

    async def grows(**fields: Any) -> bool:
        """Whether the reasoning is there, and nothing up to the result changes with a further turn."""
        before, after = await written(first, **fields), await written(second, **fields)
        end = before.find(_RESULT)
        return _THOUGHT in before[: max(0, end)] and _common(before, after) >= end

    shown = _THOUGHT in await written(first)
    if shown and await grows():
        return "kept"
    if await grows(**_PRESERVED):
        return "preserved"
    asked = [_user("a")]
    if await written(asked) != await written(asked, **_SWITCHED_OFF):
        return "switched_off"
    return "dropped" if shown else "ignored"


async def _calls(speak: _Speak, asked: dict[str, Any], tools: Toolbox, workspace: Workspace) -> bool | None:
    """Whether it calls a tool of ours as the tool wants it; None where it thought so long that nobody knows."""
    draft = await speak.ask({**asked, "max_tokens": _MOST_TOKENS, "temperature": 0})
    numbers = itertools.count(1)
    understood = Native().understand(draft, tools, workspace, lambda: f"call_{next(numbers)}")
    if not understood.calls and draft.finish == "length" and draft.reasoning:
        return None
    return any(not call.broken and tools.find(call.tool) is not None for call in understood.calls)


async def _schema_held(speak: _Speak) -> bool:
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": _SCHEMA}}
    asked = {"messages": [_user("Which colour is grass? Answer as JSON.")], "response_format": form, "max_tokens": 30}
    try:
        draft = await speak.ask({**asked, "temperature": 0})
        return bool(json.loads(draft.text) == {"colour": "violet"})
    except (StreamBroken, ContextFull):
        raise
    except (AnswerFailed, ValueError) as error:  # it refuses the field, or does not heed it
        log.info("answers are not held to a schema: %s", error)
        return False


class _Speak:
    """One model, asked something outside any conversation."""

    def __init__(self, model: Model, name: str, tell: Tell) -> None:
        self._model, self._name, self._tell = model, name, tell

    async def ask(self, body: dict[str, Any]) -> Draft:
        """Raises AnswerFailed."""
        draft = Draft()
        asked = {"model": self._name, "stream": True, **body}
        async with contextlib.aclosing(self._model.answer(asked)) as stream:  # type: ignore[type-var]
            async for piece in stream:
                if isinstance(piece, Waiting):
                    self._tell(piece.facts)
                elif isinstance(piece, TextPiece):
                    draft.text += piece.text
                elif isinstance(piece, ReasoningPiece):
                    draft.reasoning += piece.text
                elif isinstance(piece, CallPiece):
                    draft.take(piece.index, piece.name, piece.arguments)
                elif isinstance(piece, Finished):
                    draft.finish = piece.finish
        return draft


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _common(one: str, other: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
