"""/engine/events and /engine/requests: what happens, as it happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from variet.engine.engine import Engine

log = logging.getLogger("variet.engine.live")

router = APIRouter(prefix="/engine")
_LOOK_S = 0.25  # between two looks at what changes without an event: shares of loads, tokens
_STILL_ALIVE_S = 15.0
_MOST_LISTENERS = 64
_STALL_S = 60.0  # a listener that takes nothing for so long is gone


@router.get("/requests")
async def requests(request: Request) -> dict[str, Any]:
    """Requests under way and the latest that are over: tier, stage, waits, tokens, speed; never what they say."""
    result: dict[str, Any] = request.app.state.engine.view.requests()
    return result


@router.get("/requests/{name}", response_model=None)
async def one_request(
    name: str, request: Request, accept: Annotated[str, Header()] = ""
) -> dict[str, Any] | StreamingResponse:
    """One request, by the name its client gave it (header `x-variet-request`) or the engine's number. With
    `Accept: text/event-stream`: an event at each change, until it is over."""
    engine = request.app.state.engine
    view = engine.view
    record = view.find(name)
    if record is None:
        raise HTTPException(404, f"there is no request {name!r}, or it is long over")
    if "text/event-stream" not in accept:
        result: dict[str, Any] = view.request(record)
        return result

    _refuse_more(engine)

    async def changes() -> AsyncIterator[bytes]:
        said = b""
        while True:
            row = orjson.dumps(view.request(record))
            if row != said:
                said = row
                yield b"event: request\ndata: %s\n\n" % row
            if record.outcome != "running":
                return
            await asyncio.sleep(_LOOK_S)

    return _Live(changes(), engine)


@router.get("/events")
async def events(request: Request, last_event_id: Annotated[int | None, Header()] = None) -> StreamingResponse:
    """Server-sent events. `status`: what /engine/status says, at first and whenever it changed; `request`: one is over;
    `swap`: a model came in, with its phases; `context`: a conversation was kept or brought back; `moment`: a line of
    the journal; `lost`: so many were missed. With `Last-Event-ID` those since then come first."""
    engine = request.app.state.engine
    _refuse_more(engine)
    feed = engine.feed
    begin = feed.last if last_event_id is None or not 0 <= last_event_id <= feed.last else last_event_id

    async def happenings() -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        number, said, said_at = begin, b"", loop.time()
        while not feed.closed:
            parts = []
            items, lost = feed.after(number)
            if lost:
                parts.append(b'event: lost\ndata: {"count":%d}\n\n' % lost)
            for item in items:
                number = item.number
                parts.append(_event(item.kind, orjson.dumps(item.tell()), number))
            status = orjson.dumps(engine.view.status())
            if status != said:
                said = status
                parts.append(_event("status", status, number))
            if not parts and loop.time() - said_at > _STILL_ALIVE_S:
                parts.append(b": still here\n\n")
            if parts:
                said_at = loop.time()
                yield b"".join(parts)
                await asyncio.sleep(_LOOK_S / 5)  # what happens at once is told at once
            await feed.news(number, _LOOK_S)

    return _Live(happenings(), engine)


def _refuse_more(engine: Engine) -> None:
    if engine.listeners >= _MOST_LISTENERS:
        raise HTTPException(429, f"{_MOST_LISTENERS} listen already; close one of them")


class _Live(StreamingResponse):
    """Server-sent events to one listener, who is counted while it listens, and cut when it stalls."""

    def __init__(self, events: AsyncIterator[bytes], engine: Engine) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            async with asyncio.timeout(_STALL_S):
                await send(message)

        self._engine.listeners += 1
        try:
            await super().__call__(scope, receive, patient)
        except TimeoutError:  # uvicorn closes the connection of an answer that is not whole
            log.info("a listener read nothing for %.0f s and was cut", _STALL_S)
        finally:
            self._engine.listeners -= 1


def _event(kind: str, data: bytes, number: int) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), data)
