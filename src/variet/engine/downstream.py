"""The way back to one client: held headers, a bounded buffer, errors before and inside a stream.

Knows nothing of models or leases. A client that reads nothing for too long raises Problem.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

import orjson

from variet.engine.apis import Family
from variet.engine.config import EngineConfig
from variet.engine.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]
Facts = Callable[[], Mapping[str, Any]]

_TAIL_BYTES = 16_384
_PIECE_BYTES = 65_536
_LIVE_S = 0.25


class Client(Protocol):
    """What the relay needs of a client's connection beyond ASGI: the server's extension `variet.client`."""

    @property
    def full(self) -> bool:
        """Whether a message sent now would have to wait for the client to read."""
        ...

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` once the client is gone, at once if it is already."""
        ...

    def unwatch(self, on_gone: Callable[[], None]) -> None: ...

    def abort(self) -> None:
        """Break the connection off, whatever waits to be sent."""
        ...


class Source(Protocol):
    """An answer that is read piece by piece."""

    @property
    def ended(self) -> bool: ...

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        ...


class Downstream:
    """One answer on its way to one client."""

    def __init__(self, send: Send, client: Client, family: Family, config: EngineConfig) -> None:
        self.started = False  # headers are out, be it for comments only
        self.answered = False  # the child's own answer is under way
        self.left = False
        self.complete = False
        self._raw_send = send
        self._client = client
        self._family = family
        self._note: Callable[[Mapping[str, Any]], bytes] = _comment
        self._failed: Callable[[Problem], bytes] = lambda problem: problem.event(family)
        self._server = config.server
        self._stream = False
        self._hold: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None  # while the client is slower than the child
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._room = asyncio.Event()
        self._last = b""
        self._loop = asyncio.get_running_loop()
        self._sending: tuple[float, asyncio.Task[Any]] | None = None
        self._stalled = False
        self._stall_timer: asyncio.TimerHandle | None = None

    def speak(self, note: Callable[[Mapping[str, Any]], bytes], failed: Callable[[Problem], bytes]) -> None:
        """How its API says in a stream that somebody is there, and that it went wrong, where that is not the usual way:
        a comment, and an event with the error."""
        self._note, self._failed = note, failed

    def hold(self, tell: Facts, *, live: bool) -> None:
        """Keep a stream's headers back until there is something to say, or for so long at most. From then on the client
        hears what `tell` says of its request: whenever that changed if it wants it `live`, else now and then."""
        patience_s = 0.0 if live else self._server.hold_headers_s
        pause_s = _LIVE_S if live else self._server.keepalive_s
        self._hold = self._loop.call_later(patience_s, self._begin_ticking, tell, pause_s)

    def _begin_ticking(self, tell: Facts, pause_s: float) -> None:
        self._ticker = asyncio.create_task(self._tick(tell, pause_s))

    async def _tick(self, tell: Facts, pause_s: float) -> None:
        """What a waiting stream gets once its headers are held no longer."""
        await self._begin(200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")], stream=True)
        said: Mapping[str, Any] | None = None
        said_at = 0.0
        while True:
            facts = tell()
            if facts != said or self._loop.time() - said_at >= self._server.keepalive_s:
                said, said_at = facts, self._loop.time()
                await self._send({"type": "http.response.body", "body": self._note(facts), "more_body": True})
            await asyncio.sleep(pause_s)

    async def _stop_ticking(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._ticker is not None:
            ticker, self._ticker = self._ticker, None
            ticker.cancel()
            await asyncio.wait([ticker])
            if not ticker.cancelled():
                ticker.result()  # the client stalled meanwhile

    async def _send(self, message: Message) -> None:
        """Raises Problem once the client took nothing for too long. One timer an answer: a time-out around each message
        would cost as much as sending it."""
        if not self._client.full:
            await self._raw_send(message)  # waits for nothing
            return
        task = asyncio.current_task()
        assert task is not None
        self._sending = (self._loop.time(), task)
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(self._server.stall_timeout_s, self._look_for_stall)
        try:
            await self._raw_send(message)
        except asyncio.CancelledError:
            if not self._stalled:
                raise
            task.uncancel()
            raise Problem(408, "client_stalled", "the client stopped reading its answer") from None
        finally:
            self._sending = None

    def _look_for_stall(self) -> None:
        patience_s = self._server.stall_timeout_s
        if self._sending is None:
            self._stall_timer = self._loop.call_later(patience_s, self._look_for_stall)
            return
        since, task = self._sending
        remaining = since + patience_s - self._loop.time()
        if remaining > 0:
            self._stall_timer = self._loop.call_later(remaining, self._look_for_stall)
        else:
            self._stalled = True
            task.cancel()

    async def _begin(self, status: int, headers: Headers, *, stream: bool) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.started, self._stream = True, stream  # only now: the ticker may be ended while it waits to send

    async def start(self, status: int, headers: Headers, marks: Headers) -> None:
        """The child's status and headers, unless the hold ran out and others were sent already; with what the engine
        has to say of this answer."""
        await self._stop_ticking()
        self.answered = True
        if self.started:
            if status >= 400:
                raise Problem(status, "upstream_error", f"the model server answered {status}")
            note = self._note({name.decode(): value.decode() for name, value in marks})
            await self._send({"type": "http.response.body", "body": note, "more_body": True})
            return
        headers = [*headers, *marks]
        stream = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
        await self._begin(status, headers, stream=stream)

    async def pump(self, source: Source) -> tuple[bytes, bytes]:
        """Take the answer at the child's speed, whatever the client's; returns its first piece and its last bytes.

        A piece goes straight out while the client keeps up, else into a buffer that a task of its own empties. The
        last piece waits for `finish`.
        """
        limit = int(self._server.buffer_mib * 1048576)
        first = b""
        tail: deque[bytes] = deque()
        tail_bytes = 0
        while chunk := await source.read():
            first = first or chunk
            tail.append(chunk)
            tail_bytes += len(chunk)
            while tail_bytes - len(tail[0]) >= _TAIL_BYTES:
                tail_bytes -= len(tail.popleft())
            if self._writer is not None and self._writer.done():
                self._writer.result()  # a client that stalled raises here: no need to go on
                self._writer = None
            if self._writer is None and source.ended:
                self._last = chunk
            elif self._writer is None and not self._client.full:
                await self._raw_send({"type": "http.response.body", "body": chunk, "more_body": True})
            else:
                self._chunks.append(chunk)
                self._held += len(chunk)
                self._writer = self._writer or asyncio.create_task(self._write_out())
                while self._held > limit:
                    self._room.clear()
                    await self._until_room()
        return first, b"".join(tail)[-_TAIL_BYTES:]

    async def _until_room(self) -> None:
        """Wait for room in the buffer; a client that stalls for too long raises Problem."""
        assert self._writer is not None
        waiter = asyncio.ensure_future(self._room.wait())
        try:
            await asyncio.wait([waiter, self._writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if self._writer.done():
            self._writer.result()

    async def _write_out(self) -> None:
        while self._chunks:
            piece = self._next_piece()
            self._held -= len(piece)
            self._room.set()
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def _next_piece(self) -> bytes:
        """Several chunks in one, but not all that wait: a client that reads slowly is seen to read by each piece."""
        parts = [self._chunks.popleft()]
        size = len(parts[0])
        while self._chunks and size < _PIECE_BYTES:
            parts.append(self._chunks.popleft())
            size += len(parts[-1])
        return b"".join(parts) if len(parts) > 1 else parts[0]

    async def finish(self) -> None:
        """Let the client read to the end."""
        if self._writer is not None:
            await self._writer
        self.complete = True  # from here on a disconnect is the normal end
        await self._send({"type": "http.response.body", "body": self._last, "more_body": False})

    async def fail(self, problem: Problem, marks: Headers = ()) -> None:
        """Say what went wrong: as an answer, or inside a stream and then with an aborted body, so that no client
        takes what it has for whole."""
        if problem.code == "client_stalled":
            return  # it would not read this either
        await self._stop_ticking()
        if self._writer is not None:
            await asyncio.wait([self._writer])  # what the child wrote still goes out, an end does not
        if not self.started:
            body = problem.body(self._family)
            length = (b"content-length", str(len(body)).encode())
            await self._begin(problem.status, [*problem.headers(), *marks, length], stream=False)
            self.complete = True
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        elif self._stream:
            await self._send({"type": "http.response.body", "body": self._failed(problem), "more_body": True})

    def close(self) -> None:
        for timer in (self._hold, self._stall_timer):
            if timer is not None:
                timer.cancel()
        for task in (self._ticker, self._writer):
            if task is not None and not task.done():
                task.cancel()


def _comment(facts: Mapping[str, Any]) -> bytes:
    """What no client takes for a part of the answer (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b": variet %s\n\n" % orjson.dumps(facts)
