"""HTTP to a child, byte by byte, against a real socket that answers as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from variet.engine import upstream
from variet.engine.backends.base import Address
from variet.engine.upstream import Upstream, UpstreamError

Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Child:
    """A server on a unix socket: hands each request's head to `serve`, counts connections."""

    def __init__(self, path: Path, serve: Serve) -> None:
        self.path, self.connections, self.heads = path, 0, list[bytes]()
        self.lost = asyncio.Event()
        self._serve = serve

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                await self._serve(head, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def child(tmp_path: Path, serve: Serve) -> AsyncIterator[tuple[Child, Upstream]]:
    one = Child(tmp_path / "c.sock", serve)
    server = await asyncio.start_unix_server(one.run, one.path)
    way = Upstream(Address("http://child", socket_path=str(one.path), api_key="k"))
    try:
        yield one, way
    finally:
        way.close()
        server.close()


def saying(*pieces: bytes, close: bool = False) -> Serve:
    async def serve(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if close:
            await writer.drain()
            raise ConnectionError

    return serve


@pytest.mark.parametrize(
    ("pieces", "close", "body"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",), False, b"hello"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Enc", b"oding: chunked\r\n\r\n2\r\nhe\r\n3\r\nl", b"lo\r\n0\r\n\r\n"),
         False, b"hello"),
        ((b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"), True, b"hello"),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",), False, b"hello"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), False, b""),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",), True, b""),
    ],
    ids=["length", "chunks", "until the end", "interim", "no content", "empty"],
)  # fmt: skip
async def test_an_answer_comes_whole_however_it_is_framed(
    tmp_path: Path, pieces: tuple[bytes, ...], close: bool, body: bytes
) -> None:
    async with child(tmp_path, saying(*pieces, close=close)) as (_, way):
        answer = await way.ask("POST", b"/x?y=1", [(b"A", b"b")], b"{}")
        assert answer.status in (200, 204) and await answer.read_all() == body and answer.ended
        answer.close()


