"""SIGTERM and SIGHUP end a surface in order: its turn ends as cancelled, its commands end, its session closes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has no hang-up


@contextmanager
def ended_by_signals(end: Callable[[], object]) -> Iterator[None]:
    """The first signal calls `end`. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]

    def remove() -> None:
        for number in numbers:
            with suppress(NotImplementedError, ValueError):
                loop.remove_signal_handler(number)

    def first() -> None:
        remove()
        end()

    for number in numbers:
        with suppress(NotImplementedError, ValueError):  # Windows; a thread of a test
            loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        remove()
