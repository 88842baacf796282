"""Usage that a client did not ask for: the engine needs it, and takes it out of the stream again.

OpenAI's clients read `chunk.choices[0]` of every chunk; only one that asked (`stream_options.include_usage`) expects a
last chunk without choices. All other bytes go through as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from variet.engine.downstream import Source

_NO_CHOICES = re.compile(rb'"choices":\s*\[\s*\]')  # inside a text its quotes would be escaped
_END = b"\n\n"


def asked_for_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


class WithoutUsage:
    """A stream without its chunks that have no choice. `tail`: the child's own last words, with them."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self._rest = b""  # of an event that is not whole yet
        self.tail = b""

    @property
    def ended(self) -> bool:
        return self._stream.ended and not self._rest

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        while piece := await self._stream.read():
            self.tail = piece if len(piece) > 4096 else self.tail[-4096:] + piece
            whole, end, self._rest = (self._rest + piece).rpartition(_END)
            out = whole + end
            if _NO_CHOICES.search(out):
                out = b"".join(event + _END for event in out.split(_END)[:-1] if not _NO_CHOICES.search(event))
            if out:
                return out
        rest, self._rest = self._rest, b""
        return rest
