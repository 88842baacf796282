"""Asks a model over Chat Completions and hands its answer on piece by piece. It waits as long as there is progress.

Streams of the engine say where a request stands as comments (`: variet {...}`, docs/engine.md); any other server that
speaks Chat Completions works too, without that. A caller that stops listening closes the connection: the engine sees
that and ends the generation.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from variet.agent.events import Usage
from variet.connection import Connection, unreachable
from variet.errors import AnswerFailed, ContextFull, StreamBroken

# The engine and llama-server say something at least every 30 s while they work: after so long they are gone.
_SILENCE_S = 300.0
_MARK = b": variet "
_IDENTITY = ("id", "model", "trained_as", "parameters", "configured")  # of a row of /v1/models
_MOST_CALLS = 100  # of one answer
_FULL = ("exceed_context_size_error", "context_length_exceeded")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where the request stands: the engine's `stage`, `percent`, `position`, `left_ms`, `reason`."""

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextPiece:
    """`usage`: so far, where the server tells it with each piece (`timings_per_token`)."""

    text: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of the call at place `index`."""

    index: int
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """`finish`: OpenAI's finish_reason. `known`: whether the server told usage."""

    finish: str
    usage: Usage
    known: bool
    tier: str = ""
    model: str = ""


Piece = Waiting | TextPiece | ReasoningPiece | CallPiece | Finished


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Of a name that requests may use. `context_tokens`: 0 where the server does not say. `beside`: models that can be
    loaded at the same time. `trained_as`: what its makers call it, `parameters`: how many it has; empty, 0: unknown.
    `settled`: whether the name stands for one model of an engine, and always for the same. `identity`: changes with
    whatever may change what it does, as far as the server tells."""

    name: str
    model: str
    context_tokens: int
    beside: frozenset[str] = frozenset()
    trained_as: str = ""
    parameters: int = 0
    settled: bool = False
    identity: str = ""


class Model(Protocol):
    def answer(self, body: dict[str, Any]) -> AsyncIterator[Piece]:
        """The pieces of an answer, the last one Finished. Raises AnswerFailed and its kinds."""
        ...

    async def render(self, body: dict[str, Any]) -> str | None:
        """What the model's template makes of a request's messages; None where the server cannot say. Raises
        AnswerFailed, also where the template refuses them."""
        ...

    async def facts(self, name: str) -> ModelFacts: ...

    async def close(self) -> None: ...


class EngineModel:
    """A model behind an engine, or behind any server of Chat Completions."""

    def __init__(self, connection: Connection) -> None:
        self._url = connection.url
        self._http = httpx.AsyncClient(
            base_url=connection.url, headers={**connection.headers(), "x-variet-progress": "live"},
            verify=connection.tls(), trust_env=False, timeout=httpx.Timeout(_SILENCE_S, connect=10),
        )  # fmt: skip

    async def close(self) -> None:
        await self._http.aclose()

    async def facts(self, name: str) -> ModelFacts:
        """Raises AnswerFailed where there is no such name, and lists those that there are."""
        try:
            answer = await self._http.get("/v1/models", timeout=10)
        except httpx.TransportError as error:
            raise _unreachable(self._url, error) from None
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.content)
        rows = answer.json().get("data", [])
        row = next((one for one in rows if one.get("id") == name), None)
        if row is None:
            known = ", ".join(str(one.get("id")) for one in rows)
            raise AnswerFailed(f"there is no tier or model {name!r}; there are: {known}", status=404, code="no_model")
        meta = row.get("meta") or {}
        context = row.get("context_length") or row.get("max_model_len") or meta.get("n_ctx") or 0
        return ModelFacts(
            name, str(row.get("model", name)), int(context), frozenset(row.get("live_beside") or ()),
            trained_as=str(row.get("trained_as") or ""),
            parameters=int(row.get("parameters") or meta.get("n_params") or 0),
            settled=row.get("kind") in ("tier", "model", "alias"),
            identity=json.dumps([self._url, *(row.get(key) for key in _IDENTITY)]),
        )  # fmt: skip

    async def render(self, body: dict[str, Any]) -> str | None:
        try:
            answer = await self._http.post("/apply-template", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreachable(self._url, error) from None
        except httpx.TransportError as error:
            raise StreamBroken(f"the answer broke off ({error or type(error).__name__})", code="broken") from None
        if answer.status_code not in (200, 404, 405):
            raise _refused(answer.status_code, answer.content)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(answer.json()["prompt"])
        return None

    async def answer(self, body: dict[str, Any]) -> AsyncIterator[Piece]:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        sent = {"content-type": "application/json", "accept": "text/event-stream"}
        try:
            async with self._http.stream("POST", "/v1/chat/completions", content=content, headers=sent) as answer:
                if answer.status_code != 200:
                    raise _refused(answer.status_code, await answer.aread(), answer.headers.get("retry-after", ""))
                reading = _Reading(dict(answer.headers))
                async for line in _lines(answer.aiter_bytes()):
                    for piece in reading.take(line):
                        yield piece
                yield reading.end()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreachable(self._url, error) from None
        except httpx.TransportError as error:
            raise StreamBroken(f"the answer broke off ({error or type(error).__name__})", code="broken") from None


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines of an event stream: they end with \\n alone, whatever else Unicode takes for a line end."""
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        if b"\n" not in chunk:
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            yield line.rstrip(b"\r")


