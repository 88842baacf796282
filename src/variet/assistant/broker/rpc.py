"""JSON-RPC 2.0, a message a line: one end asks, the other answers, many questions at once.

Of its own, since the SDK that has it for the agent's clients takes half a second to import, which each server of tools
would pay at its start.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from variet.assistant.problems import CODES, ToolProblem

_LOG = logging.getLogger(__name__)
LONGEST_LINE = 8 * 1024 * 1024
_MOST_AT_ONCE = 64  # of one line
_PROBLEM, _INTERNAL = -32001, -32603
_TOO_MANY = ToolProblem("rate_limited", f"{_MOST_AT_ONCE} questions are open on this line", "Wait for an answer")

Do = Callable[[str, Any], Awaitable[Any]]


class Asking:
    """The end that asks. It is to be closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def is_open(self) -> bool:
        return not self._reading.done()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Raises ToolProblem as it was raised there, ConnectionError where the line broke before the answer."""
        if not self.is_open:
            raise ConnectionError("the line is closed")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await _send(self._writer, {"id": number, "method": method, "params": params})
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await _received(reader)) is not None:
                answer = self._waiting.get(message.get("id", 0))
                if answer is None or answer.done():
                    continue  # nobody waits for it any more
                if "error" in message:
                    answer.set_exception(_as_problem(message["error"]))
                else:
                    answer.set_result(message.get("result"))
        finally:
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the line broke"))


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, do: Do) -> None:
    """Until the other end leaves, or sends what is no question: it is hung up on. What is not answered by then is
    cancelled. `do` raises ToolProblem for what whoever asks can mend; anything else is logged, and told as nothing."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(message: dict[str, Any]) -> None:
        try:
            told = {"result": await do(message["method"], message.get("params"))}
        except ToolProblem as problem:
            told = {"error": _as_error(problem)}
        except Exception:  # noqa: BLE001 - whatever fails, it is this question's alone
            _LOG.exception("%s failed", message["method"])
            told = {"error": {"code": _INTERNAL, "message": "Internal error"}}
        with contextlib.suppress(ConnectionError):  # it left
            await _send(writer, {"id": message["id"], **told})

    try:
        while (message := await _received(reader)) is not None:
            if not isinstance(message.get("method"), str) or "id" not in message:
                return
            if len(tasks) >= _MOST_AT_ONCE:
                await _send(writer, {"id": message["id"], "error": _as_error(_TOO_MANY)})
                continue
            task = asyncio.create_task(one(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    text = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":"), ensure_ascii=False)
    writer.write(text.encode("utf-8", "backslashreplace") + b"\n")  # half of a pair goes as the escape that it came as
    await writer.drain()


async def _received(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """None at the end, and for what is no message or too long for one."""
    try:
        message = json.loads(await reader.readuntil(b"\n"))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("id"), int | str | None) else None


def _as_error(problem: ToolProblem) -> dict[str, Any]:
    return {
        "code": _PROBLEM, "message": problem.what, "data": {"code": problem.code, "next_step": problem.next_step},
    }  # fmt: skip


def _as_problem(error: Any) -> ToolProblem:
    """What came over the line, as it was raised there."""
    told: dict[str, Any] = error if isinstance(error, dict) else {}
    data, words = told.get("data"), str(told.get("message", ""))
    if told.get("code") == _PROBLEM and isinstance(data, dict) and data.get("code") in CODES:
        return ToolProblem(data["code"], words, str(data.get("next_step", "")))
    return ToolProblem("broker_down", f"the broker could not do it: {words}", "See `variet broker log`")
