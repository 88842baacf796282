"""The dashboard's files, as `web/` builds them: / and /engine/page/."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response

from variet import __version__

router = APIRouter(include_in_schema=False)
_BUILT = Path(__file__).resolve().parent.parent / "web"
_TYPES = {"app.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml"}
_HEADERS = {
    # Nothing but its own files, no frame around it, no address handed on.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_NOT_BUILT = f"""<!doctype html><html lang=en><meta charset=utf-8><title>Variet Engine</title>
<style>body{{font:16px/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}}</style>
<h1>Variet Engine {__version__}</h1>
<p>It runs. Its dashboard was not built, since there was no Node.js when it was set up: install Node 20 or newer and run
<code>make web</code>, then load this page again.</p>
<p>Meanwhile: <code>variet status --watch</code>, <a href=/engine/docs>/engine/docs</a>,
<a href=/v1/models>/v1/models</a>.</p></html>"""


@router.api_route("/", methods=["GET", "HEAD"])
async def front() -> Response:
    if not (_BUILT / "index.html").is_file():
        return HTMLResponse(_NOT_BUILT)
    return FileResponse(_BUILT / "index.html", media_type="text/html", headers=_HEADERS)


@router.api_route("/engine/page/{name}", methods=["GET", "HEAD"])
async def file(name: str) -> Response:
    if name not in _TYPES or not (_BUILT / name).is_file():
        raise HTTPException(404, f"the dashboard has no {name!r}")
    return FileResponse(_BUILT / name, media_type=_TYPES[name], headers=_HEADERS)
