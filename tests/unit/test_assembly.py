"""An answer put together is what the stream said, however the bytes came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.engine.apis import APIS
from variet.engine.assembly import Broken, Events, assembly_for, gather

CALL = {"type": "function", "function": {"name": "look", "arguments": ""}}


def sse(*events: dict[str, Any], done: bool = True) -> bytes:
    lines = [
        f"event: {one['type']}\ndata: {json.dumps(one)}" if "type" in one else f"data: {json.dumps(one)}"
        for one in events
    ]
    return ("\n\n".join([*lines, *(["data: [DONE]"] if done else [])]) + "\n\n").encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"choices": choices, "id": "c1", "object": "chat.completion.chunk", "model": "m", **more}


CHAT = [
    chunk({"role": "assistant", "content": None}),
    chunk({"reasoning_content": "hm"}),
    chunk({"reasoning_content": "m"}),
    chunk({"content": "Grü"}),
    chunk({"content": "ße"}),
    chunk({"tool_calls": [{"index": 0, "id": "a", **CALL}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", **CALL}]}),
    chunk({}, "tool_calls", timings={"predicted_n": 9}),
    {"choices": [], "id": "c1", "object": "chat.completion.chunk", "usage": {"completion_tokens": 9}},
]
WHOLE_CHAT = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Grüße",
                "reasoning_content": "hmm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}},
                    {"id": "b", "type": "function", "function": {"name": "look", "arguments": ""}},
                ],
            },
        }
    ],
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "timings": {"predicted_n": 9},
    "usage": {"completion_tokens": 9},
}


class Pieces:
    """A stream cut at given places."""

    ended = False

    def __init__(self, raw: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
        self._pieces = [raw[start:end] for start, end in pairwise(places)]

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def put_together(path: str, raw: bytes, cuts: list[int] | None = None, **body: Any) -> dict[str, Any]:
    assembly = assembly_for(APIS[path], body)
    assert assembly is not None
    coroutine = gather(Pieces(raw, cuts or []), assembly)
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: dict[str, Any] = done.value
        return answer
    raise AssertionError("it waited")


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_chat_is_put_together_wherever_the_pieces_end(cuts: list[int]) -> None:
    assert put_together("/v1/chat/completions", sse(*CHAT), cuts) == WHOLE_CHAT


def test_the_other_apis() -> None:
    parts = [
        {"choices": [{"text": text, "index": 0, "finish_reason": end}], "id": "x"}
        for text, end in (("a", None), ("b", "stop"))
    ]
    assert put_together("/v1/completions", b"data: null\n\n" + sse(*parts)) == {
        "choices": [{"text": "ab", "index": 0, "logprobs": None, "finish_reason": "stop"}], "id": "x",
    }  # fmt: skip
    native = (
        {"content": "a", "tokens": [1], "stop": False},
        {"content": "", "tokens": [], "stop": True, "generation_settings": {"stream": True}},
    )
    whole = {"content": "a", "stop": True, "generation_settings": {"stream": False}}
    assert put_together("/completion", sse(*native)) == {**whole, "tokens": []}
    assert put_together("/infill", sse(*native), return_tokens=True) == {**whole, "tokens": [1]}


@pytest.mark.parametrize(
    "raw",
    [
        sse(*CHAT[:-2]),
        sse(CHAT[0], {"error": {"message": "Invalid diff"}}),
        b"data: {oops\n\n",
        sse(*CHAT[:3], done=False),
    ],
    ids=["no last event", "an error", "no JSON", "cut"],
)
def test_what_is_not_whole_is_never_taken_for_it(raw: bytes) -> None:
    with pytest.raises(Broken):
        put_together("/v1/chat/completions", raw)


def test_an_anthropic_error_is_one() -> None:
    with pytest.raises(Broken, match="overloaded"):
        Events().feed(sse({"type": "error", "error": {"type": "overloaded_error"}}))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/chat/completions", {"logprobs": True}),
        ("/v1/chat/completions", {"n": 2}),
        ("/v1/chat/completions", {"timings_per_token": True}),
        ("/v1/completions", {"logprobs": 1}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/completion", {"n_probs": 2}),
        ("/completion", {"response_fields": ["content"]}),
        ("/v1/embeddings", {"input": "a"}),
        ("/tokenize", {"content": "a"}),
    ],
)  # fmt: skip
def test_what_a_stream_does_not_tell_is_left_to_the_child(path: str, body: dict[str, Any]) -> None:
    assert assembly_for(APIS[path], body) is None
    assert assembly_for(APIS["/v1/chat/completions"], {"stream": False, "n": 1, "logprobs": False}) is not None


@pytest.mark.parametrize("odd", [{"choices": [3]}, {"choices": [{"delta": 3}]}, {"choices": 3}])
def test_an_answer_of_another_form_is_broken_not_a_crash(odd: dict[str, Any]) -> None:
    with pytest.raises(Broken):
        put_together("/v1/chat/completions", sse(CHAT[0], odd))
