"""The beginning of a stream: what a child tells while it reads a prompt, before its answer begins.

llama-server tells how far it is (`return_progress`) in events of the answer's own stream. The engine always asks for
them: a waiting person wants to know, and a child that writes them notices that its client is gone. Clients that did
not ask get the stream that they would have got without.
"""

from __future__ import annotations

from typing import Any

import orjson

from variet.engine.downstream import Source
from variet.engine.record import Record

Event = dict[str, Any]
_MARK = b'"prompt_progress":'  # inside a text its quotes would be escaped
_END = b"\n\n"
_ERROR = b'data: {"error":'


class Opening:
    """A stream that tells `record` how far it is; `shown`: its client wants the events of that, too."""

    def __init__(self, stream: Source, record: Record, *, shown: bool) -> None:
        self._stream, self._record, self._shown = stream, record, shown
        self._rest = b""  # of an event that is not whole yet
        self._ready = b""
        self._over = False
        self.error: Event | None = None  # what the child says instead of an answer
        self._half_an_end = False  # the last piece was cut between the two line ends of an event

    @property
    def ended(self) -> bool:
        return self._stream.ended and not self._ready and self._over

    async def begun(self) -> None:
        """Wait for the first bytes that the client is to see. Raises what reading raises."""
        while not self._ready and not self._over:
            piece = await self._stream.read()
            if piece:
                self._take(piece)
            else:
                self._let_through(self._rest)

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        await self.begun()
        piece, self._ready = self._ready, b""
        if not piece:
            piece = await self._stream.read()
        self._record.pieces += piece.count(_END) + (self._half_an_end and piece[:1] == b"\n")
        self._half_an_end = piece[-1:] == b"\n" and piece[-2:] != _END
        return piece

    def _take(self, piece: bytes) -> None:
        *events, self._rest = (self._rest + piece).split(_END)
        for index, event in enumerate(events):
            if event.startswith(b":"):
                continue  # a sign of life (`--sse-ping-interval`): clients get the engine's own, which say more
            told = _progress(event)
            if told is None:
                self._let_through(_END.join([*events[index:], self._rest]))
                return
            self._record.reading(*told)
            if self._shown:
                self._ready += event + _END

    def _let_through(self, rest: bytes) -> None:
        self._over = True
        self.error = _error(rest)
        self._ready += rest
        self._rest = b""


def _progress(event: bytes) -> tuple[int, int, int] | None:
    """(tokens of the prompt, of these cached, of these read) that an event tells; None if it is about the answer."""
    if _MARK not in event:
        return None
    try:
        told = orjson.loads(event.partition(b"data: ")[2])["prompt_progress"]
        return int(told["total"]), int(told["cache"]), int(told["processed"])
    except (ValueError, TypeError, LookupError):
        return None


def _error(event: bytes) -> Event | None:
    if not event.startswith(_ERROR):
        return None
    try:
        told = orjson.loads(event.partition(_END)[0].partition(b": ")[2])["error"]
    except (ValueError, TypeError, LookupError):
        return None
    return told if isinstance(told, dict) else None
