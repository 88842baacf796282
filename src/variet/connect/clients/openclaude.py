"""OpenClaude: brought by its user, never shipped or fetched by this project. Its routing of agents to models is written
in a form that 0.1.8 and 0.29 both take.

0.1.8 wants address and key beside each model, and sends the key of `agentModels` as the model's name; 0.29 lets a
helper that asks for haiku, sonnet or opus leave the routing, unless those are models, too.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from variet.connect.catalogue import Catalogue
from variet.connect.clients.base import BACKGROUND, MAIN, PATIENCE_MS, Headless, Where, node_trusts
from variet.connect.clients.claude_code import headless
from variet.connect.wishes import File, Values, whole

_HELPERS = {"haiku": BACKGROUND, "sonnet": MAIN, "opus": "deep-coder"}
_ROUTES = {
    "Explore": "fast", "Plan": "deep-logic", "general-purpose": MAIN, "statusline-setup": BACKGROUND, "default": MAIN,
}  # fmt: skip
_WHEN = {
    "fast": "Quick questions about the code, finding things, summaries.",
    "balanced": "Everyday changes in a few files.",
    "deep-coder": "Hard changes in code: many files, careful refactoring, difficult bugs.",
    "deep-logic": "Planning, algorithms, and proofs; finding out why.",
    "ultra": "What has to be right and may take long.",
}


class OpenClaude:
    name, title, program = "openclaude", "OpenClaude", "openclaude"
    only_user = "OpenClaude takes models and keys from your own settings alone"

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        folder = where.named("OPENCLAUDE_CONFIG_DIR", where.home / ".openclaude")
        env = {
            "CLAUDE_CODE_USE_OPENAI": "1",
            "OPENAI_BASE_URL": engine.v1,
            "OPENAI_API_KEY": engine.token,
            "OPENAI_MODEL": MAIN,
            "ANTHROPIC_SMALL_FAST_MODEL": BACKGROUND,
            "CLAUDE_CODE_OPENAI_CONTEXT_WINDOWS": _by_name({one.name: one.context_tokens for one in engine.offered}),
            "CLAUDE_CODE_OPENAI_MAX_OUTPUT_TOKENS": _by_name({one.name: one.output_tokens for one in engine.offered}),
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(engine.least_output_tokens),
            "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
            "API_TIMEOUT_MS": str(PATIENCE_MS),
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_MS),
            **node_trusts(engine),
        }
        values: Values = {("env", name): value for name, value in env.items()}
        host = urlsplit(engine.url).netloc
        for model in engine.offered:
            limits = {"contextWindow": model.context_tokens, "maxOutputTokens": model.output_tokens}
            values["modelLimits", f"{host}:{model.name}"] = limits
            values["agentModels", model.name] = _route(engine, model.name)
        for helper, tier in _HELPERS.items():
            values["agentModels", helper] = _route(engine, tier)
        for agent, tier in {**_ROUTES, **{tier.name: tier.name for tier in engine.tiers}}.items():
            values["agentRouting", agent] = tier
        agents = [whole(folder / "agents" / f"{one.name}.md", _agent(one.name)) for one in engine.tiers]
        return [File(folder / "settings.json", "json", values, secret=True), *agents]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return node_trusts(engine)

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        told = []
        if where.env.get("CLAUDE_CONFIG_DIR"):
            told.append("version 0.1.8 reads CLAUDE_CONFIG_DIR, which is set: unset it, and ~/.openclaude counts")
        saved = where.named("OPENCLAUDE_CONFIG_DIR", where.home / ".openclaude") / ".openclaude-profile.json"
        if saved.exists():
            told.append(f"a provider that was saved there may win over these settings: {saved}")
        return told

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return headless(prompt, commands=commands)


def _route(engine: Catalogue, tier: str) -> dict[str, str]:
    return {"base_url": engine.v1, "api_key": engine.token, "model": tier}


def _by_name(sizes: dict[str, int]) -> str:
    return json.dumps(sizes, separators=(",", ":"))


def _agent(tier: str) -> str:
    """A helper for a tier: the larger model chooses it by its description."""
    return f"""\
---
name: {tier}
description: {_WHEN[tier]}
---

Do the task you are given, and nothing else. Look at the files it names before you change anything; keep to the style
that is there. At the end say in a few sentences what you did, what you found, and what is left.
"""
