"""A file whose text is printed above a prompt that stays, in order; `printed` waits until all of it is on the screen.

prompt_toolkit's own (`patch_stdout`) prints from a thread, up to 0.2 s later, and cannot tell when: a question must
stand on the screen before anything that is typed may answer it.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.output import Output

_BUNDLE_S = 0.03  # so that a stream of words does not draw the prompt anew for each


class Above(io.StringIO):
    """`output`: the prompt's. Write to it in the event loop's thread alone. A line that is not ended waits for its
    end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._text = ""
        self._printing: asyncio.Task[None] | None = None

    def write(self, text: str) -> int:
        self._text += text
        if "\n" in text and self._printing is None:
            self._printing = asyncio.get_running_loop().create_task(self._print())
        return len(text)

    def isatty(self) -> bool:
        return self._output.fileno() >= 0 and os.isatty(self._output.fileno())

    def fileno(self) -> int:
        return self._output.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.__stdout__.encoding if sys.__stdout__ else "utf-8"

    async def printed(self) -> None:
        """Until every line that was written is on the screen."""
        while self._printing is not None:
            await asyncio.shield(self._printing)

    async def _print(self) -> None:
        try:
            await asyncio.sleep(_BUNDLE_S)
            while "\n" in self._text:
                lines, _, self._text = self._text.rpartition("\n")
                await run_in_terminal(lambda lines=lines: self._emit(f"{lines}\n"))  # type: ignore[misc]
        finally:
            self._printing = None

    def _emit(self, lines: str) -> None:
        self._output.enable_autowrap()
        self._output.write_raw(lines.replace("\n", "\r\n"))
        self._output.flush()
