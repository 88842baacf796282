"""The data path: a plain ASGI app that brings a request to a leased child and the child's bytes back.

It reads the body once, waits for a lease, and re-parses nothing on the way back. The lease ends when the child is
done; a slow reader is served from a bounded buffer. A client that leaves ends the generation.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qs

import orjson

from variet.engine import apis, conversation, shaping
from variet.engine.apis import Api
from variet.engine.assembly import Assembly, Broken, Whole, assembly_for, gather, no_surprise
from variet.engine.config import EngineConfig, TierConfig
from variet.engine.contexts import Contexts
from variet.engine.conversation import NOTHING, Chain
from variet.engine.downstream import Client, Downstream, Receive, Send
from variet.engine.events import Arrived, Priority
from variet.engine.fleet import Fleet, Lease, Refused
from variet.engine.messages import CHAT_PATH, MessagesStream, to_chat, to_message
from variet.engine.names import Names, Target, UnknownName
from variet.engine.problems import Problem
from variet.engine.record import Record, read_usage
from variet.engine.upstream import Answer, UpstreamError

log = logging.getLogger("variet.engine.relay")

_DROPPED_FROM_CLIENT = {
    b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"authorization", b"x-api-key",
    b"accept-encoding", b"origin", b"referer", b"cookie", b"expect", b"x-conversation-id", b"te", b"upgrade",
    b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since",
}  # fmt: skip
_DROPPED_FROM_CHILD = {b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date"}
_JSON = (b"content-type", b"application/json")
_REFUSAL_STATUS = {"queue_full": 429, "unknown_model": 404}  # all others: 503
_POISON_S = 600.0
_DEATH_NOTICE_S = 2.0
_DEEPEST = 200  # what every JSON library on the way can write again


class Settings(Protocol):
    """The configuration in force; it changes when the owner reloads it."""

    config: EngineConfig
    names: Names


@dataclass(frozen=True, slots=True)
class Asked:
    """What the child is asked: Messages become a chat on the way (messages.py), all else stays what it is."""

    api: Api
    path: bytes
    body: dict[str, Any] | None
    translated: bool = False


@dataclass(slots=True)
class Call:
    """A request, understood."""

    api: Api
    path: bytes  # with its query
    method: str
    headers: list[tuple[bytes, bytes]]
    body: dict[str, Any] | None  # parsed JSON, or None: then `raw` goes as it is
    raw: bytes
    target: Target
    stream: bool
    asked: Asked


@dataclass(frozen=True, slots=True)
class Errand:
    """A call with a lease: what is to be asked of which child."""

    call: Call
    tier: TierConfig | None
    lease: Lease
    chain: Chain

    @property
    def lasting(self) -> bool:
        """Whether what is said may be kept on disk."""
        return self.tier is None or self.tier.keep_context


class ChildDied(Exception):
    """The child ended before its answer was whole. `proven`: its end was seen; `stopped`: somebody wished it."""

    def __init__(self, how: str, *, proven: bool = False, stopped: bool = False) -> None:
        self.proven, self.stopped = proven, stopped
        super().__init__(how)


class Relay:
    """ASGI application for every path of apis.py."""

    def __init__(self, fleet: Fleet, contexts: Contexts, settings: Settings, on_done: Callable[[Record], None]) -> None:
        self.active: dict[int, Record] = {}
        self._fleet = fleet
        self._contexts = contexts
        self._settings = settings
        self._on_done = on_done
        self._poison: dict[bytes, float] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        line: Client = scope["extensions"]["variet.client"]["connection"]
        client = Downstream(send, line, apis.family_of(path), self._settings.config)
        try:
            raw = await _read_body(scope, receive, self._settings.config.server.max_body_mib)
            call = self._understand(scope, raw)
            self._refuse_poison(call)
        except Problem as problem:
            await client.fail(problem)
            return
        except _Left:
            return
        record = Record(self._fleet.new_id(), path, call.target.tier or "", call.target.model)
        self.active[record.request_id] = record
        task = asyncio.current_task()
        assert task is not None

        def on_gone() -> None:
            if not client.complete:
                client.left = True
                task.cancel()

        line.watch(on_gone)
        try:
            try:
                await self._serve(call, record, client)
            except Problem as problem:
                record.outcome = problem.code
                await client.fail(problem)
        except asyncio.CancelledError:
            if not client.left:
                raise  # the server itself is going down
            task.uncancel()
            record.outcome = "left"
        except Problem as stalled:  # the client did not even take the news
            record.outcome = stalled.code
        finally:
            line.unwatch(on_gone)
            client.close()
            if record.outcome == "client_stalled":
                line.abort()  # else its answer is kept for it without end
            self.active.pop(record.request_id, None)
            record.total_ms = (time.monotonic() - record.began) * 1000
            self._on_done(record)

    # --- understanding ---

    def _understand(self, scope: MutableMapping[str, Any], raw: bytes) -> Call:
        path, method = scope["path"], scope["method"]
        if apis.is_refused(path):
            raise Problem(
                403,
                "path_not_relayed",
                f"{path} is never relayed: the engine owns slots, tools and addresses",
            )
        api = apis.find(path)
        if api is None:
            raise Problem(404, "unknown_path", f"the engine serves no {path}; see /engine/docs and docs/engine.md")
        if method not in api.methods:  # before a lease: what the child would only refuse must not swap a model
            raise Problem(405, "method_not_allowed", f"{path} takes {' or '.join(sorted(api.methods))}, not {method}")
        query: bytes = scope["query_string"]
        headers = [pair for pair in scope["headers"] if pair[0] not in _DROPPED_FROM_CLIENT]
        sent = dict(scope["headers"])
        form = api.side_kind == "transcription" and sent.get(b"content-type", b"").startswith(b"multipart/form-data")
        body = _parse(raw, sent) if method == "POST" and raw and not form else None
        if body is not None:
            headers = [*(pair for pair in headers if pair[0] != b"content-type"), _JSON]
        if api.required and api.required not in (body or {}):
            raise Problem(400, "missing_field", f"{path} needs {api.required!r}")
        name = _named_model(body, raw, scope)
        if body is not None:
            self._refuse_body(body)
        try:
            target = self._settings.names.resolve(name, api.side_kind)
        except UnknownName as error:
            known = ", ".join(error.known)
            raise Problem(
                404, "model_not_found", f"there is no model {error.name!r} here; there are: {known}"
            ) from None
        whole_path = path.encode() + (b"?" + query if query else b"")
        return Call(
            api=api,
            path=whole_path,
            asked=_asked(api, whole_path, body),
            method=method,
            headers=headers,
            body=body,
            raw=raw,
            target=target,
            stream=bool(body and body.get("stream") is True),
        )

    def _refuse_body(self, body: dict[str, Any]) -> None:
        depth, address = shaping.look_over(body)
        if depth > _DEEPEST:
            raise Problem(400, "invalid_json", f"the body is nested deeper than {_DEEPEST} levels")
        if address is not None and not self._settings.config.server.allow_media_urls:
            raise Problem(
                400, "media_url_refused",
                f"the model server would fetch {address[:100]!r} itself; send the data inline (data:...), "
                "or the owner sets $.server.allow_media_urls",
            )  # fmt: skip

    def _refuse_poison(self, call: Call) -> None:
        if not self._poison:
            return
        until = self._poison.get(_fingerprint(call.path, call.raw), 0.0)
        now = time.monotonic()
        if now < until:
            raise Problem(
                500,
                "request_refused",
                "this very request ended the model server twice; it is refused for a while",
                until - now,
            )
        self._poison = {key: end for key, end in self._poison.items() if end > now}

    # --- serving ---

    async def _serve(self, call: Call, record: Record, client: Downstream) -> None:
        if call.stream:
            client.hold()
        config = self._settings.config
        tier = config.tiers[call.target.tier] if call.target.tier else None
        chain = conversation.chain(call.body, orjson.dumps) if call.body and call.api.conversation else NOTHING
        background = bool(tier and tier.background)
        began_ms = time.monotonic() * 1000
        for attempt in (1, 2):
            ask = Arrived(
                record.request_id,
                call.target.model,
                Priority.BACKGROUND if background else Priority.INTERACTIVE,
                call.api.needs_slot,
                chain.digests,
                began_ms if attempt == 2 else None,
                call.target.anywhere,
            )
            try:
                lease = await self._fleet.acquire(ask)
            except Refused as refused:
                status = _REFUSAL_STATUS.get(refused.kind, 503)
                raise Problem(status, refused.kind, refused.what, refused.retry_after_s) from None
            record.queue_ms = lease.queue_ms
            if call.target.anywhere:
                home = self._settings.names.tier_of(lease.model)
                record.model, record.tier = lease.model, home or ""
                tier = config.tiers[home] if home else None
            served, record.first_byte_ms = False, None
            errand = Errand(call, tier, lease, chain)
            try:
                await self._bring_context(errand, record)
                assembly = _assembly(call, lease)
                try:
                    await self._exchange(errand, record, client, assembly=assembly)
                except Broken as broken:
                    if assembly is None:
                        raise
                    log.info("request %s: %s; asked again without a stream", record.request_id, broken)
                    await self._exchange(errand, record, client)
                served = True
                return
            except Broken as broken:
                text = f"the model server's answer broke off: {broken}; `variet logs {lease.model}` may say why"
                raise Problem(500, "upstream_error", text) from None
            except ChildDied as death:
                if client.answered and death.stopped:
                    raise Problem(503, "stopped", f"the answer was cut: {death}", 1.0) from None
                if client.answered:
                    raise Problem(500, "model_server_died", f"the model server ended in mid-answer: {death}") from None
                if death.stopped:
                    raise Problem(503, "stopped", str(death), 1.0) from None
                if attempt == 2:
                    if death.proven and call.raw:
                        self._poison[_fingerprint(call.path, call.raw)] = time.monotonic() + _POISON_S
                    text = f"the model server ended twice on this request: {death}"
                    raise Problem(500, "model_server_died", text, _POISON_S) from None
                log.warning("request %s: %s; trying once more on a fresh instance", record.request_id, death)
            finally:
                self._contexts.left(lease, read=record.first_byte_ms is not None)
                self._fleet.end(record.request_id, served=served)

    async def _bring_context(self, errand: Errand, record: Record) -> None:
        """Before the child is asked, the slot gets the conversation, where it is kept and worth it."""
        if errand.lease.slot is None:
            return
        prepared = await self._contexts.prepare(errand.lease, errand.chain, lasting=errand.lasting)
        if prepared.restored:
            record.restored_tokens, record.restore_ms = prepared.tokens, prepared.ms
            self._fleet.restored(errand.lease.instance_id, prepared.ms)

    async def _exchange(
        self, errand: Errand, record: Record, client: Downstream, *, assembly: Assembly | None = None
    ) -> None:
        call, lease = errand.call, errand.lease
        data = call.raw
        if call.asked.body is not None:
            body = call.asked.body if assembly is None else {**call.asked.body, "stream": True}
            data = orjson.dumps(shaping.shape(body, call.asked.api, lease.model, errand.tier, lease.slot))
        try:
            answer = await lease.upstream.ask(call.method, call.asked.path, call.headers, data)
            try:
                if answer.status >= 400 and (call.api.family == "messages" or client.started):
                    raise _translated(answer.status, await answer.read_all())
                if assembly is not None:
                    self._mark_first_byte(record, lease)
                source = answer if answer.status >= 400 else await _read(answer, call, assembly)
                if assembly is None:
                    self._mark_first_byte(record, lease)
                await client.start(answer.status, _downstream_headers(source.headers, record, lease))
                first, tail = await client.pump(source)
            finally:
                answer.close()
        except UpstreamError as error:
            await self._explain(lease, error)
        if call.asked.translated and not isinstance(source, Answer):
            tail = source.tail  # the child's own words count more than Anthropic's do
        read_usage(record, first, tail)
        self._contexts.answered(lease, errand.chain, record, lasting=errand.lasting)
        if call.api.admin_post and call.method == "POST" and answer.status < 400:
            self._contexts.closed(lease.instance_id)  # with other adapters its states are no longer what they were
        self._fleet.end(lease.request_id, served=True)  # the child is done, whatever the client still reads
        await client.finish()
        record.outcome = "done" if answer.status < 400 else f"http {answer.status}"

    def _mark_first_byte(self, record: Record, lease: Lease) -> None:
        record.first_byte_ms = (time.monotonic() - record.began) * 1000
        self._fleet.first_byte(lease.instance_id, record.began * 1000)

    async def _explain(self, lease: Lease, error: Exception) -> NoReturn:
        """A broken connection means a dead child, nearly always; the child's own end tells more than the socket."""
        one = self._fleet.running.get(lease.instance_id)
        if one is not None and one.stopping.is_set():
            raise ChildDied(f"the model server was stopped: {one.stop_reason}", stopped=True) from error
        if one is not None and one.child is not None:
            await asyncio.wait([one.child.gone], timeout=_DEATH_NOTICE_S)
            if one.child.gone.done():
                raise ChildDied(one.child.gone.result().explain(), proven=True) from error
        raise ChildDied(str(error)) from error


