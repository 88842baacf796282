"""/engine/history: what happened in the last weeks, for the dashboard and for programs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request

from variet.engine.history import History

router = APIRouter(prefix="/engine/history")
Found = TypeVar("Found")


@router.get("/rates")
async def rates(
    request: Request,
    hours: Annotated[float, Query(gt=0, le=24 * 366)] = 24,
    steps: Annotated[int, Query(ge=1, le=1000)] = 96,
) -> dict[str, Any]:
    """Requests and tokens of the last `hours`, by tier, in so many steps of time; empty steps are left out. Times are
    Unix seconds."""
    history = _history(request)
    step_s = hours * 3600 / steps
    since = (time.time() // step_s - steps + 1) * step_s
    found = await _read(history, lambda: history.rates(since, step_s))
    return {"since_at": since, "step_s": step_s, "steps": steps, "rates": found}


@router.get("/{kind}")
async def latest(
    kind: Literal["request", "swap", "moment"],
    request: Request,
    before: float | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The latest requests, swaps or lines of the journal, newest first; `before` (Unix seconds) turns the page."""
    history = _history(request)
    return {"rows": await _read(history, lambda: history.latest(kind, before=before, most=limit))}


def _history(request: Request) -> History:
    history: History = request.app.state.engine.history
    return history


async def _read(history: History, ask: Callable[[], Found]) -> Found:
    await history.flush()
    try:
        return await asyncio.to_thread(ask)
    except sqlite3.Error as error:
        raise HTTPException(503, f"the history cannot be read: {error}") from None
