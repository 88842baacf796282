"""Anthropic's Messages and OpenAI's chat say the same; with a real child: integration/test_messages.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clients import message_of
from tests.unit.test_assembly import CHAT, Pieces, chunk, sse
from variet.engine.apis import APIS
from variet.engine.assembly import Broken, Events, assembly_for
from variet.engine.dialects.base import NotUnderstood, TranslatedStream
from variet.engine.dialects.messages import Messages, to_chat, to_message

TOOL = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}


def said(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return to_chat({"messages": [{"role": role, "content": list(blocks)}]})[0]["messages"][0]  # type: ignore[no-any-return]


def test_a_request_becomes_a_chat() -> None:
    chat, _ = to_chat({
        "model": "fast", "stream": True, "temperature": 0.5, "seed": 3, "tools": [TOOL], "stop_sequences": ["x"],
        "system": [{"type": "text", "text": "Be kind."}], "messages": [{"role": "user", "content": "hi"}],
        "tool_choice": {"type": "any"}, "metadata": {"user_id": "u"}, "context_management": {}, "betas": ["b"],
    })  # fmt: skip
    assert chat == {
        "model": "fast", "stream": True, "temperature": 0.5, "seed": 3, "max_tokens": 4096,
        "stop": ["x"], "verbose": True,
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        "tools": [{
            "type": "function",
            "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}},
        }],
        "tool_choice": "required",
    }  # fmt: skip
    json.dumps(chat)


def test_blocks_become_parts_calls_and_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert said(image)["content"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    note = {"type": "document", "source": {"type": "text", "data": "a note"}}
    assert said(note, {"type": "document", "source": {"type": "base64", "data": "JVBERi0="}})["content"] == [
        {"type": "text", "text": "a note"},
        {"type": "text", "text": "(a document that cannot be read here: send its text)"},
    ]
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}
    answer = said({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."}, use, role="assistant")
    assert answer["reasoning_content"] == "hm" and answer["content"] == [{"type": "text", "text": "I look."}]
    assert answer["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at":1}'}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "nothing"}]}
    told = {"role": "user", "content": [{"type": "text", "text": "and?"}, result]}
    turns = to_chat({"messages": [told]})[0]["messages"]
    assert [turn["role"] for turn in turns] == ["tool", "user"], "a result follows its call at once"
    assert turns[0] == {"role": "tool", "tool_call_id": "t", "content": "nothing"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 99}}, {"thinking_budget_tokens": 99}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
         {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
    ],
)  # fmt: skip
def test_wishes_are_kept(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    chat, passed_over = to_chat({"messages": [], **asked})
    assert chat == {"messages": [], "max_tokens": 4096, **expected} and not passed_over


@pytest.mark.parametrize(
    "wrong",
    [{"messages": 3}, {"messages": ["hi"]}, {"messages": [{"content": ["hi"]}]}, {"messages": [], "tools": [3]}],
)
def test_what_is_no_such_request_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood, match="lists of objects"):
        Messages(wrong)


def translate(raw: bytes, cuts: list[int] | None = None) -> tuple[list[dict[str, Any]], TranslatedStream]:
    """The events that a client of Messages reads of a chat's stream."""
    stream = TranslatedStream(Pieces(raw, cuts or []), Messages({"messages": []}), prompt=50, cached=40)

    async def read() -> bytes:
        await stream.begun()
        parts = []
        while part := await stream.read():
            parts.append(part)
        return b"".join(parts)

    try:
        read().send(None)
    except StopIteration as done:
        return Events().feed(done.value), stream
    raise AssertionError("it waited")


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_a_stream_says_what_the_whole_answer_does(cuts: list[int]) -> None:
    events, stream = translate(sse(*CHAT), cuts)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"] and stream.ended
    assert events[0]["message"]["usage"] == {"input_tokens": 10, "cache_read_input_tokens": 40, "output_tokens": 0}
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 4
    assert b'"predicted_n": 9' in stream.tail, "the child's own count is kept for ours"
    whole = message_of(events)
    chat = assembly_for(APIS["/v1/chat/completions"], {})
    assert chat is not None
    for event in CHAT:
        chat.take(event)
    told = chat.whole()
    assert told is not None
    message = to_message(told)
    assert {**whole, "usage": None, "model": None} == {**message, "usage": None, "model": None}
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert message["stop_reason"] == "tool_use" and message["content"][2]["input"] == {"x": 1}


def test_the_end_says_why() -> None:
    last = {**chunk({}, "stop"), "__verbose": {"stopping_word": "x"}, "timings": {"predicted_n": 2}}
    events, _ = translate(sse(chunk({"content": "a"}), last))
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": "x"}
    assert events[-2]["usage"] == {"output_tokens": 2}
    cut = {
        "choices": [
            {
                "message": {
                    "content": "",
                    "tool_calls": [{"id": "t", "function": {"name": "look", "arguments": '{"x'}}],
                },
                "finish_reason": "length",
            }
        ]
    }
    message = to_message(cut)
    assert message["stop_reason"] == "max_tokens" and message["content"][0]["input"] == {}


@pytest.mark.parametrize("raw", [sse(*CHAT[:3], done=False), sse(CHAT[0], {"error": {"message": "no"}})])
def test_what_breaks_off_never_ends_as_if_it_were_whole(raw: bytes) -> None:
    with pytest.raises(Broken):
        translate(raw)
