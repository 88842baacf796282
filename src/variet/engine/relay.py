"""The data path: a plain ASGI app that brings a request to a leased child and the child's bytes back.

It reads the body once, waits for a lease, and re-parses nothing on the way back. The lease ends when the child is
done; a slow reader is served from a bounded buffer. A client that leaves ends the generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from variet.engine import apis, conversation, shaping
from variet.engine.assembly import Assembly, Broken, Whole, assembly_for, gather, no_surprise
from variet.engine.config import TierConfig
from variet.engine.contexts import Contexts
from variet.engine.conversation import NOTHING, Chain
from variet.engine.dialects.base import Dialect, TranslatedStream
from variet.engine.downstream import Client, Downstream, Receive, Send
from variet.engine.events import Arrived, Priority
from variet.engine.fleet import Fleet, Lease, Refused
from variet.engine.names import Target, UnknownName
from variet.engine.opening import Opening
from variet.engine.problems import TOO_LONG, UNKNOWN, Problem
from variet.engine.record import Record, read_usage
from variet.engine.request import Call, Left, Settings, read_body, understand
from variet.engine.rescue import NOTHING as NO_RESCUE
from variet.engine.rescue import Rescue, RescuedStream, rescue_for, rescue_whole
from variet.engine.unasked import WithoutUsage, asked_for_usage
from variet.engine.upstream import Answer, UpstreamError

log = logging.getLogger("variet.engine.relay")

_DROPPED_FROM_CHILD = {b"connection", b"keep-alive", b"transfer-encoding", b"server", b"date"}
MARKS = tuple(
    f"x-variet-{name}"
    for name in (
        "request", "tier", "model", "queue-ms", "swap-ms", "restored-tokens", "restore-ms", "prompt-tokens",
        "cached-tokens", "reason",
    )
)  # fmt: skip
_REFUSAL_STATUS = {"queue_full": 429, "unknown_model": 404}  # all others: 503
_POISON_S = 600.0
_WORTH_TELLING_BYTES = 4096  # a shorter prompt is one batch of the child: it has no progress
_DEATH_NOTICE_S = 2.0
_MOST_TOLD = 8
_MOST_PATH = 120  # characters of an unknown path, in a log

Body = (
    Answer | Opening | RescuedStream | Whole | TranslatedStream | WithoutUsage
)  # an answer, as it is read for the client


@dataclass(slots=True, eq=False)
class Errand:
    """A call and the lease of the child that answers it. `alone`: the child had no other request at the same time."""

    call: Call
    tier: TierConfig | None
    lease: Lease
    chain: Chain
    alone: bool = True

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
        self._beside: dict[int, set[Errand]] = {}  # by instance, the errands that run there

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        line: Client = scope["extensions"]["variet.client"]["connection"]
        client = Downstream(send, line, apis.family_of(path), self._settings.config)
        try:
            raw = await read_body(scope, receive, self._settings.config.server.max_body_mib)
            call = understand(scope, raw, self._settings)
            self._refuse_poison(call)
        except Problem as problem:
            self.refused(path, problem)
            await client.fail(problem)
            return
        except Left:
            return
        record = self._record(call, path)
        task = asyncio.current_task()
        assert task is not None

        def on_gone() -> None:
            if not client.complete:
                client.left = True
                task.cancel()

        line.watch(on_gone)
        try:
            try:
                if call.next:
                    with contextlib.suppress(UnknownName, OSError):  # a hint: not worth a refusal
                        self._settings.hint(call.next)
                await self._serve(call, record, client)
            except Problem as problem:
                record.outcome = problem.code
                await client.fail(problem, _marks(record))
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
            if record.outcome == "running":  # a fault of ours: nobody may wait for its end
                record.outcome = "failed"
            record.total_ms = (time.monotonic() - record.began) * 1000
            self._on_done(record)

    def refused(self, path: str, problem: Problem) -> None:
        """A request that no model gets to see leaves a line in log, metrics and history, too."""
        number = self._fleet.new_id()
        record = Record(number, path[:_MOST_PATH], "", "", str(number), False)
        record.outcome = problem.code
        record.total_ms = (time.monotonic() - record.began) * 1000
        self._on_done(record)

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

    def _record(self, call: Call, path: str) -> Record:
        number = self._fleet.new_id()
        record = Record(number, path, call.target.tier or "", call.target.model, call.name or str(number), call.stream)
        record.attributed = call.attributed
        self.active[number] = record
        return record

    # --- serving ---

    async def _serve(self, call: Call, record: Record, client: Downstream) -> None:
        dialect = call.asked.dialect
        if dialect is not None:
            client.speak(
                lambda facts: dialect.written(dialect.alive(facts)),
                lambda problem: dialect.written(dialect.failed(problem)),
            )
        if call.stream:
            client.hold(lambda: self._settings.facts_of(record), live=call.live)
        if dialect is not None and dialect.passed_over:
            left_out = ", ".join(sorted(set(dialect.passed_over))[:_MOST_TOLD])
            log.info("request %s: passed over, for no model here knows it: %s", record.request_id, left_out)
        config = self._settings.config
        chain = conversation.chain(call.body, orjson.dumps) if call.body and call.api.conversation else NOTHING
        if call.target.auto and call.body is not None and chain.digests:
            chosen = self._settings.choose(call.body, chain)
            call.target = Target(chosen.model, chosen.tier)
            record.model, record.tier, record.reason = chosen.model, chosen.tier, chosen.reason
        tier = config.tiers[call.target.tier] if call.target.tier else None
        background = bool(tier and tier.background)
        self._contexts.expect(call.target.model, chain)
        began_ms = time.monotonic() * 1000
        guilty = False  # its child died with this request alone: of several requests the guilty one is not known
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
            record.queue_ms, record.swap_ms = lease.queue_ms, lease.swap_ms
            if call.target.anywhere:
                home = self._settings.names.tier_of(lease.model)
                record.model, record.tier = lease.model, home or ""
                tier = config.tiers[home] if home else None
            served = False
            record.again()
            errand = Errand(call, tier, lease, chain)
            self._enter(errand)
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
                guilty = guilty or (death.proven and errand.alone)
                if attempt == 2:
                    if guilty and death.proven and call.raw:
                        self._poison[_fingerprint(call.path, call.raw)] = time.monotonic() + _POISON_S
                    text = f"the model server ended twice on this request: {death}"
                    raise Problem(500, "model_server_died", text, _POISON_S) from None
                log.warning("request %s: %s; trying once more on a fresh instance", record.request_id, death)
            finally:
                record.stage = "queue"
                self._leave(errand)
                self._contexts.left(lease, read=record.first_byte_ms is not None)
                self._fleet.end(record.request_id, served=served)

    def _enter(self, errand: Errand) -> None:
        there = self._beside.setdefault(errand.lease.instance_id, set())
        for other in (*there, errand) if there else ():
            other.alone = False
        there.add(errand)

    def _leave(self, errand: Errand) -> None:
        there = self._beside[errand.lease.instance_id]
        there.discard(errand)
        if not there:
            del self._beside[errand.lease.instance_id]

    async def _bring_context(self, errand: Errand, record: Record) -> None:
        """Before the child is asked, the slot gets the conversation, where it is kept and worth it."""
        if errand.lease.slot is None:
            return
        record.stage = "restore"
        prepared = await self._contexts.prepare(errand.lease, errand.chain, lasting=errand.lasting)
        if prepared.restored:
            record.restored_tokens, record.restore_ms = prepared.tokens, prepared.ms
            self._fleet.restored(errand.lease.instance_id, prepared.ms)

    async def _exchange(
        self, errand: Errand, record: Record, client: Downstream, *, assembly: Assembly | None = None
    ) -> None:
        call, lease = errand.call, errand.lease
        data, body, streams = call.raw, call.asked.body, False
        if body is not None:
            body = body if assembly is None else {**body, "stream": True}
            streams = call.asked.api.conversation and body.get("stream") is True
            if streams and (len(call.raw) >= _WORTH_TELLING_BYTES or call.live or call.asked.dialect is not None):
                body = {**body, "return_progress": True}
            body = shaping.shape(body, call.asked.api, lease.model, errand.tier, lease.slot)
            data = orjson.dumps(body)
        record.stage = "prefill"
        try:
            answer = await lease.upstream.ask(call.method, call.asked.path, call.headers, data)
            try:
                opening: Answer | Opening | Whole = answer
                if answer.status >= 400 and (call.asked.api is apis.CHAT or _speaks_otherwise(call) or client.started):
                    refused = await answer.read_all()
                    problem = _translated(answer.status, refused)
                    if _speaks_otherwise(call) or client.started or problem.code in (TOO_LONG, UNKNOWN):
                        raise problem
                    opening = Whole(orjson.loads(refused))
                if streams and answer.status < 400:
                    opening = Opening(answer, record, shown=_wants_progress(call))
                    await opening.begun()
                    if opening.error is not None and assembly is None:  # said with its status it is no stream
                        raise _refused(opening.error)
                record.stage = "answer"
                self._mark_first_byte(record, lease)
                source: Body = opening
                if answer.status < 400 and not isinstance(opening, Whole):
                    rescue = rescue_for(body) if self._rescues(errand) else NO_RESCUE
                    source = await _read(opening, call, record, assembly, rescue)
                headers = source.headers if isinstance(source, Answer | Whole | TranslatedStream) else answer.headers
                await client.start(answer.status, _downstream_headers(headers), _marks(record))
                first, tail = await client.pump(source)
            finally:
                answer.close()
        except UpstreamError as error:
            await self._explain(lease, error)
        if isinstance(source, WithoutUsage) or (
            call.asked.dialect is not None and isinstance(source, Whole | TranslatedStream)
        ):
            tail = source.tail  # usage is read from the child's own answer: the client's answer was changed
        read_usage(record, first, tail)
        self._contexts.answered(lease, errand.chain, record, lasting=errand.lasting, asked=body)
        if call.api.admin_post and call.method == "POST" and answer.status < 400:
            self._contexts.closed(lease.instance_id)  # with other adapters its states are no longer what they were
        self._fleet.end(lease.request_id, served=True)  # the child is done, whatever the client still reads
        await client.finish()
        record.outcome = "done" if answer.status < 400 else f"http {answer.status}"

    def _rescues(self, errand: Errand) -> bool:
        asked = errand.call.asked
        return asked.api is apis.CHAT and self._settings.rescues(errand.tier, errand.lease.model)

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


def _assembly(call: Call, lease: Lease) -> Assembly | None:
    """Where others may be at work beside it, a plain request is asked for as a stream: only that ends at once."""
    asked = call.asked
    return assembly_for(asked.api, asked.body) if asked.body is not None and lease.slots > 1 else None


async def _read(
    answer: Answer | Opening, call: Call, record: Record, assembly: Assembly | None, rescue: Rescue
) -> Body:
    """What the client gets of an answer that is no error. `rescue`: which calls its text may hold. Raises Broken and
    UpstreamError."""
    dialect = call.asked.dialect
    if isinstance(answer, Answer):  # no stream
        if dialect is None and not rescue:
            return answer
        with no_surprise():
            chat = rescue_whole(orjson.loads(await answer.read_all()), rescue)
        return _whole(chat, dialect)
    source: Opening | RescuedStream = RescuedStream(answer, rescue) if rescue else answer
    if assembly is not None:
        return _whole(await gather(source, assembly), dialect)
    if dialect is None:
        usage = call.asked.api.streams_usage and not asked_for_usage(call.body or {})
        return WithoutUsage(source) if usage else source
    stream = TranslatedStream(source, dialect, record.prompt_tokens, record.cached_tokens)
    await stream.begun()
    return stream


def _speaks_otherwise(call: Call) -> bool:
    return call.api.family == "messages"


def _wants_progress(call: Call) -> bool:
    """Whether the client asked for the child's own words about its prompt; other APIs have none."""
    return call.asked.dialect is None and bool(call.body and call.body.get("return_progress") is True)


