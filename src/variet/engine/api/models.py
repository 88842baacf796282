"""`GET /v1/models`: tiers, models and aliases in the OpenAI shape, with what clients ask of a model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from variet.tiers import TIERS

router = APIRouter()


@router.get("/v1/models")
@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """Every name a request may use. `context_length` is what one conversation may hold."""
    engine = request.app.state.engine
    config = engine.config
    entries = []
    for tier in TIERS:
        entries.append(_entry(engine, tier, config.tiers[tier].model, "tier", config.tiers[tier].description))
    for name in config.all_models():
        entries.append(_entry(engine, name, name, "model", ""))
    for alias, target in config.aliases.items():
        if not alias.endswith("*"):
            entries.append(_entry(engine, alias, engine.names.resolve(target).model, "alias", f"stands for {target}"))
    return {"object": "list", "data": entries}


def _entry(engine: Any, name: str, model: str, kind: str, description: str) -> dict[str, Any]:
    spec = engine.config.model(model)
    side_kind = getattr(spec, "kind", None)
    capabilities = (
        [side_kind] if side_kind else ["completion", "chat", "tools"] + (["vision"] if spec.files.mmproj else [])
    )
    return {
        "id": name, "object": "model", "owned_by": "variet", "created": engine.started_at, "kind": kind, "model": model,
        "description": description, "context_length": spec.context_tokens, "max_model_len": spec.context_tokens,
        "capabilities": capabilities, "state": engine.state_of(model),
    }  # fmt: skip
