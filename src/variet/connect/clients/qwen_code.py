"""Qwen Code. https://qwenlm.github.io/qwen-code-docs: settings.json with comments, the project's over the user's;
`modelProviders` of a project hides the user's."""

from __future__ import annotations

from typing import Any

from variet.connect.catalogue import Catalogue, Model
from variet.connect.clients.base import BACKGROUND, KEY, MAIN, PATIENCE_MS, Headless, Where, node_trusts
from variet.connect.wishes import Choice, Entries, File, Values


class QwenCode:
    name, title, program = "qwen-code", "Qwen Code", "qwen"
    only_user = ""

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        models = Entries(("id", "baseUrl"), tuple(_model(engine, one) for one in engine.offered))
        values: Values = {
            ("modelProviders", "openai"): models,
            ("security", "auth", "selectedType"): "openai",
            ("model", "name"): Choice(MAIN, engine.names),
            ("fastModel",): Choice(BACKGROUND, engine.names),
        }
        user = where.home / ".qwen" / "settings.json"
        key: Values = {("env", KEY): engine.token}
        if where.project is None:
            return [File(user, "json", {**values, **key}, secret=True)]
        return [File(where.project / ".qwen" / "settings.json", "json", values), File(user, "json", key, secret=True)]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return node_trusts(engine)

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return ["it asks HTTP_PROXY for addresses on this machine, too: leave that unset, or set NO_PROXY"]

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        mode = "yolo" if commands else "auto-edit"
        return Headless(["-p", prompt, "--approval-mode", mode, "--output-format", "stream-json"])


def _model(engine: Catalogue, model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "name": f"Variet {model.name}",
        "envKey": KEY,
        "baseUrl": engine.v1,
        "generationConfig": {
            "timeout": PATIENCE_MS,
            "contextWindowSize": model.context_tokens,
            "samplingParams": {"max_tokens": model.output_tokens},
        },
    }
