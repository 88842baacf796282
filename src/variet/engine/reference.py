"""Every configuration key as Markdown, from the types in config.py; a test keeps docs/engine.md equal to it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from variet.engine import config

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("$", config.EngineConfig),
    ("$.server", config.ServerConfig),
    ("$.scheduling", config.SchedulingConfig),
    ("$.context", config.ContextConfig),
    ("$.history", config.HistoryConfig),
    ("$.auto", config.AutoConfig),
    ("$.auto.rules[]", config.AutoRule),
    ("$.models.NAME", config.ModelConfig),
    ("$.models.NAME.files", config.ModelFiles),
    ("$.models.NAME.files.* (one file)", config.FileSpec),
    ("$.side_models.NAME (and all of $.models.NAME)", config.SideModelConfig),
    ("$.tiers.TIER", config.TierConfig),
    ("$.hardware", config.HardwareConfig),
    ("$.hardware.gpus[]", config.GpuDescription),
    ("$.llama_server", config.LlamaServerConfig),
)


def markdown() -> str:
    """One table a section: key, default, meaning."""
    parts = []
    for path, shape in _SECTIONS:
        summary = (shape.__doc__ or "").strip().splitlines()[0]
        parts += [f"### `{path}`", "", summary, "", "| key | default | meaning |", "|---|---|---|"]
        inherited = set(config.ModelConfig.model_fields) if shape is config.SideModelConfig else set()
        for name, field in shape.model_fields.items():
            if name not in inherited:
                key = field.alias or name
                parts.append(f"| `{key}` | {_default(field)} | {_meaning(field.description)} |")
        parts.append("")
    return "\n".join(parts)


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "built in"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _meaning(text: str | None) -> str:
    return (text or "").replace("|", "\\|")
