"""What a server of tools that reads of Google stands on: its API with a token that the broker renews, and the gate."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, NamedTuple

from mcp.server import MCPServer

from variet.assistant.broker.client import BrokerClient
from variet.assistant.gate import Gate
from variet.assistant.google.api import GoogleApi


class Reader(NamedTuple):
    """`life`: of the server, at whose end both are closed."""

    api: GoogleApi
    gate: Gate
    life: Callable[[MCPServer[Any]], AbstractAsyncContextManager[None]]


def reader(service: Literal["mail", "calendar"], url: str) -> Reader:
    broker = BrokerClient()
    gate = Gate(broker)

    async def token(stale: str) -> str:
        told = await broker.call("token", service=service, stale=stale)
        return str(told["token"])

    api = GoogleApi(url, token)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # what is searched for is nobody's log

    @asynccontextmanager
    async def life(_: MCPServer[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await api.close()
            await gate.close()

    return Reader(api, gate, life)
