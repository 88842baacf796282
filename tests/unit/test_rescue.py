"""rescue.py: clients get proper calls for those written as text, in streams and whole answers, of both APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clients import response_of
from tests.unit.test_assembly import Pieces
from tests.unit.test_toolcalls import CALLS, OFFERED, TEXTS
from variet.engine.apis import CHAT
from variet.engine.assembly import Events, assembly_for, gather
from variet.engine.dialects.base import Dialect, TranslatedStream
from variet.engine.dialects.messages import Messages, to_message
from variet.engine.dialects.responses import Responses
from variet.engine.rescue import RescuedStream, rescue_for, rescue_whole, writes_calls_as_text
from variet.engine.upstream import UpstreamError

ASKED = {"messages": [], "tools": OFFERED}
TOOLS = rescue_for(ASKED)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}
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


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_half_a_call_is_no_call(field: str) -> None:
    """An answer that was cut is text, however whole its calls look: the rest might have taken them back."""
    text = '<tool_call>{"name": "read_file", "arguments": {"path": "a.txt"}}</tool_call>'
    (choice,) = put_together(rescued(stream(text, [9] * 9, finish="length", field=field), []))["choices"]
    assert choice["finish_reason"] == "length" and "tool_calls" not in choice["message"]
    assert choice["message"][field] == text
    chat = {"choices": [{"message": {field: text}, "finish_reason": "length"}]}
    assert rescue_whole(chat, TOOLS) is chat


HELD = 'Hm.\n```json\n{"name": "read_file", "arguments": {"path": "a.txt"}}'


def test_what_is_held_becomes_text_when_the_child_calls_by_itself() -> None:
    native = {"index": 0, "id": "x", "type": "function", "function": {"name": "list_files", "arguments": "{}"}}
    raw = chunk({"content": HELD}) + chunk({"tool_calls": [native]}) + chunk({}, "tool_calls")
    (choice,) = put_together(rescued(raw, []))["choices"]
    assert choice["message"]["content"] == HELD and called(choice["message"]) == [("list_files", {})]


def words(raw: bytes) -> str:
    events = [json.loads(line[6:]) for line in raw.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in events if "choices" in one)


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b'data: {"error": {"message": "no"}}\n\n', b""])
def test_what_is_held_becomes_text_where_a_stream_ends_without_its_end(end: bytes) -> None:
    raw = rescued(chunk({"content": HELD}) + end, [])
    assert words(raw) == HELD and raw.endswith(end)


def test_what_is_held_is_told_before_a_child_s_death() -> None:
    class Dying(Pieces):
        async def read(self) -> bytes:
            piece = await super().read()
            if not piece:
                raise UpstreamError("gone")
            return piece

    stream = RescuedStream(Dying(chunk({"content": HELD}), []), TOOLS)

    async def read() -> bytes:
        parts = []
        with pytest.raises(UpstreamError):
            while True:
                parts.append(await stream.read())
        return b"".join(parts)

    assert words(run(read())) == HELD


def test_several_calls_are_several_only_where_that_is_wished() -> None:
    text = '{"name": "read_file", "arguments": {"path": "a.txt"}}\n' * 2
    one_by_one = rescue_for({**ASKED, "parallel_tool_calls": False})
    raw: bytes = run(everything(RescuedStream(Pieces(stream(text, [9] * 20), []), one_by_one)))
    (choice,) = put_together(raw)["choices"]
    assert called(choice["message"]) == [("read_file", {"path": "a.txt"})]


def test_another_answer_beside_it_passes() -> None:
    other = json.dumps({"choices": [{"index": 1, "delta": {"content": "```json\n"}, "finish_reason": None}]}).encode()
    raw = chunk({"content": "<tool"}) + b"data: " + other + b"\n\n"
    assert b"data: " + other + b"\n\n" in rescued(raw, [])


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


def translated(dialect: Dialect, pieces: Pieces) -> TranslatedStream:
    return TranslatedStream(RescuedStream(pieces, TOOLS), dialect, 10, 0)


@given(sizes=SIZES)
def test_anthropic_s_clients_get_a_use(sizes: list[int]) -> None:
    text = 'Let me see.\n\n```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```'
    messages = translated(Messages({"messages": []}), Pieces(stream(text, sizes), []))

    async def read() -> bytes:
        await messages.begun()
        return await everything(messages)

    events = Events().feed(run(read()))
    starts = [one["content_block"] for one in events if one["type"] == "content_block_start"]
    assert [one["type"] for one in starts] == ["text", "tool_use"] and starts[1]["name"] == "get_weather"
    end = next(one for one in events if one["type"] == "message_delta")
    assert end["delta"]["stop_reason"] == "tool_use"


@given(sizes=SIZES)
def test_clients_of_responses_get_a_call(sizes: list[int]) -> None:
    text = 'Let me see.\n\n```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```'
    answer = translated(Responses({"input": "?"}), Pieces(stream(text, sizes), []))

    async def read() -> bytes:
        await answer.begun()
        return await everything(answer)

    said, call = response_of(Events().feed(run(read())))["output"]
    assert said["content"][0]["text"].strip() == "Let me see."
    assert (call["name"], json.loads(call["arguments"]), call["status"]) == (
        "get_weather",
        {"city": "Paris"},
        "completed",
    )


def test_anthropic_s_clients_hear_that_somebody_is_there_while_a_call_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("variet.engine.rescue._SIGN_OF_LIFE_S", 0.0)
    text = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
    messages = translated(Messages({"messages": []}), Pieces(stream(text, [5] * 9), list(range(0, 9000, 50))))
    run(messages.begun())
    raw: bytes = run(everything(messages))
    assert raw.index(b"event: ping") < raw.index(b'"tool_use"')


def test_nothing_is_rescued_where_no_call_is_wished() -> None:
    assert not rescue_for(None) and not rescue_for({"tools": []}) and not rescue_for({"messages": []})
    form = {"type": "json_schema", "json_schema": {}}
    for asked in ({"tool_choice": "none"}, {"n": 2}, {"n_cmpl": 2}, {"logprobs": True}, {"response_format": form}):
        assert not rescue_for({**ASKED, **asked})
    assert rescue_whole({"choices": []}, rescue_for(None)) == {"choices": []}


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
