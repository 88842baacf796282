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
from variet.connect.wishes import Choice, File, Values, whole

# `resident` would answer each turn of a helper by whatever is loaded then: one conversation, several models.
_HELPERS = {"haiku": "fast", "sonnet": MAIN, "opus": "deep-coder"}
# Measured: its first prompt by version, and the context from which on it does not compact after every tool round.
_FIRST_PROMPTS = {"0.1.8": 20_300, "0.29.1": 12_850}
_ROOM_TOKENS = 48_000
_TOOLS = "Read, Edit, Write, Bash, Grep, Glob"  # all of them cost 10,000 tokens before the first word
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
            # Not OPENAI_MODEL: it beats a choice by /model and --model. Where that is missing, these are its defaults.
            **{f"ANTHROPIC_DEFAULT_{alias.upper()}_MODEL": tier for alias, tier in _HELPERS.items()},
            "ANTHROPIC_SMALL_FAST_MODEL": BACKGROUND,
            "CLAUDE_CODE_OPENAI_CONTEXT_WINDOWS": _by_name({one.name: one.context_tokens for one in engine.offered}),
            "CLAUDE_CODE_OPENAI_MAX_OUTPUT_TOKENS": _by_name({one.name: one.output_tokens for one in engine.offered}),
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(engine.least_output_tokens),
            "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
            "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(_context(engine)),
            # 0.1.8 looks for helpers by a ripgrep that it does not bring: it found none of these.
            "CLAUDE_CODE_USE_NATIVE_FILE_SEARCH": "1",
            "API_TIMEOUT_MS": str(PATIENCE_MS),
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_MS),
            **node_trusts(engine),
        }
        values: Values = {("env", name): value for name, value in env.items()}
        values["model",] = Choice(MAIN, (*_HELPERS, *engine.names))
        host = urlsplit(engine.url).netloc
        for model in engine.offered:
            values["modelLimits", f"{host}:{model.name}", "contextWindow"] = model.context_tokens
            values["modelLimits", f"{host}:{model.name}", "maxOutputTokens"] = model.output_tokens
        # Value by value: a version that writes its settings anew leaves out fields that it does not know, and what was
        # one object could then not be told to be ours. The keys have to go with the rest.
        routes = {**{model.name: model.name for model in engine.offered}, **_HELPERS}
        for name, tier in routes.items():
            for field, value in _route(engine, tier).items():
                values["agentModels", name, field] = value
        for agent, tier in {**_ROUTES, **{tier.name: tier.name for tier in engine.tiers}}.items():
            values["agentRouting", agent] = tier
        agents = [whole(folder / "agents" / f"{one.name}.md", _agent(one.name)) for one in engine.tiers]
        return [File(folder / "settings.json", "json", values, secret=True), *agents]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return {}  # all of it stands in its settings

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        told = []
        context = _context(engine)
        too_long = {version: tokens for version, tokens in _FIRST_PROMPTS.items() if tokens >= context}
        if too_long:
            sizes = " and ".join(f"{tokens:,} ({version})" for version, tokens in too_long.items())
            told.append(
                f"its first prompt does not fit: it has {sizes} tokens, {MAIN} has {context:,}. Give the model of "
                f"{MAIN} a context of {_ROOM_TOKENS:,} ($.models.NAME.context_tokens), or start it with --bare "
                "(4,000 tokens)"
            )
        elif context < _ROOM_TOKENS:
            told.append(
                f"{MAIN} has a context of {context:,} tokens: it will be compacted after every few steps. From "
                f"{_ROOM_TOKENS:,} on ($.models.NAME.context_tokens) there is room to work"
            )
        if where.env.get("CLAUDE_CONFIG_DIR"):
            told.append("version 0.1.8 reads CLAUDE_CONFIG_DIR, which is set: unset it, and ~/.openclaude counts")
        return told

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return headless(prompt, commands=commands)


def _context(engine: Catalogue) -> int:
    """Of the main model, in tokens."""
    return next((one.context_tokens for one in engine.offered if one.name == MAIN), 0)


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
tools: {_TOOLS}
---

Do the task you are given, and nothing else. Look at the files it names before you change anything; keep to the style
that is there. At the end say in a few sentences what you did, what you found, and what is left.
"""
