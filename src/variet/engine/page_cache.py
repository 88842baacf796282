"""What of a file lies in the system's page cache, and bringing more of it there. Reads files; decides nothing.

mincore(2) tells what lies there, on Linux alone; elsewhere everything counts as absent and is read.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 16 << 20
_BUFFER_BYTES = 1 << 20  # small enough to stay in the processor's cache: what is read is not looked at


def absent(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of the pieces of a file that are not in memory as a whole. Raises OSError."""
    size = path.stat().st_size
    for offset in range(0, size, PIECE_BYTES):
        length = min(PIECE_BYTES, size - offset)
        if _resident(path, offset, length) < length:
            yield offset, length


def cached_share(path: Path) -> float | None:
    """How much of a file is in memory; None where the system does not tell. Raises OSError."""
    size = path.stat().st_size
    if not sys.platform.startswith("linux") or not size:
        return None
    here = sum(_resident(path, offset, min(PIECE_BYTES, size - offset)) for offset in range(0, size, PIECE_BYTES))
    return here / size


def read(path: Path, offset: int, length: int) -> int:
    """Have the system read a part of a file; returns the bytes that were there. Raises OSError."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    done = 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while done < length:
            got = file.readinto(buffer[: min(_BUFFER_BYTES, length - done)])
            if not got:
                break
            done += got
    return done


def _resident(path: Path, offset: int, length: int) -> int:
    """Bytes of a part that are in memory; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    pages = -(-length // mmap.PAGESIZE)
    told = (ctypes.c_ubyte * pages)()
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), length, flags=mmap.MAP_PRIVATE, offset=offset,
                  prot=mmap.PROT_READ | mmap.PROT_WRITE) as view,
    ):  # fmt: skip
        # ctypes takes the address of writable memory only; a private mapping is never written to the file.
        held = ctypes.c_ubyte.from_buffer(view)
        try:
            if _libc().mincore(ctypes.c_void_p(ctypes.addressof(held)), ctypes.c_size_t(length), told) != 0:
                return 0
        finally:
            del held
    here = int.from_bytes(bytes(told), "little") & int.from_bytes(
        b"\1" * pages, "little"
    )  # the other bits are reserved
    return min(length, here.bit_count() * mmap.PAGESIZE)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
