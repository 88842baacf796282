"""Tries what a model at its server does, once: a short answer, and some looks at how its template writes things."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from variet.agent.abilities import Abilities, Reasoning
from variet.agent.formats.base import Draft, Message
from variet.agent.formats.native import Native
from variet.agent.model import CallPiece, Finished, Model, ModelFacts, ReasoningPiece, TextPiece, Waiting
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace
from variet.errors import AnswerFailed

log = logging.getLogger("variet.agent")

_MOST_TOKENS = 400  # of a call, its reasoning included
_ASKED = "List the files of this folder: call the tool for that."
_THOUGHT, _RESULT = "variet-thought", "variet-result"  # found again in what a template writes
_CALL_ID = "c00000001"  # nine letters and digits: Mistral's templates refuse any other
_CALL = {"id": _CALL_ID, "type": "function", "function": {"name": "list", "arguments": '{"path":"."}'}}
# What nobody would answer unless they must.
_SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["violet"]}}, "required": ["colour"]}
SWITCHED_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
# What templates call it: Qwen3.6; GLM 4.7; Nemotron 3.
PRESERVED = {
    "chat_template_kwargs": {"preserve_thinking": True, "clear_thinking": False, "truncate_history_thinking": False}
}

Tell = Callable[[Mapping[str, Any]], None]


async def load(model: Model, name: str, tell: Tell) -> None:
    """Has a model loaded; `tell` hears where that stands. Raises AnswerFailed."""
    await _Speak(model, name, tell).ask({"messages": [_user("Hello.")], "max_tokens": 1})


async def tried(
    model: Model, facts: ModelFacts, system: str, tools: Toolbox, workspace: Workspace, tell: Tell, *, in_fences: bool
) -> Abilities | None:
    """What a loaded model does. `system`: what the session begins with, empty where nothing is to be called; `tell`:
    hears where a request stands; `in_fences`: it is to write files and commands, and call nothing. None where its
    server cannot say how its template writes things: it is no llama-server. Raises AnswerFailed where there is no
    answer."""
    speak = _Speak(model, facts.name, tell)
    if await model.render({"model": facts.name, "messages": [_user("Hello.")]}) is None:
        return None
    if in_fences:
        begun = [_user("Count."), {"role": "assistant", "content": "one, two,"}]
        written = await _written(model, {"model": facts.name, "messages": begun, **SWITCHED_OFF})
        return Abilities(schema_held=await _schema_held(speak), goes_on=written.rstrip().endswith("two,"))
    fields = Native().request(tools) if system else {}
    reasoning = await reasoning_of(lambda body: _written(model, {"model": facts.name, **fields, **body}))
    if not system:
        return Abilities(reasoning=reasoning)
    fields |= SWITCHED_OFF if reasoning == "switched_off" else {}
    messages = [{"role": "system", "content": system}, _user(_ASKED)]
    return Abilities(reasoning=reasoning, calls=await _calls(speak, {"messages": messages, **fields}, tools, workspace))


async def reasoning_of(render: Callable[[dict[str, Any]], Awaitable[str]]) -> Reasoning:
    """By what the template writes of one conversation, and of the same with a further turn behind it. `render`: what
    it writes, empty where it refuses."""
    call: Message = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    said: Message = {"role": "assistant", "content": "b"}
    result = {"role": "tool", "tool_call_id": _CALL_ID, "content": _RESULT}

    def turns(thought: str) -> tuple[list[Message], list[Message]]:
        more = {"reasoning_content": thought} if thought else {}
        first = [_user("a"), {**call, **more}, result]
        return first, [*first, {**said, **more}, _user("c")]

    async def grows(thought: str, **fields: Any) -> bool:
        """Whether the thought is there, and nothing up to the result changes with a further turn."""
        before, after = [await render({"messages": messages, **fields}) for messages in turns(thought)]
        end = before.find(_RESULT)
        return end >= 0 and thought in before[:end] and after.startswith(before[:end])

    shown = _THOUGHT in await render({"messages": turns(_THOUGHT)[0]})
    if not shown and not await grows(_THOUGHT, **PRESERVED):
        return "ignored"
    if shown and await grows(_THOUGHT):
        return "kept"
    if await grows(_THOUGHT, **PRESERVED):
        return "preserved"
    asked = {"messages": [_user("a")]}
    switch = await render(asked) != await render({**asked, **SWITCHED_OFF})
    # Some write an empty thought before each answer of a turn, and drop that as they would a full one.
    return "switched_off" if switch and await grows("", **SWITCHED_OFF) else "dropped"


async def _written(model: Model, body: dict[str, Any]) -> str:
    """What the template makes of it; empty where it refuses."""
    try:
        return await model.render(body) or ""
    except AnswerFailed as error:
        if not error.refuses_request:
            raise
        log.info("the template refuses it: %s", error)
        return ""


async def _calls(speak: _Speak, asked: dict[str, Any], tools: Toolbox, workspace: Workspace) -> bool | None:
    """Whether it calls a tool of ours as the tool wants it; None where it thought or talked so long that nobody
    knows."""
    try:
        draft = await speak.ask({**asked, "max_tokens": _MOST_TOKENS, "temperature": 0})
    except AnswerFailed as error:
        if not error.refuses_request:
            raise
        log.info("it takes no tools: %s", error)
        return False
    numbers = itertools.count(1)
    understood = Native().understand(draft, tools, workspace, lambda: f"c{next(numbers):08}")
    if any(not call.broken and tools.takes(call.tool, call.args) for call in understood.calls):
        return True
    return None if draft.finish == "length" else False


async def _schema_held(speak: _Speak) -> bool:
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": _SCHEMA}}
    asked = {"messages": [_user("Which colour is grass? Answer as JSON.")], "response_format": form, "max_tokens": 30}
    asked |= SWITCHED_OFF
    try:
        draft = await speak.ask({**asked, "temperature": 0})
        return bool(json.loads(draft.text) == {"colour": "violet"})
    except AnswerFailed as error:
        if not error.refuses_request:
            raise
        log.info("it takes no schema: %s", error)
    except ValueError:  # it does not heed it
        log.info("answers are not held to a schema: %s", draft.text)
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
