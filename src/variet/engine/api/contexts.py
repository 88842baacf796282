"""/engine/contexts: the conversations that are kept on disk, by size and age; never what they say."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request

from variet.engine.names import UnknownName
from variet.engine.snapshots import Snapshot, Snapshots

router = APIRouter(prefix="/engine/contexts")


@router.get("")
async def kept(request: Request) -> dict[str, Any]:
    """What is kept, the last used first; `unfit`: models of which nothing is, since their restores spared nothing."""
    return {**told(_snapshots(request)), "unfit": request.app.state.engine.contexts.book.unfit()}


@router.delete("")
async def purge(request: Request, model: str | None = None) -> dict[str, Any]:
    """Forget all of them, or all of one model (a tier or alias stands for its model); the unfit is tried again."""
    snapshots = _snapshots(request)
    # What is kept of a model that was configured once keeps its name.
    if model is not None and not any(one.model == model for one in snapshots):
        try:
            model = request.app.state.engine.names.resolve(model).model
        except UnknownName as unknown:
            raise HTTPException(404, f"there is no model {model!r}; there are: {', '.join(unknown.known)}") from None
    gone = [one for one in snapshots if model in (None, one.model)]
    for one in gone:
        snapshots.forget(one)
    request.app.state.engine.contexts.book.forgive(model)
    return {"forgotten": len(gone), "bytes": sum(one.size for one in gone)}


@router.delete("/{snapshot_id}")
async def forget(snapshot_id: str, request: Request) -> dict[str, Any]:
    """Forget one."""
    snapshots = _snapshots(request)
    one = next((one for one in snapshots if one.id == snapshot_id), None)
    if one is None:
        raise HTTPException(404, f"no conversation {snapshot_id!r} is kept; `variet context list` shows which are")
    snapshots.forget(one)
    return {"forgotten": 1, "bytes": one.size}


def told(snapshots: Snapshots) -> dict[str, Any]:
    """All of them as programs get them; times are Unix seconds."""
    newest = sorted(snapshots, key=lambda one: -one.used_at)
    return {
        "folder": str(snapshots.folder), "bytes": snapshots.size, "most_bytes": snapshots.most_bytes,
        "kept": [_told(one) for one in newest],
    }  # fmt: skip


def _told(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id, "model": one.model, "tokens": one.tokens, "bytes": one.size,
        "messages": len(one.chain.digests) - 1, "made_at": round(one.made_at), "used_at": round(one.used_at),
    }  # fmt: skip


def _snapshots(request: Request) -> Snapshots:
    snapshots: Snapshots = request.app.state.engine.contexts.snapshots
    return snapshots
