"""How long a server of tools holds what it uses: as long as it runs, over whatever transport."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from mcp.server import MCPServer

Life = Callable[[MCPServer[Any]], AbstractAsyncContextManager[None]]


class Closable(Protocol):
    async def close(self) -> None: ...


def life(*used: Closable) -> Life:
    """Closes them at the server's end. What is asked of others with them is in nobody's log."""
    logging.getLogger("httpx").setLevel(logging.WARNING)

    @asynccontextmanager
    async def held(_: MCPServer[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for one in used:
                await one.close()

    return held
