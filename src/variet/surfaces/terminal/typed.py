"""What a person types, read in a thread that keeps nobody: who is asked no more leaves at once, with the terminal as it
was, though the thread still reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

T = TypeVar("T")
_PASTE_S = 0.05  # between the first line of a paste and its second


async def typed(ask: Callable[[], T]) -> T:
    """What `ask` returns or raises."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def read() -> None:
        try:
            given = ask()
        except BaseException as error:  # noqa: BLE001 - Ctrl-C and the end of the input, too
            _tell(loop, answer, partial(answer.set_exception, _plain(error)))
        else:
            _tell(loop, answer, partial(answer.set_result, given))

    before = _terminal()
    threading.Thread(target=read, name="typed", daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        _restore(before)
        raise


def _plain(error: BaseException) -> BaseException:
    """A future takes no StopIteration."""
    return EOFError() if isinstance(error, StopIteration) else error


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], put: Callable[[], None]) -> None:
    def if_wanted() -> None:
        if not answer.done():
            put()

    with contextlib.suppress(RuntimeError):  # the loop is gone
        loop.call_soon_threadsafe(if_wanted)


def _terminal() -> Any:
    if os.name != "posix" or not sys.stdin.isatty():
        return None
    import termios

    return termios.tcgetattr(sys.stdin)


def _restore(before: Any) -> None:
    """A PIN is typed without being shown: who leaves then would go on so."""
    if before is not None:
        import termios

        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def forget_typed() -> None:
    """What was typed before a question was shown is no answer to it."""
    if not sys.stdin.isatty():
        return
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getch()
    else:
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def asked_line(prompt: str) -> str:
    """A line that a person typed to this question. What was pasted is asked for again: more lines came with the first,
    and none of them was typed to the question. Raises EOFError, KeyboardInterrupt."""
    while True:
        click.echo(prompt, nl=False, err=True)
        line = sys.stdin.readline()
        if not line.endswith("\n"):  # its end was not Enter
            raise EOFError
        if not _more_came():
            return line.rstrip("\r\n")
        forget_typed()
        click.echo("that was a paste of several lines: nothing was decided; type the answer", err=True)


def _more_came() -> bool:
    if os.name != "posix" or not sys.stdin.isatty():
        return False
    import select

    return bool(select.select([sys.stdin], [], [], _PASTE_S)[0])