def _asked(api: Api, path: bytes, body: dict[str, Any] | None) -> Asked:
    if api.family != "messages" or not api.conversation or body is None:
        return Asked(api, path, body)
    try:
        return Asked(apis.CHAT, CHAT_PATH, to_chat(body), translated=True)
    except (TypeError, AttributeError, KeyError):
        text = "`messages`, `system` or `tools` are not what the API wants: lists of objects with their types"
        raise Problem(400, "invalid_messages", text) from None


def _assembly(call: Call, lease: Lease) -> Assembly | None:
    """Where others may be at work beside it, a plain request is asked for as a stream: only that ends at once."""
    asked = call.asked
    return assembly_for(asked.api, asked.body) if asked.body is not None and lease.slots > 1 else None


async def _read(answer: Answer, call: Call, assembly: Assembly | None) -> Answer | Whole | MessagesStream:
    """What the client gets of an answer that is no error. Raises Broken and UpstreamError."""
    translated = call.asked.translated
    if assembly is not None:
        whole = await gather(answer, assembly)
        return _message(whole) if translated else Whole(whole)
    if not translated:
        return answer
    if not call.stream:
        return _message(await answer.read_all())
    stream = MessagesStream(answer)
    await stream.begun()
    return stream


def _message(raw: bytes | dict[str, Any]) -> Whole:
    with no_surprise():
        chat = orjson.loads(raw) if isinstance(raw, bytes) else raw
        return Whole(to_message(chat), tail=orjson.dumps({name: chat.get(name) for name in ("usage", "timings")}))


