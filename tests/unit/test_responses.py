"""OpenAI's Responses and its chat say the same; with a real child: integration/test_responses.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from tests.support.clients import RESPONSE_EVENTS, response_of
from tests.unit.test_assembly import CHAT, WHOLE_CHAT, Pieces, chunk, sse
from variet.engine.assembly import Broken, Events
from variet.engine.dialects.base import NotUnderstood, TranslatedStream
from variet.engine.dialects.responses import Responses, seal
from variet.engine.problems import Problem

LOOK = {"type": "function", "name": "look", "description": "looks", "parameters": {"type": "object"}, "strict": False}
CHAT_LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}, "strict": False},
}
STEP = {**LOOK, "name": "step"}
SEEN = {"type": "function_call_output", "call_id": "c", "output": "a door"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def chat_of(*items: Any, **fields: Any) -> dict[str, Any]:
    return Responses({"input": list(items), **fields}).chat


def text(kind: str, words: str) -> dict[str, Any]:
    return {"type": kind, "text": words}


def call(name: str = "look", call_id: str = "c") -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": name, "arguments": '{"at":1}'}


def test_a_request_as_codex_sends_it_becomes_a_chat() -> None:
    asked = Responses({
        "model": "deep-coder", "stream": True, "store": False, "top_k": 20, "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer", "content": [text("input_text", "Mind the sandbox.")]},
            {"role": "user", "content": [text("input_text", "Rules."), text("input_text", "More.")]},
            {"type": "message", "role": "user", "content": [text("input_text", "Look around.")]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal("A door? Grüße.")},
            {"type": "message", "role": "assistant", "content": [text("output_text", "I look.")]},
            call(), call("step", "d"), SEEN, {**SEEN, "call_id": "d", "output": [text("input_text", "done")]},
            {"type": "web_search_call", "id": "ws", "status": "completed"},
        ],
        "tools": [LOOK, {"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}], "tool_choice": "auto",
        "parallel_tool_calls": True, "reasoning": {"effort": "high", "summary": "auto"},
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "text": {"verbosity": "low"},
        "max_output_tokens": 77, "metadata": {"a": "b"}, "client_metadata": {},
    })  # fmt: skip
    assert asked.chat == {
        "model": "deep-coder", "stream": True, "top_k": 20, "parallel_tool_calls": True, "max_tokens": 77,
        "reasoning_effort": "high", "tools": [CHAT_LOOK], "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "You are a coding agent.\n\nMind the sandbox."},
            {"role": "user", "content": [text("text", "Rules."), text("text", "More.")]},
            {"role": "user", "content": [text("text", "Look around.")]},
            {
                "role": "assistant", "content": "I look.", "reasoning_content": "A door? Grüße.",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}},
                    {"id": "d", "type": "function", "function": {"name": "step", "arguments": '{"at":1}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "a door"},
            {"role": "tool", "tool_call_id": "d", "content": "done"},
        ],
    }  # fmt: skip
    assert asked.passed_over == ("web_search_call", "tool web_search", "tool namespace")
    json.dumps(asked.chat)


def test_pictures_sounds_and_shown_thinking() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    (shown,) = chat_of({"role": "user", "content": [IMAGE, sound]})["messages"]
    assert shown == {"role": "user", "content": [CHAT_IMAGE, sound]}
    seen = {**SEEN, "output": [text("input_text", "see"), IMAGE]}
    turns = chat_of(call(), call(call_id="d"), seen, {**SEEN, "call_id": "d"}, {"role": "user", "content": "?"})[
        "messages"
    ]
    assert [turn["role"] for turn in turns] == ["assistant", "tool", "tool", "user", "user"], "after all results"
    assert turns[1]["content"] == "see" and turns[3]["content"] == [CHAT_IMAGE]
    assert chat_of(call(), seen)["messages"][-1]["content"] == [CHAT_IMAGE]
    thought = {"type": "reasoning", "summary": [], "content": [text("reasoning_text", "hm")]}
    assert chat_of(thought)["messages"] == [{"role": "assistant", "content": "", "reasoning_content": "hm"}]
    for empty in ({}, {"content": None, "encrypted_content": "gAAA"}, {"encrypted_content": "variet1.ü"}):
        kept = chat_of({"role": "user", "content": "hi"}, {"type": "reasoning", "summary": [], **empty})["messages"]
        assert [turn["role"] for turn in kept] == ["user"], "what nobody can read is no turn"


def test_a_picture_among_results_waits_for_their_end() -> None:
    thought = {"type": "reasoning", "summary": []}
    picture = {**SEEN, "output": [IMAGE]}
    turns = chat_of(call(), call(call_id="d"), picture, thought, {**SEEN, "call_id": "d"})["messages"]
    assert [turn["role"] for turn in turns] == ["assistant", "tool", "tool", "user"]


@pytest.mark.parametrize("arguments", ['{"at":', "", "[1]", "3", None])
def test_arguments_that_break_templates_are_not_told_again(arguments: Any) -> None:
    (turn,) = chat_of({**call(), "arguments": arguments, "status": "incomplete"})["messages"]
    assert turn["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(("output", "told"), [(None, ""), ({"ok": True}, '{"ok":true}'), ("x", "x"), ([], "")])
def test_results_are_texts(output: Any, told: str) -> None:
    assert chat_of(call(), {**SEEN, "output": output})["messages"][1]["content"] == told


def test_what_tools_of_other_kinds_did_is_told() -> None:
    patch = {"type": "custom_tool_call", "id": "x", "call_id": "p", "name": "apply_patch", "input": "*** Begin"}
    done = {"type": "custom_tool_call_output", "call_id": "p", "output": "Done."}
    shell = {"type": "local_shell_call", "call_id": "s", "action": {"command": ["ls"]}, "status": "completed"}
    turns = chat_of(patch, done, shell, {"type": "local_shell_call_output", "call_id": "s", "output": "a"})["messages"]
    calls = [turn["tool_calls"][0]["function"] for turn in turns if "tool_calls" in turn]
    assert calls == [
        {"name": "apply_patch", "arguments": '{"input":"*** Begin"}'},
        {"name": "local_shell_call", "arguments": '{"action":{"command":["ls"]}}'},
    ]
    assert [turn["content"] for turn in turns if turn["role"] == "tool"] == ["Done.", "a"]


def test_a_long_talk_is_read_once() -> None:
    """Adding to a text copies it: 8,000 messages took ten seconds so."""
    item = {"role": "assistant", "content": "x" * 500}
    (turn,) = chat_of(*[item] * 20_000)["messages"]
    assert len(turn["content"]) == 20_000 * 502 - 2


def test_later_words_of_the_system_are_the_user_s_there() -> None:
    turns = chat_of(
        {"role": "system", "content": "One."}, {"role": "developer", "content": [text("input_text", "Two.")]},
        {"role": "user", "content": "hi"}, {"role": "developer", "content": [text("input_text", "Three.")]},
    )["messages"]  # fmt: skip
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("system", "One.\n\nTwo."), ("user", "hi"), ("user", "<system-reminder>\nThree.\n</system-reminder>"),
    ]  # fmt: skip
    parts = {"role": "developer", "content": [text("input_text", "A."), text("input_text", "B.")]}
    assert chat_of(parts, instructions="Begin.")["messages"] == [{"role": "system", "content": "Begin.\n\nA.\nB."}]
    assert Responses({"input": "hi", "instructions": [{"role": "system", "content": "Be kind."}]}).chat["messages"] == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"},
    ]  # fmt: skip


SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"reasoning": {"effort": "none"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"reasoning": {"effort": None}}, {}),
        ({"reasoning": None, "tools": [], "tool_choice": None, "text": None, "max_output_tokens": None}, {}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
         {"response_format": {"type": "json_schema",
                              "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}}),
        ({"tools": [{"type": "function", "name": "a", "description": None, "parameters": None, "strict": None}]},
         {"tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}]}),
        ({"tools": [CHAT_LOOK]}, {"tools": [CHAT_LOOK]}),
        ({"tools": [LOOK, STEP], "tool_choice": {"type": "function", "name": "look"}},
         {"tools": [CHAT_LOOK], "tool_choice": "required"}),
        ({"tools": [LOOK, STEP],
          "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}},
         {"tools": [CHAT_LOOK], "tool_choice": "auto"}),
        ({"tools": [LOOK], "tool_choice": {"type": "web_search_preview"}},
         {"tools": [CHAT_LOOK], "tool_choice": "auto"}),
    ],
)  # fmt: skip
def test_wishes_are_kept(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    assert Responses({"input": "hi", **asked}).chat == {"messages": [{"role": "user", "content": "hi"}], **expected}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"input": 3}, "a text or a list"),
        ({"input": ["hi"]}, "objects with their types"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "send the items themselves"),
        ({"input": [{"role": "king", "content": "x"}]}, "not of 'king'"),
        ({"input": [{"role": "user"}]}, "objects with their types"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "'input_file' cannot be"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "pictures as data"),
        ({"input": "hi", "previous_response_id": "resp_1"}, "whole conversation"),
        ({"input": "hi", "conversation": {"id": "c"}}, "whole conversation"),
        ({"input": "hi", "background": True}, "without `background`"),
        ({"input": "hi", "tools": ["x"]}, "objects with their types"),
        ({"input": "hi", "tools": [{"type": "function", "parameters": {}}]}, "objects with their types"),
        ({"input": "hi", "prompt": {"id": "pmpt_1"}}, "prompts are not stored"),
        ({"input": "hi", "tools": [LOOK], "tool_choice": {"type": "function", "name": "fly"}}, "no function in"),
        ({"input": "hi", "tools": [{"type": "web_search"}], "tool_choice": "required"}, "no function in"),
        ({"input": "hi", "reasoning": "much"}, "objects with their types"),
    ],
)
def test_what_is_no_such_request_is_said(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(NotUnderstood, match=words):
        Responses(wrong)


def translate(raw: bytes, cuts: list[int] | None = None, **asked: Any) -> tuple[list[dict[str, Any]], TranslatedStream]:
    """The events that a client of Responses reads of a chat's stream."""
    stream = TranslatedStream(Pieces(raw, cuts or []), Responses({"input": "hi", **asked}))
    return read_all(stream), stream


