"""OpenCode. https://opencode.ai/docs/config and /docs/providers: JSON with comments, the project's file over the
user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from variet.connect.catalogue import Catalogue, Model
from variet.connect.clients.base import BACKGROUND, MAIN, Headless, Where, key_file, node_trusts
from variet.connect.wishes import Choice, File, Values

_PROVIDER = "variet"


class OpenCode:
    name, title, program = "opencode", "OpenCode", "opencode"
    only_user = ""

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        key = key_file(engine, where)
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Variet",
            "options": {
                "baseURL": engine.v1,
                "apiKey": f"{{file:{_from_home(key.path, where)}}}",
                "timeout": False,  # a tier that loads takes as long as it takes; its default is five minutes
            },
            "models": {model.name: _model(model) for model in engine.offered},
        }
        names = tuple(f"{_PROVIDER}/{model.name}" for model in engine.offered)
        values: Values = {
            ("provider", _PROVIDER): provider,
            ("model",): Choice(f"{_PROVIDER}/{MAIN}", names),
            ("small_model",): Choice(f"{_PROVIDER}/{BACKGROUND}", names),
        }
        return [key, File(_file(where), "json", values, first={("$schema",): "https://opencode.ai/config.json"})]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return node_trusts(engine)

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return []

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        kept = {"external_directory": "deny", **({} if commands else {"bash": "deny"})}  # all else it allows by itself
        words = ["run", "--format", "json", "-m", f"{_PROVIDER}/{MAIN}", "--auto", prompt]
        return Headless(words, {"OPENCODE_PERMISSION": json.dumps(kept)})


def _from_home(path: Path, where: Where) -> str:
    """As a project's file may say it to others: not where somebody's home is. OpenCode knows `~/`."""
    return f"~/{path.relative_to(where.home).as_posix()}" if path.is_relative_to(where.home) else str(path)


def _file(where: Where) -> Path:
    """Of several in a folder, the one that wins."""
    folder = where.project or where.named("OPENCODE_CONFIG_DIR", where.xdg_config() / "opencode")
    there = [folder / name for name in ("opencode.jsonc", "opencode.json") if (folder / name).exists()]
    return there[0] if there else folder / "opencode.json"


def _model(model: Model) -> dict[str, Any]:
    seen = {"attachment": True, "modalities": {"input": ["text", "image"], "output": ["text"]}} if model.sees else {}
    limit = {"context": model.context_tokens, "output": model.output_tokens}
    return {"name": f"Variet {model.name}", "tool_call": True, "limit": limit, **seen}
