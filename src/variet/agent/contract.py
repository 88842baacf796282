"""The contract between rooms as JSON Schema, from the types in events.py: `python -m variet.agent.contract FILE`.

`make contract` writes it, and the TypeScript types that json-schema-to-typescript makes of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from variet.agent.events import EVENTS
from variet.approval import Approval, Decision


def schema() -> str:
    """Of events, approvals and decisions, as they are written."""
    parts = {"Event": EVENTS.json_schema(mode="serialization", ref_template="#/$defs/{model}")}
    for model in (Approval, Decision):
        parts[model.__name__] = model.model_json_schema(mode="serialization", ref_template="#/$defs/{model}")
    shared: dict[str, object] = {}
    for part in parts.values():
        shared |= part.pop("$defs", {})
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Contract",
        "description": "Events of an agent, approvals, decisions: what rooms tell each other.",
        "type": "object",
        "properties": {name.lower(): {"$ref": f"#/$defs/{name}"} for name in parts},
        "required": [name.lower() for name in parts],
        "$defs": {**dict(sorted(shared.items())), **parts},
    }
    return json.dumps(_bare(whole), indent=1) + "\n"


def _bare(value: Any) -> Any:
    """Without titles of fields, which only repeat their names, and defaults beside a reference: generators of types
    make a type of each."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    if not isinstance(value, dict):
        return value
    without = {"default"} if "$ref" in value else set()
    return {
        key: {name: _bare({k: v for k, v in field.items() if k != "title"}) for name, field in one.items()}
        if key == "properties"
        else _bare(one)
        for key, one in value.items()
        if key not in without
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema(), encoding="utf-8")
