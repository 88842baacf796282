"""The least that a relay on uvicorn and aiohttp does: bytes in, bytes out. It shows what the engine itself adds."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Message = MutableMapping[str, Any]


class PlainRelay:
    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._upstream.removeprefix("unix:"))
            self._session = aiohttp.ClientSession("http://child", connector=connector, auto_decompress=False)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {"content-type": "application/json"}
        while True:
            try:
                answer = await self._session.request(scope["method"], scope["path"], data=body, headers=headers)
                break
            except aiohttp.ClientConnectionError:
                pass  # llama-server closes a kept connection after each stream, perhaps in this very moment
        async with answer:
            kept = [
                (name.lower().encode(), value.encode())
                for name, value in answer.headers.items()
                if name.lower() not in ("transfer-encoding", "keep-alive")
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


if __name__ == "__main__":
    relay = PlainRelay(sys.argv[2])
    uvicorn.run(relay, port=int(sys.argv[1]), log_config=None, access_log=False, lifespan="off", http="httptools")
