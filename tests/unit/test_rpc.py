"""The line to the broker, over a real socket: many questions at once, and whatever else comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from variet import rpc
from variet.assistant.broker.crossing import Problems
from variet.assistant.problems import ToolProblem


class Desk:
    """Answers what a test asks; `gone`: questions that were cancelled."""

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.gone = 0

    async def do(self, method: str, params: Any) -> Any:
        if method == "echo":
            return params
        if method == "refuse":
            raise ToolProblem("not_found", "it is not there", "Look elsewhere")
        if method == "break":
            raise ValueError("a secret of the broker's")
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            self.gone += 1
            raise
        return "at last"


@asynccontextmanager
async def served(folder: Path, desk: Desk) -> AsyncIterator[str]:
    address = str(folder / "s")

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await rpc.answer(reader, writer, desk.do, Problems())

    server = await asyncio.start_unix_server(arrived, address, limit=rpc.LONGEST_LINE)
    try:
        yield address
    finally:
        server.close()


@asynccontextmanager
async def asking(address: str) -> AsyncIterator[rpc.Asking]:
    line = rpc.Asking(*await asyncio.open_unix_connection(address, limit=rpc.LONGEST_LINE), Problems())
    try:
        yield line
    finally:
        await line.close()


async def test_a_slow_answer_keeps_no_other_waiting(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as address, asking(address) as line:
        slow = asyncio.create_task(line.ask("hold", {}))
        assert await line.ask("echo", {"ü": [1, None]}) == {"ü": [1, None]}
        desk.held.set()
        assert await slow == "at last"


async def test_what_goes_wrong_is_told_as_it_was_raised_and_what_breaks_as_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, Desk()) as address, asking(address) as line:
        with pytest.raises(ToolProblem) as refused:
            await line.ask("refuse", {})
        assert (refused.value.code, refused.value.what, refused.value.next_step) == (
            "not_found", "it is not there", "Look elsewhere",
        )  # fmt: skip
        with caplog.at_level(logging.ERROR), pytest.raises(ToolProblem, match="Internal error") as broke:
            await line.ask("break", {})
        assert broke.value.code == "broker_down" and "secret" not in str(broke.value) and "break failed" in caplog.text
        assert await line.ask("echo", {}) == {}, "the line goes on"


async def test_who_leaves_is_worked_for_no_longer(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as address, asking(address) as line:
        waiting = asyncio.create_task(line.ask("hold", {}))
        await line.ask("echo", {})
        await line.close()
        with pytest.raises(ConnectionError):
            await waiting
        with pytest.raises(ConnectionError):
            await line.ask("echo", {})
        while not desk.gone:
            await asyncio.sleep(0.01)
        assert not line.is_open


async def test_a_line_whose_other_end_is_gone_is_found_closed_at_the_first_question(tmp_path: Path) -> None:
    """Else a client that asks again at once finds it open for ever: writing fails before reading does."""
    near, far = socket.socketpair()
    line = rpc.Asking(*await asyncio.open_unix_connection(sock=near, limit=rpc.LONGEST_LINE), Problems())
    far.close()
    tries = 0
    while line.is_open:
        tries += 1
        assert tries < 10
        with contextlib.suppress(OSError):
            await line.ask("echo", {})
    await asyncio.wait_for(line.closed(), 1)


async def test_what_is_told_unasked_is_heard(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(3):
            await rpc.tell(writer, "news", {"at": at})
        await rpc.answer(reader, writer, Desk().do, Problems())

    server = await asyncio.start_unix_server(arrived, str(tmp_path / "s"))
    ends = await asyncio.open_unix_connection(str(tmp_path / "s"))
    line = rpc.Asking(*ends, Problems(), lambda method, params: heard.append((method, params["at"])))
    assert await line.ask("echo", {"x": 1}) == {"x": 1}
    assert heard == [("news", 0), ("news", 1), ("news", 2)]
    await line.close()
    server.close()


async def test_more_questions_than_one_line_may_ask_are_refused(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as address, asking(address) as line:
        waiting = [asyncio.create_task(line.ask("hold", {})) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(ToolProblem, match="64 questions are open"):
            await line.ask("echo", {})
        desk.held.set()
        assert await asyncio.gather(*waiting) == ["at last"] * 64
        assert await line.ask("echo", {}) == {}


@pytest.mark.parametrize(
    "sent",
    [
        b"\n", b"nonsense\n", b"[]\n", b"[[[[" * 100_000 + b"\n", b'{"id": 1}\n', b'{"method": "echo"}\n', b"1\n",
        b'{"id": {}, "method": "echo"}\n', b'{"id": [], "method": "echo"}\n', b'{"id": 1, "method": 7}\n', b"\xff\n",
        b'{"id": 1, "method": "echo", "params": "' + b"x" * rpc.LONGEST_LINE + b'"}\n',
    ],
    ids=range(12),
)  # fmt: skip
async def test_what_is_no_question_is_hung_up_on_and_disturbs_nobody(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path, Desk()) as address, asking(address) as other:
        reader, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(sent)
            await writer.drain()
            assert await reader.read() == b""
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert await other.ask("echo", {}) == {}


NAMES = st.sampled_from(["id", "result", "error", "code", "message", "data", "next_step"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(answer=ANYTHING)
def test_whatever_a_broker_answers_is_a_result_or_a_problem(tmp_path: Path, answer: Any) -> None:
    async def asked() -> None:
        async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(json.dumps(answer).encode() + b"\n")
            writer.close()

        address = str(tmp_path / "s")
        async with await asyncio.start_unix_server(arrived, address), asking(address) as line:
            with contextlib.suppress(ToolProblem, ConnectionError):
                await line.ask("echo", {})

    asyncio.run(asked())
