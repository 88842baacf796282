"""A client's connection: uvicorn's own protocol, which tells the application and hears from it more than ASGI knows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_MOST_PIPELINED = 32


class OneWrite:
    """Where uvicorn writes an answer to: its head goes out with the first piece of its body, if that follows at once.
    A system call and a wake-up of the client less before the first byte."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head: bytes | None = None
        self._begun = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self.is_closing():
            return
        if self._begun:
            self._transport.write(data)
        elif self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._begun = True
            self._transport.write(self._head + data)

    def flush(self) -> None:
        if not self._begun and self._head is not None and not self.is_closing():
            self._begun = True
            self._transport.write(self._head)

    def close(self) -> None:
        self.flush()
        self._transport.close()


class ClientConnection(HttpToolsProtocol):
    """The extension `variet.client` of each request on it: see downstream.Client. One request at a time runs."""

    _on_gone: Callable[[], None] | None = None
    _gone = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cycles: deque[RequestResponseCycle] = deque()  # the one that runs, and those that wait behind it

    @property
    def full(self) -> bool:
        return self.flow.write_paused and not self._gone

    def watch(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self.flow.resume_reading()  # a large body may have paused it, and a paused connection's end is not seen
        if self._gone:
            on_gone()

    def unwatch(self, on_gone: Callable[[], None]) -> None:
        if self._on_gone is on_gone:  # not the next request's
            self._on_gone = None

    def abort(self) -> None:
        self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"variet.client": {"connection": self}}

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":  # an upgrade by its name alone
                self.send_400_response("This is no proxy.")
                return
            self._stay_with_http(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _stay_with_http(self, rest: bytes) -> None:
        """A server may ignore Upgrade (RFC 9110, 7.8): Java's client offers h2c with each request. The request is read
        again without the offer, by a parser that has not given up on it."""
        dropped = (b"upgrade", b"connection", b"http2-settings")
        head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        head += [b"%s: %s" % pair for pair in self.headers if pair[0] not in dropped]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*head, b"", rest]) if rest else b"\r\n".join([*head, b"", b""]))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser takes the body for another protocol's: see data_received
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is None or self.cycle is before:
            return
        self.cycle.transport = OneWrite(self.transport, self.loop)  # type: ignore[assignment]
        self._cycles.append(self.cycle)
        if len(self.pipeline) > _MOST_PIPELINED:
            self.transport.abort()
        elif self.pipeline and self._on_gone is not None:
            self.flow.resume_reading()  # uvicorn stops reading here, and then nobody sees that the client goes away

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._cycles.popleft()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone = True
        self.pipeline.clear()
        for cycle in self._cycles:  # uvicorn tells the last one only
            cycle.disconnected = True
            cycle.message_event.set()
        if self._on_gone is not None:
            self._on_gone()