def _whole(chat: dict[str, Any], dialect: Dialect | None) -> Whole:
    if dialect is None:
        return Whole(chat)
    with no_surprise():
        return Whole(dialect.whole(chat), tail=orjson.dumps({name: chat.get(name) for name in ("usage", "timings")}))


def _downstream_headers(upstream: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        pair for pair in upstream if pair[0] not in _DROPPED_FROM_CHILD and not pair[0].startswith(b"access-control-")
    ]


def _marks(record: Record) -> list[tuple[bytes, bytes]]:
    """What the engine says of an answer in its headers: who gives it, and what there was to wait for."""
    marks = [(b"x-variet-request", record.name.encode()), (b"x-variet-model", record.model.encode())]
    if record.tier:
        marks.append((b"x-variet-tier", record.tier.encode()))
    if record.reason:
        marks.append((b"x-variet-reason", record.reason.encode("ascii", "replace")))
    marks.append((b"x-variet-queue-ms", b"%.1f" % record.queue_ms))
    if record.swap_ms:
        marks.append((b"x-variet-swap-ms", b"%.1f" % record.swap_ms))
    if record.restored_tokens:
        marks.append((b"x-variet-restored-tokens", b"%d" % record.restored_tokens))
        marks.append((b"x-variet-restore-ms", b"%.1f" % record.restore_ms))
    if record.prompt_tokens:
        marks.append((b"x-variet-prompt-tokens", b"%d" % record.prompt_tokens))
        marks.append((b"x-variet-cached-tokens", b"%d" % record.cached_tokens))
    return marks


def _translated(status: int, body: bytes) -> Problem:
    """llama-server answers in OpenAI's error shape on every path; Anthropic's clients read another one."""
    try:
        error = json.loads(body)["error"]
        return Problem(status, str(error.get("type", UNKNOWN)), str(error.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(status, UNKNOWN, body[:500].decode("utf-8", "replace"))


def _refused(error: Mapping[str, Any]) -> Problem:
    """What the child says in a stream instead of an answer, as if it had said so with its status."""
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return Problem(status, str(error.get("type", UNKNOWN)), str(error.get("message", "")))


def _fingerprint(path: bytes, raw: bytes) -> bytes:
    return hashlib.blake2b(path + b"\0" + raw, digest_size=16).digest()
