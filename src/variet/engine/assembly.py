"""An answer put together from the stream of it.

llama-server looks whether the client of a plain request is still there only when no slot had news for a second; beside
another conversation that is never. A stream ends the moment its reader is gone. So where conversations run side by
side, the relay asks for a stream and answers with what this makes of it: the same object that the child answers to a
request without `stream` (tests compare the two on each API).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import orjson

from variet.engine.apis import Api, Family
from variet.engine.downstream import Source

Event = dict[str, Any]

# What asks for more than a stream tells: probabilities (it leaves out the last token's), chosen or further fields.
_MORE = ("logprobs", "top_logprobs", "n_probs", "response_fields", "verbose", "timings_per_token", "return_progress")
_SEVERAL = ("n", "n_cmpl")


class Broken(Exception):
    """The stream told an error, or ended before its last event."""


class Assembly(Protocol):
    """One answer in the making."""

    def take(self, event: Event) -> None:
        """The next event of the stream, in order."""
        ...

    def whole(self) -> Event | None:
        """The answer; None while its last event is missing."""
        ...


def assembly_for(api: Api, body: Mapping[str, Any]) -> Assembly | None:
    """What puts the answer to this request together; None where it is a stream anyway, or only the child can say it."""
    if not api.conversation or body.get("stream") or any(body.get(field) for field in _MORE):
        return None
    if any(body.get(field) not in (None, 1) for field in _SEVERAL):
        return None
    if isinstance(body.get("prompt"), list):  # perhaps several prompts
        return None
    return _MAKERS[api.family](body)


class Whole:
    """An answer that came whole, as the relay reads one that comes piece by piece. `tail`: what its child counted."""

    def __init__(self, answer: Event, tail: bytes = b"") -> None:
        body = orjson.dumps(answer)
        self.tail = tail
        self.headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self.ended = False
        self._body = body

    async def read(self) -> bytes:
        self.ended = True
        body, self._body = self._body, b""
        return body


async def gather(stream: Source, assembly: Assembly) -> Event:
    """Read a stream to its end and put it together. Raises Broken, and what reading raises."""
    events = Events()
    while piece := await stream.read():
        with no_surprise():
            for event in events.feed(piece):
                assembly.take(event)
    with no_surprise():
        whole = assembly.whole()
    if whole is None:
        raise Broken("it ended before its last event")
    return whole


@contextlib.contextmanager
def no_surprise() -> Iterator[None]:
    """Raise Broken where an answer is not of the form that its API has."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Broken(f"it is not what its API says ({type(error).__name__}: {error})") from error


class Events:
    """The events of a stream (text/event-stream), whatever pieces it comes in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are complete with this piece. Raises Broken for one that tells an error."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found: list[Event] = []
        for line in lines:
            if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                continue
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError as no_json:
                raise Broken(f"an event is no JSON: {no_json}") from None
            if isinstance(event, dict):
                error = event.get("error")
                if error is not None:
                    raise Broken(str(error.get("message") or error) if isinstance(error, dict) else str(error))
                found.append(event)
        return found


class _Chat:
    """OpenAI's chat.completion of its chunks."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._message: Event = {"role": "assistant", "content": ""}
        self._finish: str | None = None
        self._rest: Event = {}

    def take(self, event: Event) -> None:
        self._rest.update({key: value for key, value in event.items() if key != "choices"})
        for choice in event.get("choices") or ():
            _add(self._message, choice.get("delta") or {})
            self._finish = choice.get("finish_reason") or self._finish

    def whole(self) -> Event | None:
        if self._finish is None:
            return None
        choice = {"finish_reason": self._finish, "index": 0, "message": self._message}
        return {"choices": [choice], **self._rest, "object": "chat.completion"}


class _Text:
    """OpenAI's text_completion of its chunks."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._text: list[str] = []
        self._finish: str | None = None
        self._rest: Event = {}

    def take(self, event: Event) -> None:
        self._rest.update({key: value for key, value in event.items() if key != "choices"})
        for choice in event.get("choices") or ():
            self._text.append(choice.get("text") or "")
            self._finish = choice.get("finish_reason") or self._finish

    def whole(self) -> Event | None:
        if self._finish is None:
            return None
        choice = {"text": "".join(self._text), "index": 0, "logprobs": None, "finish_reason": self._finish}
        return {"choices": [choice], **self._rest}


class _Native:
    """llama-server's own completion: the last event has all but the text and the tokens."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._with_tokens = body.get("return_tokens") is True
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._last: Event | None = None

    def take(self, event: Event) -> None:
        self._text.append(event.get("content") or "")
        self._tokens += event.get("tokens") or ()
        if event.get("stop") is True:
            self._last = event

    def whole(self) -> Event | None:
        if self._last is None:
            return None
        settings = {**self._last.get("generation_settings", {}), "stream": False}
        tokens = self._tokens if self._with_tokens else []
        return {**self._last, "content": "".join(self._text), "tokens": tokens, "generation_settings": settings}


_MAKERS: Mapping[Family, Callable[[Mapping[str, Any]], Assembly]] = {
    "chat": _Chat,
    "completions": _Text,
    "native": _Native,
}


def _add(message: Event, delta: Event) -> None:
    """Grow a message by what a chunk adds: texts are appended, listed parts found by their `index`."""
    for key, value in delta.items():
        if value is None:
            continue
        known = message.get(key)
        if isinstance(value, list):
            parts: list[Event] = message.setdefault(key, [])
            for part in value:
                index = part.get("index", len(parts))
                while len(parts) <= index:
                    parts.append({})
                _add(parts[index], {name: inner for name, inner in part.items() if name != "index"})
        elif isinstance(value, dict):
            _add(message.setdefault(key, {}), value)
        elif isinstance(known, str) and isinstance(value, str) and key not in ("role", "type", "id", "name"):
            message[key] = known + value
        else:
            message[key] = value
