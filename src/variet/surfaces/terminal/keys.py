"""The keyboard of a conversation: raw from its beginning to its end, so that no key is lost or turned into another.

prompt_toolkit makes a terminal raw while a prompt reads, and cooked between two prompts and while text is printed above
one. A Ctrl-D typed in such a moment reaches the next prompt as a NUL, a Ctrl-C as a signal, and letters are echoed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from prompt_toolkit.input import Input, create_input

if sys.platform == "win32":

    def conversation_input() -> tuple[Input, AbstractContextManager[None]]:
        """Windows hands over keys as events, which no mode changes."""
        return create_input(), nullcontext()

else:
    import asyncio
    import signal

    from prompt_toolkit.input.vt100 import Vt100Input, raw_mode

    class _RawInput(Vt100Input):
        def raw_mode(self) -> AbstractContextManager[None]:
            return nullcontext()

        def cooked_mode(self) -> AbstractContextManager[None]:
            return nullcontext()

    @contextmanager
    def _raw(fileno: int) -> Iterator[None]:
        """Again raw, too, when a shell's `fg` brings it back."""
        loop = asyncio.get_running_loop()
        with raw_mode(fileno):
            loop.add_signal_handler(signal.SIGCONT, lambda: raw_mode(fileno).__enter__())
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGCONT)

    def conversation_input() -> tuple[Input, AbstractContextManager[None]]:
        """(Input, the context in which its terminal is raw)."""
        if not sys.stdin.isatty():
            return create_input(), nullcontext()
        return _RawInput(sys.stdin), _raw(sys.stdin.fileno())
