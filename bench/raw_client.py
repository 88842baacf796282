"""A small HTTP/1.1 client for measuring: one connection, prepared bytes, little work between the stamps."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Timed:
    """`first_ms`: from the last byte sent to the first byte of the body."""

    status: int
    first_ms: float
    body: bytes
    stamps_ns: tuple[int, ...]  # when each piece of the body arrived
    ends: tuple[int, ...]  # where it ends in the body

    def arrived_ms(self, offset: int) -> float:
        """From the last byte sent to the arrival of the byte at an offset of the body."""
        at = next(index for index, end in enumerate(self.ends) if end > offset)
        return self.first_ms + (self.stamps_ns[at] - self.stamps_ns[0]) / 1e6


def request(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Connection:
    """Kept open between requests; opened again where the server closed it. `door`: a port of loopback, or a socket."""

    def __init__(self, door: int | str) -> None:
        self._door = door
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> Timed:
        """Raises ConnectionError where the answer is not whole."""
        reused = self._streams is not None
        if self._streams is None:
            if isinstance(self._door, str):
                self._streams = await asyncio.open_unix_connection(self._door, limit=1 << 24)
            else:
                self._streams = await asyncio.open_connection("127.0.0.1", self._door, limit=1 << 24)
        try:
            return await self._ask(data, *self._streams)
        except (asyncio.IncompleteReadError, OSError) as error:
            self.close()
            if reused:  # servers close kept connections after some seconds or requests
                return await self.ask(data)
            raise ConnectionError(f"the answer is not whole: {error!r}") from error

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Timed:
        began = time.monotonic_ns()
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        stamps: list[int] = []
        parts: list[bytes] = []
        if b"transfer-encoding: chunked" in head:
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                piece = await reader.readexactly(size + 2)
                if size == 0:
                    break
                stamps.append(time.monotonic_ns())
                parts.append(piece[:-2])
        else:
            length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
            parts.append(await reader.readexactly(length))
            stamps.append(time.monotonic_ns())
        first = (stamps[0] - began) / 1e6 if stamps else 0.0
        if b"connection: close" in head:
            self.close()
        return Timed(status, first, b"".join(parts), tuple(stamps), tuple(itertools.accumulate(map(len, parts))))
