"""All three servers of tools over MCP's streamable HTTP, on this machine alone: for clients that start no programs.

Each client shows its key (keys.py). Pages in a browser are kept out by Host and Origin: a name that leads here, or a
page from elsewhere, is refused by the SDK.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from variet.assistant import settings
from variet.assistant.calendar.server import server as calendar
from variet.assistant.keys import Keys
from variet.assistant.mail.server import server as mail
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.sight import sight_for
from variet.assistant.search.server import server as search

HOST = "127.0.0.1"


def application(keys: Keys, port: int) -> ASGIApp:
    """At `/search`, `/mail` and `/calendar`. Raises ConfigError."""
    wanted = settings.load()
    sight = sight_for(wanted.browser)
    servers = {"search": search(wanted.search, sight), "mail": mail(sight), "calendar": calendar()}
    return guarded(servers, keys.client_of, port)


def guarded(servers: Mapping[str, MCPServer[Any]], client_of: Callable[[str], str], port: int) -> ASGIApp:
    """Servers by path. `client_of`: whose a key is, empty for nobody's."""
    hosts = [f"{name}:{port}" for name in (HOST, "localhost")]
    trusted = TransportSecuritySettings(allowed_hosts=hosts)
    apps = [
        one.streamable_http_app(streamable_http_path=f"/{name}", transport_security=trusted)
        for name, one in servers.items()
    ]

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for app in apps:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    inner = Starlette(routes=[route for app in apps for route in app.routes], lifespan=life)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                client = client_of(_key(scope))
            except ToolProblem as problem:
                await JSONResponse({"error": str(problem)}, 503)(scope, receive, send)
                return
            if not client:
                told = {"error": "this needs a key of its client: variet mcp key add NAME"}
                refused = JSONResponse(told, 401, headers={"www-authenticate": "Bearer"})
                await refused(scope, receive, send)
                return
            scope["variet.client"] = client
            # The SDK lets nobody into a session that another opened.
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=client, scopes=[]))
        await inner(scope, receive, send)

    return guard


def _key(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            return secret.strip() if kind.lower() == "bearer" else ""
    return ""
