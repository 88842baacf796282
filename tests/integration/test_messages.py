"""`/v1/messages` through the engine says what llama-server's own says, and heeds what that one drops."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.integration.test_assembly import PARAMETERS, SYSTEM, WEATHER, config, lasting
from tests.support.clients import message_of
from tests.support.engine import EngineProcess, chat, light_config, running, template_of
from variet.engine.assembly import Events

pytestmark = pytest.mark.models

TOOLS = [{"name": "get_weather", "description": "The weather of a city", "input_schema": PARAMETERS}]
HELLO = {"role": "user", "content": "Say hello."}
USE = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Sunny."}]}
CASES: dict[str, dict[str, Any]] = {
    "a text": {"messages": [HELLO], "max_tokens": 12},
    "blocks": {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}], "max_tokens": 12,
    },
    "a call": {"system": SYSTEM, "messages": [WEATHER], "tools": TOOLS, "max_tokens": 60},
    "a call that is cut": {"system": SYSTEM, "messages": [WEATHER], "tools": TOOLS, "max_tokens": 16},
    "after a call": {
        "system": "Say nothing but: It is sunny.", "max_tokens": 5, "tool_choice": {"type": "auto"},
        "messages": [
            {"role": "user", "content": "Weather in Paris?"}, {"role": "assistant", "content": [USE]},
            {"role": "user", "content": [RESULT]},
        ],
    },
    "a stop": {"messages": [HELLO], "stop_sequences": ["!", "?"], "max_tokens": 12},
    "as Claude Code asks": {
        "messages": [HELLO], "max_tokens": 12, "thinking": {"type": "adaptive"}, "metadata": {"user_id": "u"},
        "context_management": {"edits": []}, "system": "Be brief.",
    },
}  # fmt: skip
OF_EACH_MESSAGE = {"id", "usage", "model"}


def shape(events: list[dict[str, Any]]) -> list[str]:
    """The order of events, however many deltas a text came in."""
    kinds = [event["type"] for event in events]
    return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


async def ask(session: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post("/v1/messages", json=body) as answer:
        assert answer.status == 200, await answer.text()
        message: dict[str, Any] = await answer.json()
        return message


async def ask_stream(session: aiohttp.ClientSession, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with session.post("/v1/messages", json={**body, "stream": True}) as answer:
        assert answer.status == 200 and answer.content_type == "text/event-stream"
        raw = await answer.read()
    return Events().feed(raw)


def child(engine: EngineProcess) -> aiohttp.ClientSession:
    """Past the engine, to its one child."""
    command = psutil.Process(engine.children()[0].pid).cmdline()
    connector = aiohttp.UnixConnector(command[command.index("--host") + 1])
    return aiohttp.ClientSession("http://child", connector=connector)


TEXTS = {name: case for name, case in CASES.items() if "tools" not in case}


@pytest.mark.parametrize(
    ("name", "cases"), [("smollm2-135m", TEXTS), pytest.param("qwen2.5-coder-1.5b", CASES, marks=pytest.mark.long)]
)
async def test_it_says_what_llama_server_says(
    tmp_path: Path, models: Path, name: str, cases: dict[str, dict[str, Any]]
) -> None:
    model = models / name
    template = tmp_path / "template.jinja"
    template.write_text(template_of(model).replace("tool_call>", "callit>"), encoding="utf-8")
    one_slot_and_two = config(model, "--chat-template-file", str(template))
    one_slot_and_two["scheduling"]["max_resident"] = 1
    async with running(tmp_path / "home", models, one_slot_and_two) as engine:
        for name in ("alone", "beside"):  # asked plainly, and put together from a stream
            await engine.post("/engine/swap", {"model": name})
            async with child(engine) as direct, aiohttp.ClientSession(engine.url) as through:
                for what, case in cases.items():
                    body = {**case, "model": name, "temperature": 0}
                    plain = await ask(through, body)
                    events = await ask_stream(through, body)
                    streamed = message_of(events)
                    assert lasting(plain, OF_EACH_MESSAGE) == lasting(streamed, OF_EACH_MESSAGE), what
                    if name == "beside" and what not in ("a call", "a stop"):
                        continue  # the other ways are compared; this one takes time
                    own = await ask(direct, body)
                    own_events = await ask_stream(direct, body)
                    assert lasting(plain, OF_EACH_MESSAGE) == lasting(own, OF_EACH_MESSAGE), what
                    assert set(plain) == set(own) and shape(events) == shape(own_events), what
                    for key in ("output_tokens",):
                        assert plain["usage"][key] == streamed["usage"][key] == own["usage"][key]
                    read = plain["usage"]["input_tokens"] + plain["usage"]["cache_read_input_tokens"]
                    assert read == own["usage"]["input_tokens"] + own["usage"]["cache_read_input_tokens"]
                    _, counted = await engine.post("/v1/messages/count_tokens", body)
                    assert counted["input_tokens"] == read
                    start = events[0]["message"]["usage"]
                    assert start["input_tokens"] + start["cache_read_input_tokens"] == read, "said at the start"


async def test_a_tier_s_settings_hold_and_conversations_find_their_slot(tmp_path: Path, models: Path) -> None:
    """llama-server's own Messages drop both: the template's arguments and the slot."""
    template = tmp_path / "template.jinja"
    template.write_text(
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
        "{%- if loud %}[say it loud]{%- endif %}"
        "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}",
        encoding="utf-8",
    )
    settings = light_config(scheduling={"preload": []})
    settings["models"]["smollm2-135m"]["args"] = ["--chat-template-file", str(template)]
    settings["tiers"]["fast"]["force"] = {"chat_template_kwargs": {"loud": True}}
    settings["tiers"]["balanced"]["model"] = "smollm2-135m"
    async with running(tmp_path / "home", models, settings) as engine, aiohttp.ClientSession(engine.url) as session:
        first = {"model": "balanced", "messages": [HELLO], "max_tokens": 2}
        counts = []
        for changes in ({}, {"model": "fast"}, {"chat_template_kwargs": {"loud": True}}):
            usage = (await ask(session, {**first, **changes}))["usage"]
            counts.append(usage["input_tokens"] + usage["cache_read_input_tokens"])
        assert counts[0] < counts[1] == counts[2], "the tier's force, and the client's own wish"

        system = "You know the law. " + "Rule upon rule. " * 60
        talks = [[{"role": "user", "content": topic * 80}] for topic in ("ships ", "shoes ")]
        read = [0, 0]
        for _ in range(3):
            for index, talk in enumerate(talks):
                said = await ask(session, {"model": "balanced", "system": system, "messages": talk, "max_tokens": 4})
                usage = said["usage"]
                assert usage["cache_read_input_tokens"] >= read[index], "its own slot, though both share a beginning"
                read[index] = usage["cache_read_input_tokens"] + usage["input_tokens"]
                talk += [{"role": "assistant", "content": said["content"]}, {"role": "user", "content": "Go on."}]


async def test_what_is_no_such_request_is_told(engine: EngineProcess) -> None:
    for wrong in (
        {"messages": 3},
        {"messages": ["hi"]},
        {"messages": [{"role": "user", "content": ["hi"]}]},
        {"messages": [HELLO], "tools": ["x"]},
    ):
        status, answer = await engine.post("/v1/messages", {"model": "fast", "max_tokens": 4, **wrong})
        assert status == 400 and answer["type"] == "error", wrong
    long = {"role": "user", "content": "word " * 9_000}
    for stream in (False, True):
        asked = {"model": "fast", "max_tokens": 4, "messages": [long], "stream": stream}
        status, answer = await engine.post("/v1/messages", asked)
        told = answer["error"]
        assert status == 400 and told["type"] == "invalid_request_error"
        assert re.fullmatch(r"prompt is too long: 9\d{3} tokens > \d+ maximum", told["message"])
    assert (await engine.post("/v1/messages", chat("fast")))[0] == 200
    assert not json.dumps((await engine.status())["journal"]).count("crash")
