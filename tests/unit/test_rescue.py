"""rescue.py: clients get proper calls for those written as text, in streams and whole answers, of both APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_assembly import Pieces
from tests.unit.test_toolcalls import CALLS, OFFERED, TEXTS
from variet.engine.apis import CHAT
from variet.engine.assembly import Events, assembly_for, gather
from variet.engine.messages import MessagesStream, to_message
from variet.engine.rescue import RescuedStream, rescue_whole, tools_for, writes_calls_as_text

ASKED = {"messages": [], "tools": OFFERED}
TOOLS = tools_for(ASKED)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def stream(text: str, sizes: list[int], *, finish: str = "stop", field: str = "content") -> bytes:
    """An answer as llama-server streams it, in words of the given sizes."""
    parts, at = [chunk({"role": "assistant", "content": None})], 0
    for size in [*sizes, len(text)]:
        if at < len(text):
            parts.append(chunk({field: text[at : at + size]}))
            at += size
    usage = {"choices": [], "object": "chat.completion.chunk", "usage": {"completion_tokens": 3}}
    last = chunk({}, finish, timings={"predicted_n": 3})
    return b"".join([*parts, last, b"data: " + json.dumps(usage).encode() + b"\n\n", b"data: [DONE]\n\n"])


def run(work: Any) -> Any:
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


async def everything(source: Any) -> bytes:
    parts = []
    while part := await source.read():
        parts.append(part)
    return b"".join(parts)


def rescued(raw: bytes, cuts: list[int]) -> bytes:
    out: bytes = run(everything(RescuedStream(Pieces(raw, cuts), TOOLS)))
    return out


def put_together(raw: bytes) -> dict[str, Any]:
    assembly = assembly_for(CHAT, {})
    assert assembly is not None
    whole: dict[str, Any] = run(gather(Pieces(raw, []), assembly))
    return whole


def called(message: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message["tool_calls"]]


SIZES = st.lists(st.integers(1, 20), max_size=60)
CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@pytest.mark.parametrize(("text", "left", "calls"), CALLS)
@settings(max_examples=8)
@given(sizes=SIZES, cuts=CUTS)
def test_calls_of_a_stream(
    text: str, left: str, calls: list[tuple[str, dict[str, Any]]], sizes: list[int], cuts: list[int]
) -> None:
    raw = rescued(stream(text, sizes), cuts)
    whole = put_together(raw)
    (choice,) = whole["choices"]
    assert (choice["message"]["content"] or "") == left and called(choice["message"]) == calls
    assert choice["finish_reason"] == "tool_calls" and whole["timings"] == {"predicted_n": 3}
    assert raw.endswith(b"data: [DONE]\n\n") and b'"usage"' in raw
    ids = [one["id"] for one in choice["message"]["tool_calls"]]
    assert len(set(ids)) == len(ids) and all(ids)


@pytest.mark.parametrize("text", [one for one in TEXTS if one])
@settings(max_examples=8)
@given(sizes=SIZES, cuts=CUTS)
def test_text_of_a_stream_stays_text(text: str, sizes: list[int], cuts: list[int]) -> None:
    whole = put_together(rescued(stream(text, sizes), cuts))
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == text and "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


@given(cuts=CUTS)
def test_what_needs_no_rescue_passes_byte_for_byte(cuts: list[int]) -> None:
    native = {"index": 0, "id": "x", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}
    for raw in (
        stream("Plain words, nothing else.", [5] * 6),
        chunk({"role": "assistant", "content": None}) + chunk({"tool_calls": [native]}) + chunk({}, "tool_calls"),
        b'data: {"error": {"message": "no"}}\n\n',
        b": a comment\n\ndata: half",
    ):
        assert rescued(raw, cuts) == raw


def test_an_answer_that_was_cut_is_not_called_finished() -> None:
    text = '<tool_call>{"name": "read_file", "arguments": {"path": "a.txt"}}'
    (choice,) = put_together(rescued(stream(text, [9] * 9, finish="length"), []))["choices"]
    assert choice["finish_reason"] == "length"


def test_a_call_left_in_the_thinking_counts_where_nothing_else_is_said() -> None:
    text = 'I should look.\n<tool_call>{"name": "read_file", "arguments": {"path": "a.txt"}}</tool_call>'
    (choice,) = put_together(rescued(stream(text, [9] * 9, field="reasoning_content"), []))["choices"]
    assert called(choice["message"]) == [("read_file", {"path": "a.txt"})]
    assert choice["message"]["reasoning_content"] == text
    message = {"content": "It is done.", "reasoning_content": text}
    chat = {"choices": [{"message": message, "finish_reason": "stop"}]}
    assert rescue_whole(chat, TOOLS) is chat


@pytest.mark.parametrize(("text", "left", "calls"), CALLS)
def test_calls_of_a_whole_answer(text: str, left: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    chat = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    (choice,) = rescue_whole(chat, TOOLS)["choices"]
    assert called(choice["message"]) == calls and choice["message"]["content"] == left
    uses = [one for one in to_message(rescue_whole(chat, TOOLS))["content"] if one["type"] == "tool_use"]
    assert [(one["name"], one["input"]) for one in uses] == calls


@given(sizes=SIZES)
def test_anthropic_s_clients_get_a_use(sizes: list[int]) -> None:
    text = 'Let me see.\n\n```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```'
    messages = MessagesStream(RescuedStream(Pieces(stream(text, sizes), []), TOOLS), 10, 0)

    async def read() -> bytes:
        await messages.begun()
        return await everything(messages)

    events = Events().feed(run(read()))
    starts = [one["content_block"] for one in events if one["type"] == "content_block_start"]
    assert [one["type"] for one in starts] == ["text", "tool_use"] and starts[1]["name"] == "get_weather"
    end = next(one for one in events if one["type"] == "message_delta")
    assert end["delta"]["stop_reason"] == "tool_use"


def test_nothing_is_rescued_where_no_call_is_wished() -> None:
    assert not tools_for(None) and not tools_for({"tools": []}) and not tools_for({"messages": []})
    assert not tools_for({**ASKED, "tool_choice": "none"}) and not tools_for({**ASKED, "n": 2})
    assert rescue_whole({"choices": []}, {}) == {"choices": []}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen2.5 Coder 0.5B Instruct", True),
        ("qwen2.5-coder-1.5b-instruct", True),
        ("SmolLM2 135M Instruct", False),
        ("", False),
    ],
)
def test_models_that_are_known_to_need_it(name: str, expected: bool) -> None:
    assert writes_calls_as_text(name) is expected
