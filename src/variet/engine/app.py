"""The ASGI application: the engine's own pages and API beside the relay, behind CORS."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from starlette.middleware.cors import CORSMiddleware

from variet import __version__
from variet.engine.api import control, models, pairing
from variet.engine.downstream import Receive, Send
from variet.engine.engine import Engine
from variet.engine.pairing import Pairing
from variet.engine.trust import Guard, KeyStore

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

    @own.api_route("/health", methods=["GET", "HEAD"])
    @own.api_route("/v1/health", methods=["GET", "HEAD"], include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    async def dispatch(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OWN and not scope["path"].startswith("/engine/"):
            await engine.relay(scope, receive, send)
        else:
            await own(scope, receive, send)

    @own.get("/metrics", response_class=Response, include_in_schema=False)
    async def metrics() -> Response:
        return Response(engine.metrics_text(), media_type="text/plain; version=0.0.4")

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
