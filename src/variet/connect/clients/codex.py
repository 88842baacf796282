"""Codex. https://developers.openai.com/codex/config: config.toml of the user alone; what a project says of providers is
ignored there."""

from __future__ import annotations

from typing import Any

from variet.connect.catalogue import Catalogue
from variet.connect.clients.base import MAIN, PATIENCE_MS, Headless, Where
from variet.connect.clients.claude_code import key_words
from variet.connect.wishes import Choice, File, Values

_PROVIDER = "variet"


class Codex:
    name, title, program = "codex", "Codex", "codex"
    only_user = "Codex takes providers from your own configuration alone"

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        command, *words = key_words(engine)
        provider: dict[str, Any] = {
            "name": "Variet",
            "base_url": engine.v1,
            "wire_api": "responses",
            "stream_idle_timeout_ms": PATIENCE_MS,
            **({"auth": {"command": command, "args": words}} if engine.key else {}),
        }
        main = engine.models[MAIN]
        values: Values = {
            ("model",): Choice(MAIN, engine.names),
            ("model_provider",): _PROVIDER,
            ("model_context_window",): main.context_tokens,
            ("model_auto_compact_token_limit",): main.input_tokens * 9 // 10,
            **{("model_providers", _PROVIDER, name): value for name, value in provider.items()},
        }
        return [File(where.named("CODEX_HOME", where.home / ".codex") / "config.toml", "toml", values)]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return {"CODEX_CA_CERTIFICATE": str(engine.authority)} if engine.authority is not None else {}

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return ["another tier: codex -m deep-coder", "it says that it has no metadata for the model: that is harmless"]

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        # Commands are how it looks and edits: in a sandbox of its own, without a network.
        return Headless(["exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", prompt])
