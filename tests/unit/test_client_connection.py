"""What is written to a client, write by write."""

from __future__ import annotations

import asyncio
from typing import cast

from variet.engine.client_connection import OneWrite


class Wire:
    """A transport that notes what it was given."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def on(wire: Wire) -> OneWrite:
    return OneWrite(cast(asyncio.Transport, wire), asyncio.get_running_loop())


async def test_a_head_goes_out_with_the_body_that_follows_at_once() -> None:
    wire = Wire()
    line = on(wire)
    for piece in (b"head ", b"one ", b"two"):
        line.write(piece)
    await asyncio.sleep(0)
    assert wire.writes == [b"head one ", b"two"]


async def test_a_head_without_a_body_waits_for_nothing() -> None:
    wire = Wire()
    line = on(wire)
    line.write(b"head ")
    await asyncio.sleep(0)
    assert wire.writes == [b"head "], "as a stream's that has nothing to say yet"
    line.write(b"one")
    assert wire.writes == [b"head ", b"one"]


async def test_closing_loses_no_head_and_a_closed_line_is_not_written_to() -> None:
    wire = Wire()
    line = on(wire)
    line.write(b"head")
    line.close()
    line.write(b"body")
    await asyncio.sleep(0)
    assert wire.writes == [b"head"] and wire.closed