async def test_what_is_sent_is_what_was_asked(tmp_path: Path) -> None:
    async with child(tmp_path, saying(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n")) as (one, way):
        answer = await way.ask("GET", b"/props?a=b", [(b"x-more", b"yes")])
        assert answer.headers == [(b"x-a", b"b"), (b"content-length", b"0")]
        assert one.heads[0].split(b"\r\n")[:4] == [
            b"GET /props?a=b HTTP/1.1", b"Host: child", b"Authorization: Bearer k", b"x-more: yes",
        ]  # fmt: skip


async def test_connections_are_kept_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with child(tmp_path, saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (one, way):
        for _ in range(3):
            answer = await way.ask("GET", b"/")
            assert await answer.read_all() == b"ok"
        assert one.connections == 1, "kept"
        await asyncio.gather(*(way.ask("GET", b"/") for _ in range(4)))
        assert one.connections == 4, "one for each request at a time"
        monkeypatch.setattr(upstream, "_KEEP_S", 0.0)
        await way.ask("GET", b"/")
        assert one.connections == 5, "an old one is not trusted"


async def test_a_connection_that_ends_with_its_answer_is_replaced_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",)
    async with child(tmp_path, saying(*stream, close=True)) as (one, way):
        for connections in (2, 3):  # as llama-server does: kept by what its head says, ended all the same
            answer = await way.ask("POST", b"/")
            assert await answer.read_all() == b"ok"
            async with asyncio.timeout(5):
                while one.connections < connections or not any(kept.alive for kept in way.connections):
                    await asyncio.sleep(0.01)
        assert len(way.connections) == 1 and len(one.heads) == 2, "each answer over the one that was ready"
        monkeypatch.setattr(upstream, "_SOON_S", 0.0)
        answer = await way.ask("POST", b"/")
        await answer.read_all()
        while way.connections:
            await asyncio.sleep(0.01)
        assert one.connections == 3, "one that ended for its idleness is not replaced"


async def test_a_spare_connection_does_not_outlive_the_child(tmp_path: Path) -> None:
    stream = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",)
    async with child(tmp_path, saying(*stream, close=True)) as (one, way):
        answer = await way.ask("POST", b"/")
        await answer.read_all()
        one.path.unlink()  # none can be opened any more
        while way.connections:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamError):
            await way.ask("POST", b"/")
        way.close()
        assert not way.connections


SURE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize("late", [False, True], ids=["in one packet", "later"])
async def test_what_nobody_asked_for_reaches_nobody(tmp_path: Path, late: bool) -> None:
    async def more_than_asked(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SURE + b"one" + (b"" if late else SURE + b"no"))
        if late:
            await asyncio.sleep(0.05)
            writer.write(SURE + b"no")

    async with child(tmp_path, more_than_asked) as (one, way):
        for round_number in (1, 2):
            answer = await way.ask("GET", b"/")
            assert await answer.read_all() == b"one"
            answer.close()
            async with asyncio.timeout(10):
                while way.connections:  # what came unasked ends it
                    await asyncio.sleep(0.005)
            assert one.connections == round_number


async def test_an_answer_without_length_that_we_cut_is_not_whole(tmp_path: Path) -> None:
    async with child(tmp_path, saying(b"HTTP/1.1 200 OK\r\n\r\npart")) as (_, way):
        answer = await way.ask("GET", b"/")
        assert await answer.read() == b"part"
        way.close()
        with pytest.raises(UpstreamError):
            await answer.read()


async def test_a_kept_connection_that_breaks_untouched_is_replaced(tmp_path: Path) -> None:
    async def leave_at_the_second(head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET /second") and one.connections == 1:
            raise ConnectionError
        writer.write(SURE + b"yes")

    async with child(tmp_path, leave_at_the_second) as (one, way):
        for path in (b"/first", b"/second"):
            answer = await way.ask("GET", path)
            assert await answer.read_all() == b"yes"
        assert one.connections == 2


async def test_a_head_without_body_is_an_answer(tmp_path: Path) -> None:
    async with child(tmp_path, saying(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as (_, way):
        answer = await way.ask("HEAD", b"/")
        assert answer.ended and answer.status == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",),
        (b"SSH-2.0-x\r\n\r\n",),
        (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",),
    ],
    ids=["nothing", "half a head", "half a body", "no HTTP", "another protocol"],
)
async def test_what_is_not_whole_is_an_error_after_what_did_come(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async with child(tmp_path, saying(*pieces, close=True)) as (_, way):
        received = b""
        with pytest.raises(UpstreamError):
            answer = await way.ask("GET", b"/")
            while piece := await answer.read():
                received += piece
        assert received == (b"hel" if len(pieces) and b"hel" in pieces[0] else b"")


async def test_a_child_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await Upstream(Address("http://child", socket_path=str(tmp_path / "none.sock"))).ask("GET", b"/")


async def test_leaving_early_cuts_the_connection(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    async with child(tmp_path, saying(head + b"hel")) as (one, way):
        answer = await way.ask("GET", b"/")
        answer.close()
        await asyncio.wait_for(one.lost.wait(), 10)
    async with child(tmp_path, saying()) as (one, way):
        waiting = asyncio.create_task(way.ask("GET", b"/"))
        while not one.heads:
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait_for(one.lost.wait(), 10)


async def test_closing_wakes_whoever_waits(tmp_path: Path) -> None:
    async with child(tmp_path, saying()) as (one, way):
        waiting = asyncio.create_task(way.ask("GET", b"/"))
        while not one.heads:
            await asyncio.sleep(0.001)
        way.close()
        with pytest.raises(UpstreamError):
            await asyncio.wait_for(waiting, 10)
        with pytest.raises(UpstreamError, match="stopped"):
            await way.ask("GET", b"/")


async def test_what_nobody_takes_is_not_read(tmp_path: Path) -> None:
    sent = 0

    async def pour(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with child(tmp_path, pour) as (_, way):
        answer = await way.ask("GET", b"/")
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 10_000_000, "the sender waits for us"
        assert len(await answer.read_all()) == 50_000_000
