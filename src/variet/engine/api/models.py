"""`GET /v1/models`: tiers, models and aliases in the OpenAI shape, with what clients ask of a model."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from variet.engine.problems import Problem
from variet.tiers import TIERS

router = APIRouter()


@router.get("/v1/models")
@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """Every name a request may use. `context_length` is what one conversation may hold, `max_output_tokens` what an
    answer may take of it, where its tier says so; `live_beside`: models that can be loaded at the same time, by the
    plan; `trained_as`, `parameters`: what its file says, where there is one; `configured` changes with what the
    configuration says of it."""
    return {"object": "list", "data": _entries(request.app.state.engine)}


@router.get("/v1/models/{name}")
async def model(name: str, request: Request) -> Response:
    """One of them; a name that is not there gets the error that OpenAI's clients expect."""
    engine = request.app.state.engine
    found = next((entry for entry in _entries(engine) if entry["id"] == name), None)
    if found is not None:
        return JSONResponse(found)
    known = ", ".join(engine.names.all())
    problem = Problem(404, "model_not_found", f"there is no model {name!r} here; there are: {known}")
    return Response(problem.body("chat"), problem.status, media_type="application/json")


def _entries(engine: Any) -> list[dict[str, Any]]:
    config = engine.config
    entries = []
    for tier in TIERS:
        entries.append(_entry(engine, tier, config.tiers[tier].model, "tier", config.tiers[tier].description))
    widest = max((config.tiers[tier].model for tier in TIERS), key=lambda name: config.models[name].context_tokens)
    entries.append(_entry(engine, "auto", widest, "auto", "the engine chooses a tier by what is asked"))
    least = min((config.tiers[tier].model for tier in TIERS), key=lambda name: config.models[name].context_tokens)
    entries.append(_entry(engine, "resident", least, "resident", "whatever is loaded: never a swap"))
    for name in config.all_models():
        entries.append(_entry(engine, name, name, "model", ""))
    for alias, target in config.aliases.items():
        if not alias.endswith("*"):
            kind = target if target in ("auto", "resident") else "alias"
            entries.append(_entry(engine, alias, engine.names.resolve(target).model, kind, f"stands for {target}"))
    return entries


def _entry(engine: Any, name: str, model: str, kind: str, description: str) -> dict[str, Any]:
    spec = engine.config.model(model)
    side_kind = getattr(spec, "kind", None)
    capabilities = (
        [side_kind] if side_kind else ["completion", "chat", "tools"] + (["vision"] if spec.files.mmproj else [])
    )
    facts = None if kind in ("auto", "resident") else engine.plan.facts.get(model)  # those stand for no one model
    tier = engine.config.tiers.get(engine.config.aliases.get(name, name))
    told = [one.model_dump(mode="json") for one in (spec, tier) if one is not None]
    beside = {other for group in engine.plan.together if model in group for other in group} - {model}
    return {
        "id": name, "object": "model", "owned_by": "variet", "created": engine.started_at, "kind": kind, "model": model,
        "description": description, "context_length": spec.context_tokens, "max_model_len": spec.context_tokens,
        "max_output_tokens": tier.max_tokens if tier else None,
        "capabilities": capabilities, "state": engine.view.state_of(model),
        "live_beside": sorted(beside), "trained_as": facts.name if facts else "",
        "parameters": facts.parameters if facts else 0,
        "configured": hashlib.sha256(orjson.dumps(told)).hexdigest()[:16],
    }  # fmt: skip
