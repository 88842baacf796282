"""/engine/*: what people and programs ask of the engine itself."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from variet.engine.fleet import Refused
from variet.engine.names import UnknownName
from variet.errors import ConfigError, VarietError

router = APIRouter(prefix="/engine")


class Wish(BaseModel):
    """A load, swap or unload by the name of a tier, model or alias."""

    model: str
    now: bool = Field(False, description="unload: cut running streams instead of draining")


@router.get("/status")
async def status(request: Request) -> dict[str, Any]:
    """Tiers, instances, queue and memory, as they are now."""
    result: dict[str, Any] = request.app.state.engine.view.status()
    return result


@router.post("/prefetch")
async def prefetch(wish: Wish, request: Request) -> dict[str, Any]:
    """A hint that this model comes next: its file is read into memory while others answer. Any key may give one."""
    engine = request.app.state.engine
    try:
        engine.hint(wish.model)
    except UnknownName as error:
        raise HTTPException(404, f"there is no model {error.name!r}; there are: {', '.join(error.known)}") from None
    return {"prefetch": engine.view.status()["prefetch"]}


@router.post("/{kind}")
async def command(kind: Literal["load", "swap", "unload"], wish: Wish, request: Request) -> dict[str, Any]:
    """Carry a wish out and answer when it is done; `unload` of what is not loaded is done at once."""
    engine = request.app.state.engine
    try:
        target = engine.names.resolve(wish.model)
    except UnknownName as error:
        raise HTTPException(404, f"there is no model {error.name!r}; there are: {', '.join(error.known)}") from None
    if target.anywhere:
        raise HTTPException(400, f"{wish.model!r} is no model of its own; name a tier or a model")
    try:
        await engine.fleet.command(kind, target.model, now=wish.now)
    except Refused as refused:
        raise HTTPException(409, str(refused)) from None
    return {"done": kind, "model": target.model}


@router.post("/config/reload")
async def reload(request: Request) -> dict[str, Any]:
    """Read the configuration again. A broken one is refused with all its mistakes; the old one stays."""
    engine = request.app.state.engine
    try:
        changed, waiting = await engine.reload()
    except ConfigError as error:
        mistakes = [{"path": one.path, "what": one.what, "way_out": one.way_out} for one in error.mistakes]
        raise HTTPException(422, {"message": str(error), "mistakes": mistakes}) from None
    except VarietError as error:
        raise HTTPException(422, {"message": str(error), "mistakes": []}) from None
    return {"reloaded": str(engine.config_path), "changed": sorted(changed), "needs_restart": waiting}


@router.get("/logs/{name}", response_class=PlainTextResponse)
async def logs(name: str, request: Request, lines: int = 200) -> str:
    """The end of a model's llama-server log, or of the engine's own (`engine`: one JSON object a line)."""
    engine = request.app.state.engine
    text: str | None = engine.log_tail(name, min(max(lines, 1), 10_000))
    if text is None:
        known = name in engine.names.all() or name == "engine"
        others = "" if known else f"; there are: engine, {', '.join(engine.names.all())}"
        raise HTTPException(404, f"there is no log of {name!r}{' yet' if known else others}")
    return text
