"""What happens to a request's text: names, shaping, conversations, errors. Pure functions, no server."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_config import minimal
from variet.engine import apis, config, config_file, conversation, shaping
from variet.engine.dialects.chat import folded, whole_object
from variet.engine.names import Names, UnknownName
from variet.engine.problems import Problem


def names(**changes: Any) -> Names:
    return Names(config_file.parse(json.dumps(minimal(**changes)), "file"))


CHAT = apis.APIS["/v1/chat/completions"]


def test_names_resolve_to_tier_and_model() -> None:
    some = names(aliases={"claude-haiku*": "fast", "claude-haiku-4": "ultra", "gpt-4o": "one"})
    assert some.resolve("ultra").tier == "ultra"
    assert some.resolve("one").tier is None
    assert some.resolve("claude-haiku-4-5").tier == "fast"
    assert some.resolve("claude-haiku-4").tier == "ultra", "an exact alias wins over a wildcard"
    assert some.resolve("gpt-4o").model == "one"
    with pytest.raises(UnknownName) as error:
        some.resolve("gpt-9")
    assert "deep-coder" in error.value.known


def test_resident_is_what_is_loaded_and_else_the_default() -> None:
    some = names(models={"one": {"files": {"model": "path:/a"}}, "two": {"files": {"model": "path:/b"}}})
    for name in ("resident", None):
        assert some.resolve(name).anywhere and some.resolve(name).tier == "fast"
    assert not some.resolve("two").anywhere


def test_resident_never_goes_to_a_side_model() -> None:
    side = {"embedder": {"files": {"model": "path:/e"}, "kind": "embedding"}}
    some = names(side_models=side, scheduling={"preload": ["embedder", "balanced"]})
    assert some.resolve(None).tier == "balanced"


def test_a_side_model_answers_its_kind_where_no_model_is_named() -> None:
    some = names(side_models={"embedder": {"files": {"model": "path:/e"}, "kind": "embedding"}})
    assert some.resolve(None, "embedding").model == "embedder"
    assert some.resolve(None, "rerank").anywhere


def tier(**fields: Any) -> config.TierConfig:
    return config.TierConfig(model="one", **fields)


def test_defaults_fill_force_overrides_and_caps_bound() -> None:
    settings = tier(defaults={"temperature": 0.2, "top_p": 0.9}, force={"seed": 1}, max_tokens=100)
    shaped = shaping.shape({"temperature": 1.0, "seed": 7, "max_tokens": 500}, CHAT, "one", settings, 1)
    assert (shaped["temperature"], shaped["top_p"], shaped["seed"], shaped["max_tokens"]) == (1.0, 0.9, 1, 100)
    assert shaping.shape({}, CHAT, "one", settings, 0)["max_tokens"] == 100
    assert shaping.shape({"max_completion_tokens": 5}, CHAT, "one", settings, 0).get("max_tokens") is None
    assert shaping.shape({"max_tokens": -1}, CHAT, "one", settings, 0)["max_tokens"] == 100


def test_template_arguments_merge_and_reasoning_is_forced() -> None:
    settings = tier(defaults={"chat_template_kwargs": {"a": 1, "b": 1}}, reasoning=False)
    shaped = shaping.shape({"chat_template_kwargs": {"b": 2}}, CHAT, "one", settings, 0)
    assert shaped["chat_template_kwargs"] == {"a": 1, "b": 2, "enable_thinking": False}


def test_reasoning_is_forced_wherever_the_template_writes_messages() -> None:
    for path, templated in (("/apply-template", True), ("/v1/messages/count_tokens", True), ("/completion", False)):
        api = apis.find(path)
        assert api is not None
        shaped = shaping.shape({}, api, "one", tier(reasoning=True), None)
        assert shaped.get("chat_template_kwargs") == ({"enable_thinking": True} if templated else None), path


def test_slot_fields_of_clients_go_and_ours_is_set() -> None:
    body = {"id_slot": 9, "slot_id": 3, "cache_prompt": False, "session_id": "x", "messages": []}
    assert shaping.shape(body, CHAT, "one", None, 1) == {"messages": [], "model": "one", "id_slot": 1}
    assert "id_slot" not in shaping.shape(body, CHAT, "one", None, None)


def test_a_stream_ends_with_usage_unless_declined() -> None:
    shaped = shaping.shape({"stream": True}, CHAT, "one", None, 0)
    assert shaped["stream_options"] == {"include_usage": True}
    declined = {"stream": True, "stream_options": {"include_usage": False}}
    assert shaping.shape(declined, CHAT, "one", None, 0)["stream_options"] == {"include_usage": False}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}},
        {"type": "image_url", "image_url": "https://example.org/a.png"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "input_image", "image_url": " FILE:///etc/passwd"},
    ],
)
def test_media_addresses_are_found(part: dict[str, Any]) -> None:
    assert shaping.fetched_address({"messages": [{"content": [part]}]})


def test_inline_media_and_talk_about_addresses_pass() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    said = {"messages": [{"content": [part, {"type": "text", "text": "http://x"}]}, {"content": "http://y"}]}
    calls = [{"type": "function", "function": {"name": "read", "arguments": '{"url": "http://x"}'}}]
    assert not shaping.fetched_address({**said, "url": "http://x", "metadata": {"source": "http://x"}})
    assert not shaping.fetched_address({"messages": [{"role": "assistant", "tool_calls": calls, "url": "http://x"}]})
    tools = [{"function": {"parameters": {"properties": {"url": {"default": "http://x"}, "source": "http://x"}}}}]
    assert not shaping.fetched_address({"messages": [], "tools": tools, "mcp_servers": [{"url": "http://x"}]})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "http://x", "format": "wav"}},
        {"type": "input_video", "input_video": {"data": "https://x"}}, {"type": "video", "video": ["ftp://x"]},
        {"type": "of tomorrow", "deep": [{"er": " HTTPS://x"}]}, {"image_url": "http://x"},
    ],
)  # fmt: skip
def test_media_of_any_kind_that_the_child_would_fetch_is_found(part: dict[str, Any]) -> None:
    assert shaping.fetched_address({"messages": [{"role": "tool", "content": [{"type": "text", "text": ""}, part]}]})


def test_media_beside_a_prompt_is_found() -> None:
    for key in ("prompt", "content", "input"):
        given = {"prompt_string": "<__media__>", "multimodal_data": ["http://x"]}
        assert shaping.fetched_address({key: given}) and shaping.fetched_address({key: ["a", given]})
        assert not shaping.fetched_address({key: {"prompt_string": "http://x", "multimodal_data": ["AAAA"]}})


MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()}))


@given(MESSAGES, MESSAGES, st.text())
def test_a_longer_conversation_begins_with_the_chain_of_its_shorter_self(
    first: list[dict[str, str]], more: list[dict[str, str]], system: str
) -> None:
    start = [{"role": "system", "content": system}]
    short = conversation.chain({"messages": start + first}, orjson.dumps)
    long = conversation.chain({"messages": start + first + more, "temperature": 1}, orjson.dumps)
    links = len(first) + 1
    assert len(short.digests) == len(short.sizes) == links
    assert (long.digests[:links], long.sizes[:links]) == (short.digests, short.sizes)
    assert long.common(short) == links and list(long.sizes) == sorted(long.sizes)


def test_another_system_prompt_or_tool_list_is_another_conversation() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    one = conversation.chain(body, orjson.dumps)
    assert not one.common(conversation.chain({**body, "tools": [{"name": "x"}]}, orjson.dumps))
    assert not one.common(conversation.chain({**body, "system": "be kind"}, orjson.dumps))
    held = {**body, "response_format": {"type": "json_object"}}
    assert one == conversation.chain(held, orjson.dumps), "what an answer must look like is not read"


def test_what_is_no_conversation_has_no_chain_and_numbers_have_a_short_one() -> None:
    assert conversation.chain({"input_prefix": "a"}, orjson.dumps) == conversation.NOTHING
    assert conversation.chain({"messages": []}, orjson.dumps) == conversation.NOTHING
    numbers = conversation.chain({"prompt": list(range(2_000))}, orjson.dumps)
    assert len(numbers.digests) == 5, "a link for 512 tokens, not for each"
    assert numbers.common(conversation.chain({"prompt": list(range(1_100))}, orjson.dumps)) == 3
    adapted = conversation.chain({"prompt": "hi", "lora": [{"id": 0, "scale": 0}]}, orjson.dumps)
    assert not adapted.common(conversation.chain({"prompt": "hi"}, orjson.dumps)), "another state for the same words"


def test_marks_that_wander_and_ways_to_write_a_text_change_no_conversation() -> None:
    """Claude Code moves `cache_control` to its last message each turn; clients differ in how they say a text."""
    mark = {"cache_control": {"type": "ephemeral"}}
    said, part = {"role": "user", "content": "hi"}, {"type": "text", "text": "hi"}
    system, tool = {"type": "text", "text": "be kind"}, {"name": "x", "input_schema": {}}
    plain = {"system": [system], "tools": [tool], "messages": [said]}
    marked = {
        "system": [{**system, **mark}],
        "tools": [{**tool, **mark}],
        "messages": [{**said, "content": [{**part, **mark}]}],
    }
    one, other = conversation.chain(plain, orjson.dumps), conversation.chain(marked, orjson.dumps)
    assert one == other and len(one.digests) == 2
    pictured = {**said, "content": [part, {"type": "image", "source": {}, **mark}]}
    assert conversation.chain({"messages": [pictured]}, orjson.dumps).common(one) == 0


@pytest.mark.parametrize("family", ["chat", "completions", "responses", "messages", "native"])
def test_errors_have_the_shape_of_their_api(family: apis.Family) -> None:
    problem = Problem(429, "queue_full", "come back", 2.4)
    body = json.loads(problem.body(family))
    assert body["error"]["message"] == "come back"
    assert (body.get("type") == "error") == (family == "messages")
    event = problem.event(family)
    assert event.endswith(b"\n\n") and b"data: " in event and b"[DONE]" not in event
    assert (b"retry-after", b"2") in problem.headers()


def test_no_path_is_both_relayed_and_refused() -> None:
    assert not [path for path in apis.APIS if apis.is_refused(path)]


@pytest.mark.parametrize("kind", [[], {}, 3, None, True])
def test_a_part_of_an_odd_type_is_no_text(kind: Any) -> None:
    assert not shaping.fetched_address({"messages": [{"role": "user", "content": [{"type": kind, "text": "x"}]}]})
    assert shaping.fetched_address({"messages": [{"role": "user", "content": [{"type": kind, "url": "http://x"}]}]})


def _roles(*messages: tuple[str, str]) -> list[tuple[str, str]]:
    told = [{"role": role, "content": text} for role, text in messages]
    return [(one["role"], one["content"].replace("<system-reminder>\n", "<").replace("\n</system-reminder>", ">"))
            for one in folded(told)]  # fmt: skip


def test_a_later_system_message_tears_nothing_apart() -> None:
    user, assistant = ("user", "u"), ("assistant", "a")
    assert _roles(user, assistant, ("system", "s"), user) == [user, assistant, ("user", "<s>\n\nu")]
    assert _roles(user, ("system", "s"), assistant) == [("user", "u\n\n<s>"), assistant]
    assert _roles(user, assistant, ("system", "s"), ("tool", "1"), ("tool", "2"), assistant) == [
        user, assistant, ("tool", "1"), ("tool", "2"), ("user", "<s>"), assistant,
    ]  # fmt: skip
    assert _roles(user, assistant, ("system", "s"), ("system", "t")) == [user, assistant, ("user", "<s>\n\n<t>")]
    assert _roles(("system", "a"), user, assistant, ("tool", "1"), ("system", "s")) == [
        ("system", "a"), user, assistant, ("tool", "1"), ("user", "<s>"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'), ('{"a": NaN, "b": "x"}', '{"a": null, "b": "x"}'),
        ('{"a": [1e400, -Infinity, 2.5]}', '{"a": [null, null, 2.5]}'),
        ('{"a": "\\ud800 ä"}', '{"a": "? ä"}'), ('{"a": ', "{}"), ("[1]", "{}"), ('"a"', "{}"), ("", "{}"),
        ("[" * 50_000, "{}"), ('{"a": %s, "b": 1}' % ("9" * 400), '{"a": null, "b": 1}'),
        ('{"a": %s, "b": 1}' % ("9" * 5_000), '{"a": null, "b": 1}'), ('{"a": "x\ny"}', '{"a": "x\\ny"}'),
    ],
)  # fmt: skip
def test_arguments_are_an_object_that_every_parser_takes(written: str, sent: str) -> None:
    assert whole_object(written) == sent
    assert isinstance(orjson.loads(whole_object(written)), dict)


@given(st.dictionaries(st.text(), st.floats() | st.text(st.characters(codec=None)), max_size=4))
def test_arguments_as_python_writes_them_lose_no_key(value: dict[str, Any]) -> None:
    told = orjson.loads(whole_object(json.dumps(value)))
    assert len(told) >= len(value) - sum(any("\ud800" <= one <= "\udfff" for one in key) for key in value)
