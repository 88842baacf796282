"""What an API needs that reaches the child as a Chat Completions request: its words there and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from variet.engine.assembly import Broken, Events, no_surprise
from variet.engine.downstream import Source
from variet.engine.problems import Problem

Event = dict[str, Any]
CHAT_PATH = b"/v1/chat/completions"


class NotUnderstood(Exception):
    """A request that is none of its API; the sentence says what to change."""


class Writer(Protocol):
    """One streamed answer in the making."""

    begun: bool  # its client has heard the first event
    stopped: bool  # and the last

    @property
    def ending(self) -> bool:
        """Whether the child has said its last word."""
        ...

    def take(self, chunk: Event) -> list[Event]:
        """The events, each with its `type`, that become of a chat.completion.chunk."""
        ...


class Dialect(Protocol):
    """One request of such an API, and what its client hears in a stream."""

    chat: Event
    passed_over: tuple[str, ...]  # what of the request has no place in a chat and was left out, for the log

    def whole(self, chat: Event) -> Event:
        """The answer of a chat.completion. Raises LookupError, TypeError, AttributeError or ValueError for none."""
        ...

    def writer(self, prompt: int, cached: int) -> Writer:
        """`prompt` and `cached`: tokens, which some streams tell first."""
        ...

    def alive(self, facts: Mapping[str, Any]) -> list[Event]:
        """Somebody is there, and so the request stands: a part of its stream that no client takes for words."""
        ...

    def failed(self, problem: Problem) -> list[Event]:
        """The end of a stream that is already under way."""
        ...

    def written(self, events: list[Event]) -> bytes:
        """As its client reads them (text/event-stream), in the order in which this is called."""
        ...


class TranslatedStream:
    """A chat stream as a client of another API reads it. Raises Broken where the child's told an error."""

    def __init__(self, chat: Source, dialect: Dialect, prompt: int = 0, cached: int = 0) -> None:
        self.headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        self.tail = b""  # the child's own last words: they count what was read and written
        self._chat, self._dialect, self._writer = chat, dialect, dialect.writer(prompt, cached)
        self._parser = Events()
        self._ready: list[Event] = []

    @property
    def ended(self) -> bool:
        return self._writer.stopped and not self._ready

    async def begun(self) -> None:
        """Wait for the first event that a client gets to see."""
        self._ready = await self._next()

    async def read(self) -> bytes:
        ready, self._ready = self._ready or await self._next(), []
        return self._dialect.written(ready)

    async def _next(self) -> list[Event]:
        while piece := await self._chat.read():
            self.tail = piece if len(piece) > 512 else self.tail[-4096:] + piece
            with no_surprise():
                out = [event for chunk in self._parser.feed(piece) for event in self._writer.take(chunk)]
            if out:
                return out
            if self._writer.begun and not self._writer.ending:  # words are held back: it hears that somebody is there
                return self._dialect.alive({})
        if not self._writer.stopped:
            raise Broken("it ended before its last event")
        return []


def sse(event: Event) -> bytes:
    """An event of a stream (text/event-stream), named by its type."""
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