def read_all(stream: TranslatedStream) -> list[dict[str, Any]]:
    async def read() -> bytes:
        await stream.begun()
        parts = []
        while part := await stream.read():
            parts.append(part)
        return b"".join(parts)

    try:
        read().send(None)
    except StopIteration as done:
        return Events().feed(done.value)
    raise AssertionError("it waited")


def lasting(response: dict[str, Any]) -> dict[str, Any]:
    """Without what is another one each time."""
    output = [{key: value for key, value in item.items() if key != "id"} for item in response["output"]]
    return {**response, "id": "", "created_at": 0, "completed_at": 0, "output": output}


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_a_stream_says_what_the_whole_answer_does(cuts: list[int]) -> None:
    events, stream = translate(sse(*CHAT), cuts)
    response = response_of(events)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"] and stream.ended
    assert b'"predicted_n": 9' in stream.tail, "the child's own count is kept for ours"
    whole = Responses({"input": "hi"}).whole(WHOLE_CHAT)
    assert lasting(whole) == lasting(response)
    Response.model_validate(whole)
    thought, said, *calls = whole["output"]
    assert thought["content"] == [text("reasoning_text", "hmm")] and thought["encrypted_content"] is None
    assert said["content"][0]["text"] == "Grüße"
    assert [(one["call_id"], one["name"], one["arguments"]) for one in calls] == [
        ("a", "look", '{"x":1}'), ("b", "look", "{}"),
    ]  # fmt: skip
    assert whole["status"] == "completed" and all(one["status"] == "completed" for one in whole["output"])
    assert whole["usage"]["output_tokens"] == 9 and 0 < whole["usage"]["output_tokens_details"]["reasoning_tokens"] < 9