class _Left(Exception):
    """The client went away before its request was whole."""


async def _read_body(scope: MutableMapping[str, Any], receive: Receive, limit_mib: float) -> bytes:
    limit = int(limit_mib * 1048576)
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = Problem(413, "body_too_large", f"the request is larger than {limit_mib:g} MiB ($.server.max_body_mib)")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise _Left
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
    return b"".join(parts)


def _parse(raw: bytes, headers: dict[bytes, bytes]) -> dict[str, Any]:
    """The JSON object of a body, whatever its content type says. Raises Problem for anything else."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(415, "encoding_not_supported", "send the body without Content-Encoding")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as strict:
        try:
            body = json.loads(raw)  # integers beyond 64 bits and the like
            orjson.dumps(body)
        except (ValueError, RecursionError, TypeError):
            raise Problem(400, "invalid_json", f"the body is not JSON: {strict}") from None
    if not isinstance(body, dict):
        raise Problem(400, "invalid_json", f"the body must be a JSON object, not {type(body).__name__}")
    return body


def _named_model(body: dict[str, Any] | None, raw: bytes, scope: MutableMapping[str, Any]) -> str | None:
    """`model` from the JSON body, a form's field, or the query."""
    if body is not None and body.get("model") is not None:
        if not isinstance(body["model"], str):
            raise Problem(400, "invalid_model", "`model` must be a string")
        return body["model"] or None
    if body is None and raw:
        form = _form_field(raw, b"model")
        if form:
            return form
    query: bytes = scope["query_string"]
    values = parse_qs(query.decode("latin-1")).get("model") if query else None
    return values[0] if values else None


