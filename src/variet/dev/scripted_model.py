"""A model that answers as a file says, over real HTTP and SSE: for tests, demos, and clients that are being written.

The file is JSON: {"context_length": 8192, "conversations": [{"when": REGEX, "answers": [ANSWER, ...]}]}, or only
{"answers": [...]}. A request belongs to the first conversation whose `when` is found in its messages before the first
answer; each takes that conversation's next answer, or, with "by_turn": true, the one behind those that the request
itself repeats: such a model may end and start again. Its "words" are regular expressions by name; what the first group
of one finds in the request's messages stands in its answers in the place of `<name>`. After the last one, the request
is refused (`script_over`); with "repeat": true the last one is given for ever. With "obey": true it first does what
it read that it should (obedient.py), then takes its next answer. An ANSWER may have
  say, think        text and reasoning
  calls             [{"name", "arguments"}]; arguments are JSON, or a string that is sent as it is
  expect            a regular expression that the last message must match, else the request is refused
  progress          lines as the engine tells them: [{"stage": "load", "percent": 40}]
  piece             characters of each event (16); gap_ms between them; first_ms before the first
  finish            finish_reason; by default stop, or tool_calls
  status, retry_after, code    an error instead of an answer
  cut_after, hang_after, error_after    after so many events: close the connection, say nothing more, tell an error
  die_after         after so many events: end the process
  once              a file: what `status` or `die_after` say happens only as long as it is not there, and makes it
"tiers": {"fast": {"model": "small", "live_beside": ["scripted"]}} says more of what /v1/models tells, by name.
A word is a token; what a prompt shares with the conversation's last one counts as cached. GET /requests has every body
that came, GET /open how many answers are under way.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from variet.dev import obedient
from variet.errors import ConfigError, Mistake
from variet.tiers import TIERS

Answer = dict[str, Any]
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


class Script:
    """The file, and how far each conversation is. Raises ConfigError for what is no script."""

    def __init__(self, path: Path) -> None:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(str(path), [Mistake("$", f"is no JSON: {error}")]) from None
        conversations = told.get("conversations") or [told]
        wrong = [
            Mistake(f"$.conversations[{at}].answers", "must be a list of answers")
            for at, one in enumerate(conversations)
            if not isinstance(one.get("answers"), list) or not one["answers"]
        ]
        if wrong:
            raise ConfigError(str(path), wrong)
        self.context_length = int(told.get("context_length", 32768))
        self.tiers: dict[str, dict[str, Any]] = told.get("tiers", {})
        self._conversations = conversations
        self._next = [0] * len(conversations)
        self._read: list[list[str]] = [[] for _ in conversations]

    def take(self, body: dict[str, Any]) -> tuple[Answer, dict[str, int]]:
        """(the answer to this request, its usage)."""
        messages = body.get("messages") or []
        opening = list(itertools.takewhile(lambda one: one.get("role") != "assistant", messages))
        told = "\n".join(str(one.get("content")) for one in opening)
        for at, one in enumerate(self._conversations):
            if re.search(one.get("when", ""), told):
                if one.get("obey"):
                    return self._obeying(one, messages, told), self._usage(at, body)
                turn = sum(map(_answered, messages)) if one.get("by_turn") else None
                return _filled(self._answer(at, one, turn), one.get("words", {}), told), self._usage(at, body)
        return _refusal("no conversation of the script is meant by this request"), {}

    def _answer(self, at: int, conversation: dict[str, Any], turn: int | None) -> Answer:
        answers = conversation["answers"]
        index = self._next[at] if turn is None else turn
        self._next[at] += 1
        if index >= len(answers):
            if not conversation.get("repeat"):
                return _refusal("the script is at its end")
            index = len(answers) - 1
        return answers[index]  # type: ignore[no-any-return]

    def _obeying(self, conversation: Answer, messages: list[dict[str, Any]], told: str) -> Answer:
        """Orders first; then the answers of its own, of which it knows by the messages how many it gave."""
        calls, words = obedient.calls_and_words(messages)
        if calls:
            return {"calls": calls}
        given = [one for one in messages if one.get("role") == "assistant" and not obedient.by_order(one, messages)]
        answers = conversation["answers"]
        if len(given) >= len(answers):
            return _refusal("the script is at its end")
        answer = _filled(answers[len(given)], conversation.get("words", {}), told)
        last = len(given) == len(answers) - 1
        return {**answer, "say": "\n\n".join([answer.get("say", ""), *words])} if last and words else answer

    def _usage(self, at: int, body: dict[str, Any]) -> dict[str, int]:
        words = json.dumps([body.get("tools"), body.get("messages")]).split()
        pairs = zip(self._read[at], words, strict=False)
        cached = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._read[at] = words
        return {"prompt": len(words), "cached": cached}


def _filled(answer: Answer, words: dict[str, str], told: str) -> Answer:
    text = json.dumps(answer)
    for name, pattern in words.items():
        found = re.search(pattern, told)
        text = text.replace(f"<{name}>", json.dumps(found[1])[1:-1] if found else "")
    return json.loads(text)  # type: ignore[no-any-return]


def _refusal(why: str) -> Answer:
    return {"status": 400, "code": "script_over", "message": why}


class ScriptedModel:
    """An ASGI application."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._bodies: list[str] = []
        self._open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path in ("/v1/models", "/models"):
            row = {"object": "model", "model": "scripted", "context_length": self._script.context_length}
            rows = [{"id": name, **row, **self._script.tiers.get(name, {})} for name in (*TIERS, "auto", "resident")]
            await _plain(send, {"object": "list", "data": rows})
        elif path == "/requests":
            await _plain(send, self._bodies)
        elif path == "/open":
            await _plain(send, {"open": self._open})
        elif path == "/health":
            await _plain(send, {"status": "ok"})
        elif path == "/v1/chat/completions" and scope["method"] == "POST":
            await self._chat(receive, send)
        else:
            await _plain(send, {"error": {"message": f"nothing is served at {path}"}}, 404)

    async def _chat(self, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        self._bodies.append(raw.decode())
        body = json.loads(raw)
        answer, usage = self._script.take(body)
        last = str((body.get("messages") or [{}])[-1].get("content"))
        if answer.get("expect") and not re.search(answer["expect"], last):
            answer = _refusal(f"expected {answer['expect']!r} in the last message, which is {last[:2000]!r}")
        self._open += 1
        leaving = asyncio.ensure_future(_left(receive))
        work = asyncio.ensure_future(self._answer(answer, usage, body, send))
        try:
            await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            self._open -= 1
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def _answer(self, answer: Answer, usage: dict[str, int], body: dict[str, Any], send: Any) -> None:
        if "status" in answer and _first_time(answer.get("once")):
            error = {
                "message": answer.get("message", "as scripted"),
                "code": answer.get("code"),
                "type": answer.get("code"),
            }
            await _plain(send, {"error": error}, answer["status"], answer.get("retry_after"))
            return
        if not body.get("stream"):
            if "die_after" in answer and _first_time(answer.get("once")):
                os._exit(3)
            await _plain(send, _whole(answer, usage, body))
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        for facts in answer.get("progress", []):
            await _part(send, b": variet " + json.dumps(facts).encode() + b"\n\n")
            await asyncio.sleep(answer.get("gap_ms", 0) / 1000)
        await asyncio.sleep(answer.get("first_ms", 0) / 1000)
        for count, delta in enumerate(_deltas(answer, _name(body))):
            if count == answer.get("cut_after"):
                raise ConnectionAbortedError("as scripted")
            if count == answer.get("hang_after"):
                await asyncio.sleep(86400)
            if count == answer.get("die_after") and _first_time(answer.get("once")):
                os._exit(3)
            if count == answer.get("error_after"):
                await _event(send, {"error": {"message": "as scripted", "code": 500}})
                return
            await _event(send, {"id": _name(body), "object": "chat.completion.chunk", "model": body.get("model"),
                                "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})  # fmt: skip
            await asyncio.sleep(answer.get("gap_ms", 0) / 1000)
        if "cut_after" in answer:
            raise ConnectionAbortedError("as scripted")
        await _event(send, {"choices": [{"index": 0, "delta": {}, "finish_reason": _finish(answer)}]})
        await _event(send, {"choices": [], "usage": _told(answer, usage)})
        await _part(send, b"data: [DONE]\n\n", more=False)


def _deltas(answer: Answer, name: str) -> Iterator[dict[str, Any]]:
    piece = answer.get("piece", 16)
    for field, text in (("reasoning_content", answer.get("think", "")), ("content", answer.get("say", ""))):
        for at in range(0, len(text), piece):
            yield {field: text[at : at + piece]}
    for index, call in enumerate(answer.get("calls", [])):
        written = _written(call)
        yield {"tool_calls": [{"index": index, "id": f"{name}-{index}", "type": "function",
                               "function": {"name": call["name"], "arguments": ""}}]}  # fmt: skip
        for at in range(0, len(written), piece):
            yield {"tool_calls": [{"index": index, "function": {"arguments": written[at : at + piece]}}]}


def _written(call: dict[str, Any]) -> str:
    arguments = call.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _first_time(file: str | None) -> bool:
    """A file remembers it, for the process that goes on knows nothing of this one."""
    if file is None:
        return True
    there = Path(file).exists()
    Path(file).touch()
    return not there


def _finish(answer: Answer) -> str:
    return str(answer.get("finish") or ("tool_calls" if answer.get("calls") else "stop"))


def _told(answer: Answer, usage: dict[str, int]) -> dict[str, Any]:
    said = len((answer.get("say", "") + " " + answer.get("think", "") + json.dumps(answer.get("calls", ""))).split())
    return {
        "prompt_tokens": usage["prompt"], "completion_tokens": said, "total_tokens": usage["prompt"] + said,
        "prompt_tokens_details": {"cached_tokens": usage["cached"]},
    }  # fmt: skip


def _whole(answer: Answer, usage: dict[str, int], body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.get("say", "")}
    if answer.get("calls"):
        message["tool_calls"] = [
            {
                "id": f"{_name(body)}-{at}",
                "type": "function",
                "function": {"name": one["name"], "arguments": _written(one)},
            }
            for at, one in enumerate(answer["calls"])
        ]
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
    head = {"id": _name(body), "object": "chat.completion", "model": body.get("model")}
    return {**head, "choices": [choice], "usage": _told(answer, usage)}


def _name(body: dict[str, Any]) -> str:
    """Of an answer, and of the calls in it: clients take two of one name for the same."""
    return f"scripted-{len(body.get('messages') or [])}"


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _event(send: Any, data: dict[str, Any]) -> None:
    await _part(send, b"data: " + json.dumps(data).encode() + b"\n\n")


async def _part(send: Any, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _plain(send: Any, answer: Any, status: int = 200, retry_after: int | None = None) -> None:
    headers = [(b"content-type", b"application/json")]
    headers += [(b"retry-after", str(retry_after).encode())] if retry_after is not None else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def serve(script: Path, host: str, port: int, *, say: Any = print) -> None:
    """Until it is interrupted; tells its address once it listens."""
    config = uvicorn.Config(ScriptedModel(Script(script)), host=host, port=port, log_level="critical", lifespan="on")

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            for server in self.servers:
                for socket in server.sockets:
                    say(f"the scripted model listens on http://{host}:{socket.getsockname()[1]}")

    Server(config).run()


def _answered(message: Any) -> bool:
    """Whether a message is an answer of the model's. OpenClaude 0.29 writes one of its own behind each tool result."""
    mine = message.get("role") == "assistant"
    return mine and str(message.get("content") or "").strip() != "[Tool results received]"