class _Reading:
    """One stream, line by line."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._finish = ""
        self._usage = Usage()
        self._known = False
        self._places: dict[str, int] = {}  # of calls without an index, by id
        self._tier, self._model = headers.get("x-variet-tier", ""), headers.get("x-variet-model", "")

    def take(self, line: bytes) -> list[Piece]:
        if line.startswith(_MARK):
            try:
                facts = json.loads(line[len(_MARK) :])
            except ValueError:
                return []
            if not isinstance(facts, dict):
                return []
            self._tier = facts.get("x-variet-tier") or facts.get("tier") or self._tier
            self._model = facts.get("x-variet-model") or facts.get("model") or self._model
            return [Waiting(facts)] if "stage" in facts else []
        if not line.startswith(b"data:"):
            return []
        data = line[5:].strip()
        if data == b"[DONE]":
            return []
        try:
            chunk = json.loads(data.decode(errors="replace"))
        except ValueError:
            raise StreamBroken("the answer is not JSON in the middle", code="not_json") from None
        if isinstance(chunk, dict) and chunk.get("error"):
            raise _problem(chunk["error"], 0)
        try:
            self._count(chunk)
            return self._pieces(chunk)
        except (AttributeError, TypeError, ValueError, KeyError):
            raise StreamBroken("the answer is not of Chat Completions in the middle", code="not_a_chunk") from None

    def end(self) -> Finished:
        """Raises StreamBroken for a stream that ended without saying why."""
        if not self._finish:
            raise StreamBroken("the answer ended in the middle", code="cut")
        return Finished(self._finish, self._usage, self._known, self._tier, self._model)

    def _count(self, chunk: dict[str, Any]) -> None:
        usage, timings = chunk.get("usage"), chunk.get("timings")
        if usage:
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", self._usage.cached)
            self._usage = Usage(
                prompt=usage.get("prompt_tokens") or 0, cached=cached or 0, output=usage.get("completion_tokens") or 0
            )
            self._known = True
        elif timings:
            cached = timings.get("cache_n", 0)
            self._usage = Usage(
                prompt=cached + timings.get("prompt_n", 0), cached=cached, output=timings.get("predicted_n", 0)
            )
            self._known = True

    def _pieces(self, chunk: dict[str, Any]) -> list[Piece]:
        pieces: list[Piece] = []
        for choice in (chunk.get("choices") or [])[:1]:
            delta = choice.get("delta") or {}
            if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
                pieces.append(ReasoningPiece(_sound(reasoning)))
            if delta.get("content"):
                pieces.append(TextPiece(_sound(delta["content"]), self._usage if self._known else None))
            for call in delta.get("tool_calls") or []:
                function = call.get("function") or {}
                index = call.get("index")
                if index is None:  # some servers leave it out; each call has an id, then
                    index = self._places.setdefault(call.get("id") or "", len(self._places))
                if not isinstance(index, int) or not 0 <= index < _MOST_CALLS:
                    raise ValueError(index)
                pieces.append(CallPiece(index, function.get("name") or "", function.get("arguments") or ""))
            self._finish = choice.get("finish_reason") or self._finish
        return pieces


def _sound(text: str) -> str:
    """Without halves of surrogate pairs: they could be neither logged nor sent."""
    return text.encode(errors="replace").decode()


def _refused(status: int, body: bytes, retry_after: str = "") -> AnswerFailed:
    try:
        told = json.loads(body)
        error = told.get("error") or told.get("detail") or told
    except (ValueError, AttributeError):
        error = body.decode(errors="replace")[:300]
    return _problem(error, status, retry_after)


def _problem(error: Any, status: int, retry_after: str = "") -> AnswerFailed:
    told = error if isinstance(error, dict) else {"message": str(error)}
    message = str(told.get("message") or f"the server answered {status}")
    code = str(told.get("code") or "") if isinstance(told.get("code"), str) else ""
    kind = str(told.get("type") or "")
    if kind in _FULL or code in _FULL:
        return ContextFull(message, status=status, code="context_full")
    if status == 401:
        return AnswerFailed(
            message, status=status, code="unauthorized", next_step="Pair with it, or set VARIET_API_KEY"
        )
    if status in (502, 503, 504, 0, 500):
        return StreamBroken(message, status=status, code=f"retry_after:{retry_after}" if retry_after else code or kind)
    return AnswerFailed(message, status=status, code=code or kind)


def _unreachable(url: str, error: httpx.TransportError) -> AnswerFailed:
    known = unreachable(url, error)
    return AnswerFailed(known.what, code="unreachable", where=known.where, next_step=known.next_step)
