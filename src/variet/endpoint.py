"""Where a process of Variet's is reached on this machine, and by whom; what is said there is rpc.py's.

A unix socket, whose other end the kernel names, in a folder of its user, or for others to knock at where the process
runs as a user of its own; a named pipe on Windows, which other users can open to read and not to write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from variet.rpc import LONGEST_LINE

Arrived = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def listen(address: str, arrived: Arrived, *, for_others: bool = False) -> Callable[[], None]:
    """Returns what stops it. `for_others`: other users can reach it; `arrived` looks who it is. Raises OSError."""
    if sys.platform == "win32":
        return await _listen_on_pipe(address, arrived)
    Path(address).unlink(missing_ok=True)  # whoever calls this holds the lock: it is a dead one's
    before = os.umask(0o111 if for_others else 0o177)
    try:
        server = await asyncio.start_unix_server(arrived, address, limit=LONGEST_LINE)
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
    return await asyncio.open_unix_connection(address, limit=LONGEST_LINE)


def peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """Of the process at the other end, as the kernel knows it; None where it does not say."""
    held = writer.get_extra_info("socket")
    if not sys.platform.startswith("linux") or held is None:
        return None
    _pid, uid, _gid = struct.unpack("3i", held.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return None if uid < 0 else int(uid)  # nobody has taken the line yet


async def _listen_on_pipe(address: str, arrived: Arrived) -> Callable[[], None]:
    loop: Any = asyncio.get_running_loop()

    def protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=LONGEST_LINE), arrived)

    [server] = await loop.start_serving_pipe(protocol, address)
    stop: Callable[[], None] = server.close
    return stop


async def _dial_pipe(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop: Any = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_pipe_connection(lambda: protocol, address)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
