"""The ASGI application: the engine's own pages and API beside the relay, behind CORS."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from variet import __version__
from variet.engine.downstream import Receive, Send
from variet.engine.engine import Engine
from variet.engine.pairing import Pairing
from variet.engine.trust import Guard, KeyStore

_ALIVE = frozenset({"/health", "/v1/health"})
_OWN = frozenset({"/", "/health", "/v1/health", "/v1/models", "/models", "/metrics", "/favicon.ico"})


@dataclass(frozen=True, slots=True)
class Identity:
    """How this engine is reached: its addresses, the authority of its certificate (empty: plain HTTP), and an admin key
    of this run for commands on the same machine."""

    urls: tuple[str, ...]
    authority_pem: str
    local_key: str


def build(engine: Engine, identity: Identity) -> Any:
    """The whole application of one engine."""
    store = KeyStore()
    own = _Own(engine, identity, store)

    async def dispatch(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OWN and not scope["path"].startswith("/engine/"):
            await engine.relay(scope, receive, send)
        else:
            await own(scope, receive, send)

    origins = "|".join(re.escape(origin) for origin in engine.config.server.cors_origins)
    origin = re.compile(rf"({origins})(:\d+)?")
    server = engine.config.server
    hosts = (server.host, *server.hosts)
    guarded = Guard(dispatch, store, hosts, lambda one: origin.fullmatch(one) is not None, identity.local_key)
    for_pages = CORSMiddleware(
        guarded,
        allow_origin_regex=origin.pattern,
        allow_methods=["GET", "POST", "HEAD", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=["x-variet-tier", "x-variet-model", "x-variet-queue-ms"],
    )

    async def entry(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Programs send no Origin and are spared what only pages need: a tenth of the relay's time."""
        page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (for_pages if page else guarded)(scope, receive, send)

    return entry


class _Own:
    """The engine's own pages and API, on FastAPI. Importing that takes most of a second, so it is done in a thread
    once the port answers: models are relayed meanwhile, and a request for a page waits for it.
    """

    def __init__(self, engine: Engine, identity: Identity, store: KeyStore) -> None:
        self._make = functools.partial(_own_app, engine, identity, store)
        self._app: asyncio.Future[Any] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] in _ALIVE:
            await _send_json(send, b'{"status":"ok"}', scope["method"] == "HEAD")
            return
        app = await self.ready()
        await app(scope, receive, send)

    async def ready(self) -> Any:
        if self._app is None:
            self._app = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._app)


async def _send_json(send: Send, body: bytes, head: bool) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def _own_app(engine: Engine, identity: Identity, store: KeyStore) -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse, Response

    from variet.engine.api import control, models, pairing

    own = FastAPI(
        title="Variet Engine",
        version=__version__,
        docs_url="/engine/docs",
        openapi_url="/engine/openapi.json",
        redoc_url=None,
    )
    own.state.engine = engine
    own.state.urls = identity.urls
    own.state.pairing = Pairing(store, identity.authority_pem)
    own.include_router(models.router)
    own.include_router(pairing.router)
    own.include_router(control.router)

    @own.api_route("/", methods=["GET", "HEAD"], response_class=PlainTextResponse, include_in_schema=False)
    async def front() -> str:
        return f"Variet Engine {__version__}. Status: /engine/status, models: /v1/models, API: /engine/docs\n"

    @own.get("/metrics", response_class=Response, include_in_schema=False)
    async def metrics() -> Response:
        return Response(engine.metrics_text(), media_type="text/plain; version=0.0.4")

    return own
