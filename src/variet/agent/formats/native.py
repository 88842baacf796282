"""Tools in the request's own field, calls as `tool_calls`. A call written as text is found all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from variet import toolcalls
from variet.agent.events import CallPart, MessageDone, ReasoningPart, TextPart, ToolEnded
from variet.agent.formats.base import Draft, Message, Understood
from variet.agent.formats.repair import arguments_of, is_object
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace


class Native:
    name = "native"
    check_failed = "The check fails. Find the cause and mend it."
    unwritten = "Nothing was changed yet."
    idle = (
        "Nothing was changed in this turn: no file was written, no command was run. If something is to be changed, do "
        "it now; if not, say so."
    )
    small = False
    guided = False

    def __init__(self, *, replay_reasoning: bool = False) -> None:
        self._replay_reasoning = replay_reasoning

    def system(self, prompt: str, tools: Toolbox) -> str:
        return prompt

    def request(self, tools: Toolbox) -> dict[str, Any]:
        return {"tools": tools.schemas()} if tools.tools else {}  # some servers refuse an empty list

    def sieve(self, tools: Toolbox) -> toolcalls.Sieve:
        return toolcalls.Sieve(known_tools(tools))

    def enough(self, text: str, *, checked: bool, guided: bool = False) -> int | None:
        return None

    def understand(self, draft: Draft, tools: Toolbox, workspace: Workspace, new_id: Callable[[], str]) -> Understood:
        if draft.calls:
            calls = []
            for name, written in draft.calls:
                args, _ = arguments_of(written)
                # What is no JSON object would make the template refuse every later request.
                replayed = written if is_object(written) else json.dumps(args or {})
                calls.append(_part(new_id(), name, args, replayed, tools))
            if draft.finish == "length":  # the last one may be cut where nobody sees it
                calls[-1] = calls[-1].model_copy(update={"broken": True})
            return Understood(draft.text, tuple(calls))
        return rescued(draft, tools, new_id)

    def answer(self, message: MessageDone) -> Message:
        text = "".join(part.text for part in message.content if isinstance(part, TextPart))
        replay: Message = {"role": "assistant", "content": text if message.raw is None else message.raw}
        calls = [part for part in message.content if isinstance(part, CallPart)]
        if calls and message.raw is None:
            replay["tool_calls"] = [
                {"id": one.call_id, "type": "function",
                 "function": {"name": one.written_name or one.tool, "arguments": one.written}}
                for one in calls
            ]  # fmt: skip
        reasoning = "".join(part.text for part in message.content if isinstance(part, ReasoningPart))
        if reasoning and self._replay_reasoning:
            replay["reasoning_content"] = reasoning
        return replay

    def results(self, results: Sequence[tuple[CallPart, ToolEnded]]) -> list[Message]:
        return [{"role": "tool", "tool_call_id": call.call_id, "content": end.content} for call, end in results]


def rescued(draft: Draft, tools: Toolbox, new_id: Callable[[], str]) -> Understood:
    """Calls that were written as text, or lost in the reasoning. Those in the middle of prose are quoted, not made: a
    file that the model read may hold some."""
    known = known_tools(tools)
    text, found = toolcalls.find(draft.text, known)
    raw: str | None = draft.text
    said = draft.text.strip()
    meant = said.startswith(text.strip()) or said.endswith(text.strip())
    if not found and not said and draft.reasoning:
        thought, found = toolcalls.find(draft.reasoning, known)
        text, raw, meant = "", None, draft.reasoning.strip().startswith(thought.strip())
    if not found or not meant:
        return Understood(draft.text)
    calls = tuple(_part(new_id(), one.name, one.arguments, one.written, tools) for one in found)
    return Understood(text.strip(), calls, raw)


def known_tools(tools: Toolbox) -> dict[str, toolcalls.Tool]:
    """As the shared parser wants them: by each name that finds one, with no arguments required, since names of
    arguments vary as names of tools do; what lacks is told by the tool."""
    names = {*tools.tools, *(alias for alias, name in tools.aliases.items() if name in tools.tools)}
    return {name: toolcalls.Tool(name) for name in names}


def _part(call_id: str, name: str, args: dict[str, Any] | None, written: str, tools: Toolbox) -> CallPart:
    tool = tools.find(name)
    real = tool.name if tool else name
    return CallPart(
        call_id=call_id, tool=real, args=args if args is not None else {}, written=written or json.dumps(args or {}),
        written_name=name if name != real else "", broken=args is None,
    )  # fmt: skip