def test_thinking_comes_back_sealed_where_that_is_asked_for() -> None:
    events, _ = translate(sse(*CHAT), include=["reasoning.encrypted_content"])
    thought, *rest = response_of(events)["output"]
    thought.pop("content")  # as clients do that keep only the seal
    (turn,) = chat_of(thought, *rest)["messages"]
    assert turn["reasoning_content"] == "hmm" and turn["content"] == "Grüße" and len(turn["tool_calls"]) == 2


@pytest.mark.parametrize(
    "delta",
    [{"content": "half a"}, {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "x", "arguments": "{"}}]}],
)
def test_what_was_cut_is_never_told_as_whole(delta: dict[str, Any]) -> None:
    """llama-server says `completed` of half a call, and a client would run it."""
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    events, _ = translate(sse(chunk(delta), chunk({}, "length"), usage))
    assert events[-1]["type"] == "response.incomplete"
    response = response_of(events)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"} and response["completed_at"] is None
    assert [item["status"] for item in response["output"]] == ["incomplete"]
    assert response["usage"]["total_tokens"] == 5


def test_a_response_repeats_its_request() -> None:
    usage = {"choices": [], "usage": {}, "timings": {"predicted_n": 0}}
    fields: dict[str, Any] = {"instructions": "Be kind.", "tools": [LOOK], "temperature": 0.5, "metadata": {"a": "b"}}
    events, _ = translate(sse(chunk({"role": "assistant"}), chunk({}, "stop"), usage), **fields)
    assert {key: events[0]["response"][key] for key in fields} == fields
    assert events[0]["response"]["status"] == "in_progress" and events[-1]["response"]["output"] == []
    assert events[-1]["timings"] == {"predicted_n": 0}


