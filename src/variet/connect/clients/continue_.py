"""Continue. https://docs.continue.dev/reference: config.yaml of the user; models of a project in .continue/models."""

from __future__ import annotations

from typing import Any

from variet.connect.catalogue import Catalogue, Model
from variet.connect.clients.base import KEY, PATIENCE_MS, Headless, Where
from variet.connect.wishes import Entries, File, Values


class Continue:
    name, title, program = "continue", "Continue", "cn"
    only_user = "its model list stands in your own configuration"

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        folder = where.named("CONTINUE_GLOBAL_DIR", where.home / ".continue")
        head: Values = {("name",): "Local", ("version",): "1.0.0", ("schema",): "v1"}
        models = Entries(("name",), tuple(_model(engine, one) for one in engine.offered))
        return [
            File(folder / "config.yaml", "yaml", {("models",): models}, first=head),
            File(folder / ".env", "env", {(KEY,): engine.token}, secret=True),
        ]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return {}

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return []

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return None


def _model(engine: Catalogue, model: Model) -> dict[str, Any]:
    trust = {"caBundlePath": str(engine.authority)} if engine.authority is not None else {}
    return {
        "name": f"Variet {model.name}",
        "provider": "openai",
        "model": model.name,
        "apiBase": engine.v1,
        "apiKey": "${{ secrets." + KEY + " }}",
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use", *(["image_input"] if model.sees else [])],
        "defaultCompletionOptions": {"contextLength": model.context_tokens, "maxTokens": model.output_tokens},
        "requestOptions": {"timeout": PATIENCE_MS // 1000, **trust},
    }