def _form_field(raw: bytes, name: bytes) -> str | None:
    """The value of a simple field of a multipart form (RFC 7578)."""
    found = re.search(rb"""[;\s]name="?""" + re.escape(name) + rb"""["\s;]""", raw)
    if found is None:
        return None
    start = raw.find(b"\r\n\r\n", found.start())
    end = raw.find(b"\r\n", start + 4)
    return raw[start + 4 : end].decode("utf-8", "replace").strip() if 0 <= start < end else None


def _downstream_headers(
    upstream: Iterable[tuple[bytes, bytes]], record: Record, lease: Lease
) -> list[tuple[bytes, bytes]]:
    headers = [
        pair for pair in upstream if pair[0] not in _DROPPED_FROM_CHILD and not pair[0].startswith(b"access-control-")
    ]
    headers.append((b"x-variet-model", lease.model.encode()))
    if record.tier:
        headers.append((b"x-variet-tier", record.tier.encode()))
    headers.append((b"x-variet-queue-ms", b"%.1f" % lease.queue_ms))
    if record.restored_tokens:
        headers.append((b"x-variet-restored-tokens", b"%d" % record.restored_tokens))
        headers.append((b"x-variet-restore-ms", b"%.1f" % record.restore_ms))
    return headers


def _translated(status: int, body: bytes) -> Problem:
    """llama-server answers in OpenAI's error shape on every path; Anthropic's clients read another one."""
    try:
        error = json.loads(body)["error"]
        return Problem(status, str(error.get("type", "upstream_error")), str(error.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(status, "upstream_error", body[:500].decode("utf-8", "replace"))


def _fingerprint(path: bytes, raw: bytes) -> bytes:
    return hashlib.blake2b(path + b"\0" + raw, digest_size=16).digest()