@pytest.mark.parametrize("raw", [sse(*CHAT[:3], done=False), sse(CHAT[0], {"error": {"message": "no"}})])
def test_what_breaks_off_never_ends_as_if_it_were_whole(raw: bytes) -> None:
    with pytest.raises(Broken):
        translate(raw)


def test_who_waits_hears_events_and_the_answer_goes_on_from_there() -> None:
    """Codex gives a stream up in which it saw no event for long, whatever comments it got."""
    dialect = Responses({"input": "hi", "model": "deep-coder", "instructions": "x" * 999})
    waited = [dialect.written(dialect.alive({"stage": "load", "percent": n})) for n in (1, 2, 3)]
    assert len(waited[2]) < 1000, "what the request said is not said again each time"
    stream = TranslatedStream(Pieces(sse(*CHAT), []), dialect)
    stream_events = read_all(stream)
    events = [event for part in waited for event in Events().feed(part)] + stream_events
    response = response_of(events)
    kinds = [event["type"] for event in events]
    assert kinds[:4] == ["response.created", *["response.in_progress"] * 3] and kinds.count("response.created") == 1
    assert events[3]["variet"] == {"stage": "load", "percent": 3}
    assert {event["response"]["id"] for event in events if "response" in event} == {response["id"]}


@pytest.mark.parametrize("waited", [True, False])
def test_what_failed_is_told_in_every_way_that_clients_know(waited: bool) -> None:
    dialect = Responses({"input": "hi"})
    before = dialect.alive({}) if waited else []
    raw = dialect.written([*before, *dialect.failed(Problem(503, "stopped", "it was stopped"))])
    lines = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
    for number, event in enumerate(lines):
        RESPONSE_EVENTS.validate_python(event)
        assert event["sequence_number"] == number
    failed, error = lines[-2:]
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "it was stopped"}
    assert (error["type"], error["code"], error["error"]["message"]) == ("error", "stopped", "it was stopped")


@pytest.mark.parametrize(
    "chat",
    [{}, {"choices": []}, {"choices": [{"message": 3}]}, {"choices": [{"message": {"content": ""}}], "usage": {}}],
)
def test_what_is_no_answer_is_not_taken_for_one(chat: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError, AttributeError, ValueError)):
        Responses({"input": "hi"}).whole(chat)
