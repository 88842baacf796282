"""JSON-RPC 2.0, a message a line: one end asks, the other answers, many questions at once, and tells what is news.

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
from typing import Any, Protocol

from variet.errors import VarietError

_LOG = logging.getLogger(__name__)
LONGEST_LINE = 8 * 1024 * 1024
_MOST_AT_ONCE = 64  # of one line
PROBLEM = -32001  # the code of an error that the caller can mend
_INTERNAL = -32603

_TOO_MANY = {
    "code": PROBLEM, "message": f"{_MOST_AT_ONCE} questions are open on this line",
    "data": {"code": "rate_limited", "next_step": "Wait for an answer"},
}  # fmt: skip

_TOO_LONG = {
    "code": PROBLEM, "message": f"the answer is longer than {LONGEST_LINE >> 20} MB",
    "data": {"code": "too_long", "next_step": "Ask for less at once"},
}  # fmt: skip


class TooLong(VarietError):
    """A message that the other end would hang up on."""


Do = Callable[[str, Any], Awaitable[Any]]
Hear = Callable[[str, Any], None]


class Errors(Protocol):
    """How errors that the caller can mend cross the line. Other errors are logged, and the caller hears none of it."""

    def encode(self, error: Exception) -> dict[str, Any] | None:
        """The data of an error; None where it is none of these."""
        ...

    def decode(self, message: str, data: Any) -> Exception:
        """An error as it was raised there. `data`: None for all that are none of these."""
        ...


class Asking:
    """The end that asks. It is to be closed. `hear`: what the other end tells unasked."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, errors: Errors, hear: Hear | None = None
    ) -> None:
        self._writer = writer
        self._errors = errors
        self._hear = hear
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def is_open(self) -> bool:
        return not self._reading.done()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Raises TooLong, an error as it was raised there, ConnectionError where the line broke before the answer."""
        if not self.is_open:
            raise ConnectionError("the line is closed")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            try:
                await _send(self._writer, {"id": number, "method": method, "params": params})
            except OSError:  # writing tells it first: nobody is to find this line open
                await self.close()
                raise
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def closed(self) -> None:
        """Return once the line is closed, by whichever end."""
        await asyncio.wait([self._reading])

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await _received(reader)) is not None:
                if "method" in message:
                    if self._hear is not None:
                        self._hear(str(message["method"]), message.get("params"))
                    continue
                answer = self._waiting.get(message.get("id", 0))
                if answer is None or answer.done():
                    continue  # nobody waits for it any more
                if "error" in message:
                    answer.set_exception(self._as_raised(message["error"]))
                else:
                    answer.set_result(message.get("result"))
        finally:
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the line broke"))

    def _as_raised(self, error: Any) -> Exception:
        told: dict[str, Any] = error if isinstance(error, dict) else {}
        data = told.get("data") if told.get("code") == PROBLEM else None
        return self._errors.decode(str(told.get("message", "")), data)


async def tell(writer: asyncio.StreamWriter, method: str, params: Any) -> None:
    """Tell the end that asks something unasked; waits where it does not read. Raises ConnectionError where it left,
    TooLong."""
    await _send(writer, {"method": method, "params": params})


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, do: Do, errors: Errors) -> None:
    """Until the other end leaves, or sends what is no question: it is hung up on. What is not answered by then is
    cancelled."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(message: dict[str, Any]) -> None:
        try:
            told = {"result": await do(message["method"], message.get("params"))}
        except Exception as error:  # noqa: BLE001 - whatever fails, it is this question's alone
            data = errors.encode(error)
            if data is None:
                _LOG.exception("%s failed", message["method"])
                told = {"error": {"code": _INTERNAL, "message": "Internal error"}}
            else:
                told = {"error": {"code": PROBLEM, "message": str(data.pop("message", error)), "data": data}}
        with contextlib.suppress(ConnectionError):  # it left
            try:
                await _send(writer, {"id": message["id"], **told})
            except TooLong:
                await _send(writer, {"id": message["id"], "error": _TOO_LONG})

    try:
        while (message := await _received(reader)) is not None:
            if not isinstance(message.get("method"), str) or "id" not in message:
                return
            if len(tasks) >= _MOST_AT_ONCE:
                await _send(writer, {"id": message["id"], "error": _TOO_MANY})
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
    line = text.encode("utf-8", "backslashreplace") + b"\n"  # half of a pair goes as the escape that it came as
    if len(line) > LONGEST_LINE:
        raise TooLong(f"it is longer than {LONGEST_LINE >> 20} MB", next_step="Send less at once")
    writer.write(line)
    await writer.drain()


async def _received(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """None at the end, and for what is no message or too long for one."""
    try:
        message = json.loads(await reader.readuntil(b"\n"))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("id"), int | str | None) else None
