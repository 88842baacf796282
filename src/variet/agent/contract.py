"""The contract between rooms as JSON Schema, from the types in events.py: `python -m variet.agent.contract FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from variet.agent.events import EVENTS, Approval, Decision


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
        "title": "Variet: events of an agent, approvals, decisions",
        "$defs": {**dict(sorted(shared.items())), **parts},
    }
    return json.dumps(whole, indent=1) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema(), encoding="utf-8")
