"""/engine/explain: which tier `auto` would take for a request, and why. Nothing is asked of a model."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, HTTPException, Request

from variet.engine import conversation
from variet.engine.auto.chooser import row

router = APIRouter(prefix="/engine")


@router.get("/explain")
async def rules(request: Request) -> dict[str, Any]:
    """The rules in force, as `$.auto` of the configuration takes them."""
    told: dict[str, Any] = request.app.state.engine.config.auto.model_dump(mode="json", exclude_defaults=False)
    told["rules"] = [{key: value for key, value in one.items() if value not in (None, [])} for one in told["rules"]]
    return told


@router.post("/explain")
async def explain(request: Request, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """The body of a chat, message, response or completion; `{"prompt": "..."}` is enough. Answers with the tier, the
    rule that asked for it, and what each tier would cost in seconds: loading, the way back of what goes for it,
    reading, writing, and lacking what the rule asks for."""
    try:
        chain = conversation.chain(body, orjson.dumps)
    except TypeError as error:
        raise HTTPException(400, f"the body has what JSON cannot say: {error}") from None
    if not chain.digests:
        raise HTTPException(400, "`messages`, `input` or `prompt` is needed, as the request would have it")
    return row(request.app.state.engine.choose(body, chain))
