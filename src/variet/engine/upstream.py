"""HTTP/1.1 to one child: kept connections, whole requests out, an answer's bytes back as they come.

Parsing is httptools', as on the side of the clients; why not an HTTP library: docs/decisions/009. Requests are the
relay's own, so nothing here is meant for the internet: no redirects, no cookies, no compression, no proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from variet.engine.backends.base import Address

Headers = Sequence[tuple[bytes, bytes]]
_KEEP_S = 4.0  # llama-server's own HTTP library closes idle connections at 5 s
_CONNECT_S = 10.0
_HIGH_WATER = 1 << 18  # bytes read ahead of whoever takes them
_SOON_S = 1.0  # a kept connection that ends sooner was ended by its answer


class UpstreamError(Exception):
    """The connection to the child broke, or what came over it is no HTTP."""


class Answer:
    """One answer. `close` it in the end: before it is whole, that cuts the connection, which stops the child's work."""

    def __init__(self, connection: _Connection, *, head_only: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self._connection = connection
        self.touched = False  # something came
        self.head_only = head_only
        self._chunks: list[bytes] = []
        self._held = 0
        self._whole = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether everything was read."""
        return self._whole and not self._chunks

    async def read(self) -> bytes:
        """What has come so far, at least a byte; empty at the end. Raises UpstreamError."""
        while not self._chunks:
            if self._whole:
                return b""
            if self._error is not None:
                raise self._error
            await self._change()
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._held = [], 0
        if not self._whole:  # else the connection may be the next request's already
            self._connection.resume()
        return chunk

    async def read_all(self) -> bytes:
        """The whole body. Raises UpstreamError."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back, or cut it where the answer is not whole."""
        if not self._whole:
            self._connection.cut()

    async def begun(self) -> None:
        """Wait for the first byte of the body, or for the end of an answer without one. Raises UpstreamError."""
        while not self._chunks and not self._whole:
            if self._error is not None:
                raise self._error
            await self._change()

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- from the connection ---

    def take(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held > _HIGH_WATER:
            self._connection.pause()
        self._wake()

    def finish(self) -> None:
        self._whole = True
        self._wake()

    def break_off(self, error: UpstreamError) -> None:
        self._error = error
        self._wake()


class _Connection(asyncio.Protocol):
    """A connection, its parser, and the one answer that is under way on it."""

    def __init__(self, upstream: Upstream) -> None:
        self.idle_since = 0.0
        self._upstream = upstream
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._bounded = False  # the answer's length is known, or it is chunked
        self._done = False  # an answer ended in the bytes that are being read
        self._keepable = False  # and said that the connection stays
        self._surplus = False  # and more came after it
        self.eof = False  # the child ended it

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, data: Sequence[bytes], *, head_only: bool) -> Answer:
        assert self._transport is not None
        self._answer = Answer(self, head_only=head_only)
        self._bounded = False
        self._transport.writelines(data)
        return self._answer

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._upstream.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: the next answer on this connection could not be trusted
            self.cut()
            return
        self._answer.touched, self._done = True, False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break_off(f"what it answered is no HTTP that was asked for ({error})")
            self.cut()
            return
        if self._surplus:
            self.cut()
        elif self._done and self._keepable:
            self._upstream.keep(self)
        elif self._done:
            self.close()

    def eof_received(self) -> None:
        self.eof = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.forget(self)
        if exc is None and self.eof and self._answer is not None and self._answer.status and not self._bounded:
            self._end()  # RFC 9112, 6.3: without a length, the end of the connection ends the answer
        self._break_off(f"connection lost{f' ({exc})' if exc else ''}")

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._surplus = self._answer is None

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None:
            return
        name = name.lower()
        self._answer.headers.append((name, value))
        if name in (b"content-length", b"transfer-encoding"):
            self._bounded = True

    def on_headers_complete(self) -> None:
        if self._answer is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer
            self._answer.headers.clear()
            self._bounded = False
            return
        self._answer.status = status
        if self._answer.head_only:
            self._end()
            self.close()  # the parser would wait for the body whose length the head tells

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.take(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status:
            self._done, self._keepable = True, self._parser.should_keep_alive()
            self._end()

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.finish()
        self.resume()

    def _break_off(self, how: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.break_off(UpstreamError(how))


class Upstream:
    """All connections to one child."""

    def __init__(self, address: Address) -> None:
        self.closed = False
        self.connections: set[_Connection] = set()
        self._address = address
        url = urlsplit(address.base_url)
        self._place = (url.hostname or "127.0.0.1", url.port or 80)
        self._idle: list[_Connection] = []
        self._spare: asyncio.Task[None] | None = None
        self._common = b"Host: child\r\n"
        if address.api_key:
            self._common += f"Authorization: Bearer {address.api_key}\r\n".encode()

    async def ask(self, method: str, path: bytes, headers: Headers = (), body: bytes = b"") -> Answer:
        """Send a request and wait for the first byte of its answer's body, however long that takes.

        Raises UpstreamError where the child cannot be reached or its connection breaks. Close the answer.
        """
        lines = [b"%s %s HTTP/1.1\r\n" % (method.encode(), path), self._common]
        lines += [b"%s: %s\r\n" % pair for pair in headers]
        if body or method == "POST":
            lines.append(b"Content-Length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        data = (b"".join(lines), body)
        kept = self._kept()
        if kept is not None:
            answer = kept.ask(data, head_only=method == "HEAD")
            try:
                return await _begun(answer)
            except UpstreamError:
                if answer.touched or self.closed:
                    raise
        # The child may close a kept connection in the very moment in which it is asked again: then by a fresh one.
        connection = await self._connect()
        return await _begun(connection.ask(data, head_only=method == "HEAD"))

    def close(self) -> None:
        """Cut every connection; whoever waits on one gets an UpstreamError."""
        self.closed = True
        self.close_idle()
        for connection in list(self.connections):
            connection.cut()

    def close_idle(self) -> None:
        """Close what nobody uses: a child that is to end need not wait for it."""
        if self._spare is not None:
            self._spare.cancel()
        while self._idle:
            self._idle.pop().close()

    def keep(self, connection: _Connection) -> None:
        """For the next request, soon."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._prepare(connection)

    def _prepare(self, ended: _Connection) -> None:
        """llama-server ends a connection with each stream on it: have the next one open before it is asked for."""
        soon = time.monotonic() - ended.idle_since < _SOON_S
        if ended.eof and soon and not self._idle and not self.closed:
            self._spare = asyncio.get_running_loop().create_task(self._open_spare())

    async def _open_spare(self) -> None:
        with contextlib.suppress(UpstreamError):  # whoever asks next will hear of it
            self.keep(await self._connect())

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive and time.monotonic() - connection.idle_since < _KEEP_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        if self.closed:
            raise UpstreamError("the model server was stopped")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                if self._address.socket_path:
                    _, made = await loop.create_unix_connection(lambda: _Connection(self), self._address.socket_path)
                else:
                    host, port = self._place
                    _, made = await loop.create_connection(lambda: _Connection(self), host, port)
        except OSError as error:  # TimeoutError is one
            raise UpstreamError(f"it cannot be reached ({error or type(error).__name__})") from error
        if self.closed:
            made.cut()
            raise UpstreamError("the model server was stopped")
        return made


async def _begun(answer: Answer) -> Answer:
    try:
        await answer.begun()
    except BaseException:  # a cancelled wait, too, must not leave the child at work
        answer.close()
        raise
    return answer
