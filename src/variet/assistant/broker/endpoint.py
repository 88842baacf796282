"""The line between the broker and whoever talks to it: JSON-RPC 2.0, a line a message, over a socket of this machine.

A unix socket, whose other end the kernel names, in a folder of its user, or for others to knock at where the broker is
a user of its own; a named pipe on Windows, whose default descriptor lets other users write to it no more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from acp.connection import Connection
from acp.exceptions import RequestError

from variet.assistant.problems import CODES, ToolProblem

_LONGEST_LINE = 8 * 1024 * 1024
_PROBLEM = -32001

Handler = Callable[[str, Any, bool], Awaitable[Any]]
Arrived = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(address: str, arrived: Arrived, *, for_others: bool = False) -> Callable[[], None]:
    """Returns what stops it. `for_others`: other users can reach it; `arrived` looks who it is. Raises OSError."""
    if sys.platform == "win32":
        return await _listen_on_pipe(address, arrived)
    Path(address).unlink(missing_ok=True)  # whoever calls this holds the lock: it is a dead one's
    before = os.umask(0o111 if for_others else 0o177)
    try:
        server = await asyncio.start_unix_server(arrived, address, limit=_LONGEST_LINE)
    finally:
        os.umask(before)

    def stop() -> None:
        server.close()
        with contextlib.suppress(OSError):
            Path(address).unlink()

    return stop


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError."""
    if sys.platform == "win32":
        return await _dial_pipe(address)
    return await asyncio.open_unix_connection(address, limit=_LONGEST_LINE)


def peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """Of the process at the other end, as the kernel knows it; None where it does not say."""
    held = writer.get_extra_info("socket")
    if not sys.platform.startswith("linux") or held is None:
        return None
    _pid, uid, _gid = struct.unpack("3i", held.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> Connection:
    """One that answers by `handler` and can ask, too. Its `main_loop` ends with the line."""
    return Connection(handler, _Lines(reader, writer), listening=False)


class _Lines:
    """A message a line, none longer than the limit: who sends more, or what is no request or answer, is hung up on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        try:
            line = await self._reader.readuntil(b"\n")
            message = json.loads(line)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError, RecursionError):
            return None
        sound = isinstance(message, dict) and isinstance(message.get("method", ""), str)
        return message if sound else None

    async def close(self) -> None:
        self._writer.close()


def as_error(problem: ToolProblem) -> RequestError:
    return RequestError(_PROBLEM, problem.what, {"code": problem.code, "next_step": problem.next_step})


def as_problem(error: RequestError) -> ToolProblem:
    """What came over the line, as it was raised there."""
    data = error.data if isinstance(error.data, dict) else {}
    code = data.get("code")
    if error.code == _PROBLEM and code in CODES:
        return ToolProblem(code, str(error), str(data.get("next_step", "")))
    return ToolProblem("broker_down", f"the broker could not do it: {error}", "See `variet broker log`")


async def _listen_on_pipe(address: str, arrived: Arrived) -> Callable[[], None]:
    loop: Any = asyncio.get_running_loop()

    def protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=_LONGEST_LINE), arrived)

    [server] = await loop.start_serving_pipe(protocol, address)
    stop: Callable[[], None] = server.close
    return stop


async def _dial_pipe(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop: Any = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_pipe_connection(lambda: protocol, address)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
