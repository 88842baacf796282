"""A real SearXNG (installed by `make searxng`) whose engines are pages on loopback, and those pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from tests.support.engine import ROOT

_FOLDER = ROOT / ".searxng"
_START_S = 60.0


@dataclass
class Pages:
    """A web server. `held`: what it answers with, by path: (body, its kind), or what makes the answer; `hits`: what its
    search finds; `asked`: the paths, in order."""

    url: str = ""
    held: dict[str, Any] = field(default_factory=dict)
    hits: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


@asynccontextmanager
async def pages() -> AsyncIterator[Pages]:
    made = Pages()

    async def answer(request: web.Request) -> web.StreamResponse:
        made.asked.append(request.path_qs)
        if request.path == "/find":
            return web.json_response({"results": made.hits})
        found = made.held.get(request.path_qs, made.held.get(request.path))
        if found is None:
            return web.Response(status=404)
        if callable(found):
            return await found(request)  # type: ignore[no-any-return]
        body, kind = found
        data = body.encode() if isinstance(body, str) else body
        return web.Response(body=data, headers={"content-type": kind})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def _engine(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "engine": "json_engine", "shortcut": name[:3], "search_url": url, "results_query": "results",
        "url_query": "url", "title_query": "title", "content_query": "content", "categories": ["general"],
        "enable_http": True, **more,
    }  # fmt: skip


@asynccontextmanager
async def searxng(folder: Path, pages: Pages, *, formats: tuple[str, ...] = ("html", "json")) -> AsyncIterator[str]:
    """Its address. One engine finds what the pages have, one is broken."""
    granian = _FOLDER / "bin" / "granian"
    assert granian.is_file(), "run `make searxng`"
    settings: Mapping[str, Any] = {
        "use_default_settings": {"engines": {"keep_only": []}},
        "server": {"secret_key": secrets.token_hex(16), "limiter": False},
        "search": {"formats": list(formats)},
        "outgoing": {"request_timeout": 5.0},
        "engines": [
            _engine("pages", f"{pages.url}/find?q={{query}}"), _engine("broken", f"{pages.url}/broken?q={{query}}"),
        ],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.yml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(granian), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "searx.webapp:app", cwd=folder, env={**os.environ, "SEARXNG_SETTINGS_PATH": str(file)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        await _until_up(url, process)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_up(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_S), ClientSession() as session:
        while True:
            assert process.returncode is None, "SearXNG ended"
            with contextlib.suppress(OSError):
                async with session.get(f"{url}/healthz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
