"""aider. https://aider.chat/docs/config: .aider.conf.yml of the home folder; what models hold stands in files of ours
that it names."""

from __future__ import annotations

import json

from variet.connect.catalogue import Catalogue
from variet.connect.clients.base import BACKGROUND, MAIN, PATIENCE_MS, Headless, Where
from variet.connect.wishes import File, Values, whole

_QUIET = (
    "--yes-always", "--no-git", "--no-pretty", "--no-stream", "--no-check-update", "--no-show-release-notes",
    "--no-analytics", "--no-suggest-shell-commands", "--no-detect-urls",
)  # fmt: skip


class Aider:
    name, title, program = "aider", "aider", "aider"
    only_user = "aider reads its key from your own configuration, where one for all projects stands"

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        metadata, settings = where.ours / "aider.model.metadata.json", where.ours / "aider.model.settings.yml"
        values: Values = {
            ("openai-api-base",): engine.v1,
            ("openai-api-key",): engine.token,
            ("model",): f"openai/{MAIN}",
            ("weak-model",): f"openai/{BACKGROUND}",
            ("editor-model",): f"openai/{MAIN}",
            ("timeout",): PATIENCE_MS // 1000,
            ("model-metadata-file",): str(metadata),
            ("model-settings-file",): str(settings),
            ("show-model-warnings",): False,
        }
        own = [whole(metadata, _metadata(engine)), whole(settings, _settings(engine))]
        return [*own, File(where.home / ".aider.conf.yml", "yaml", values, secret=True)]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(engine.authority)} if engine.authority is not None else {}

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return ["another tier: aider --model openai/deep-coder"]

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return Headless([*_QUIET, "--message", prompt, file])  # it never runs any by itself


def _metadata(engine: Catalogue) -> str:
    """LiteLLM's sizes: https://aider.chat/docs/config/adv-model-settings.html"""
    known = {
        f"openai/{model.name}": {
            "max_tokens": model.output_tokens,
            "max_input_tokens": model.input_tokens,
            "max_output_tokens": model.output_tokens,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        }
        for model in engine.offered
    }
    return json.dumps(known, indent=2) + "\n"


def _settings(engine: Catalogue) -> str:
    known = [
        {
            "name": f"openai/{model.name}",
            "edit_format": "diff",
            "weak_model_name": f"openai/{BACKGROUND}",
            "use_repo_map": True,
            "extra_params": {"max_tokens": model.output_tokens},
        }
        for model in engine.offered
    ]
    return json.dumps(known, indent=2) + "\n"  # JSON is YAML
