"""The ASGI application: the engine's own pages and API beside the relay, behind CORS."""

from __future__ import annotations

import asyncio
import functools
import html
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from variet import __version__
from variet.engine import apis
from variet.engine.downstream import Receive, Send
from variet.engine.engine import Engine
from variet.engine.pairing import Pairing
from variet.engine.problems import Problem
from variet.engine.relay import MARKS
from variet.engine.request import Left, read_body
from variet.engine.trust import Guard, KeyStore

_OWN_BELOW = ("/engine/", "/v1/models/")
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
        if scope["type"] == "http" and scope["path"] not in _OWN and not scope["path"].startswith(_OWN_BELOW):
            await engine.relay(scope, receive, send)
        else:
            await own(scope, receive, send)

    server = engine.config.server
    origins = "|".join(re.escape(origin) for origin in server.cors_origins)
    origin = re.compile(
        rf"({origins})(:\d+)?" if origins else r"(?!)"
    )  # it matches nothing: an empty pattern would match the empty origin
    hosts = (server.host, *server.hosts)
    allowed = functools.partial(_matches, origin)
    guarded = Guard(dispatch, store, hosts, allowed, identity.local_key, engine.relay.refused)
    for_pages = CORSMiddleware(
        guarded,
        allow_origin_regex=origin.pattern,
        allow_methods=["GET", "POST", "HEAD", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=list(MARKS),
    )

    async def entry(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Programs send no Origin and are spared what only pages need: a tenth of the relay's time."""
        page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (for_pages if page else guarded)(scope, receive, send)

    return entry


def _matches(pattern: re.Pattern[str], origin: str) -> bool:
    return pattern.fullmatch(origin) is not None


class _Own:
    """The engine's own pages and API, on FastAPI. Importing that takes most of a second, so it is done when the first
    request for one comes, in a thread: models are relayed meanwhile.
    """

    def __init__(self, engine: Engine, identity: Identity, store: KeyStore) -> None:
        self._engine = engine
        self._make = functools.partial(_own_app, engine, identity, store)
        self._app: asyncio.Future[Any] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] in _ALIVE:
            ending = self._engine.fleet.scheduler.shutting_down
            body = b'{"status":"shutting down"}' if ending else b'{"status":"ok"}'
            await _send_json(send, 503 if ending else 200, body, scope["method"] == "HEAD")
            return
        try:
            body = await read_body(scope, receive, self._engine.config.server.max_body_mib)
        except Problem as problem:
            await _send_json(send, problem.status, problem.body("chat"), head=False)
            return
        except Left:
            return
        receive = _again(body, receive)
        if scope["method"] == "POST":  # as with the relayed APIs, curl -d needs no content type
            kept = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            scope = {**scope, "headers": [*kept, (b"content-type", b"application/json")]}
        app = await self.ready()
        await app(scope, receive, send)

    async def ready(self) -> Any:
        if self._app is None:
            self._app = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._app)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be read once more; then what comes after it."""
    told = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send_json(send: Send, status: int, body: bytes, head: bool) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def _own_app(engine: Engine, identity: Identity, store: KeyStore) -> Any:
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse, Response

    from variet.engine.api import contexts, control, explain, history, live, models, page, pairing

    own = FastAPI(
        title="Variet Engine",
        version=__version__,
        docs_url=None,  # FastAPI's own page takes its scripts from the internet
        openapi_url="/engine/openapi.json",
        redoc_url=None,
    )
    own.state.engine = engine
    own.state.urls = identity.urls
    own.state.pairing = Pairing(store, identity.authority_pem)
    own.include_router(models.router)
    own.include_router(pairing.router)
    own.include_router(contexts.router)
    own.include_router(live.router)
    own.include_router(explain.router)
    own.include_router(history.router)
    own.include_router(page.router)
    own.include_router(control.router)

    @own.get("/engine/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return _docs_page(own.openapi())

    @own.get("/metrics", response_class=Response, include_in_schema=False)
    async def metrics() -> Response:
        return Response(engine.metrics_text(), media_type="text/plain; version=0.0.4")

    return own


def _docs_page(schema: dict[str, Any]) -> str:
    """The engine's own API as a plain page: no script, nothing from the internet."""
    rows = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
        f"<td>{html.escape(what.get('description') or what.get('summary', ''))}</td></tr>"
        for path, methods in sorted(schema["paths"].items())
        for method, what in methods.items()
    )
    style = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    relayed = ", ".join(f"<code>{path}</code>" for path in apis.APIS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Variet Engine</title><style>{style}"
        "td{padding:.3rem 1rem .3rem 0;vertical-align:top}</style><h1>Variet Engine</h1>"
        f"<table>{rows}</table><p>Relayed to the models: {relayed}.</p>"
        "<p>The same for programs: <a href=/engine/openapi.json>openapi.json</a>.</p></html>"
    )
