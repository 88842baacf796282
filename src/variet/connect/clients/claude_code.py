"""Claude Code. https://code.claude.com/docs/en/settings and /llm-gateway: settings.json of the user, or the project's
settings.local.json, which is not committed. The key is asked for by a command, so that no file of its holds it."""

from __future__ import annotations

import shlex
import sys

from variet.connect.catalogue import Catalogue
from variet.connect.clients.base import BACKGROUND, MAIN, PATIENCE_MS, Headless, Where, node_trusts
from variet.connect.wishes import Choice, File, Values

_HARD = "deep-coder"
_NAMES = ("haiku", "sonnet", "opus")  # of its menu: they are tiers here


class ClaudeCode:
    name, title, program = "claude-code", "Claude Code", "claude"
    only_user = ""

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        folder = where.named("CLAUDE_CONFIG_DIR", where.home / ".claude")
        settings = where.project / ".claude" / "settings.local.json" if where.project else folder / "settings.json"
        env = {
            "ANTHROPIC_BASE_URL": engine.url,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": BACKGROUND,  # titles and summaries, too: never a swap
            "ANTHROPIC_DEFAULT_SONNET_MODEL": MAIN,
            "ANTHROPIC_DEFAULT_OPUS_MODEL": _HARD,
            # It knows one size for all models that are not Anthropic's; 200,000 without it.
            "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(engine.least_context_tokens),
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(engine.least_output_tokens),
            "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # else the first line of its prompt changes with each request
            "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "86400000",
            "API_TIMEOUT_MS": str(PATIENCE_MS),
            "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_MS),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            **node_trusts(engine),
        }
        values: Values = {("env", name): value for name, value in env.items()}
        asks: Values = {
            ("model",): Choice(MAIN, _NAMES + engine.names),
            ("apiKeyHelper",): key_command(engine, windows=where.windows),
        }
        state = (folder if where.env.get("CLAUDE_CONFIG_DIR") else where.home) / ".claude.json"
        return [
            File(settings, "json", {**values, **asks}),
            File(state, "json", {("hasCompletedOnboarding",): True}),  # else it asks for an account first
        ]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return node_trusts(engine)

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        told = [
            f"{name} is set here, and wins over the key of this engine: unset it where you start Claude Code"
            for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY") if where.env.get(name)
        ]  # fmt: skip
        least = engine.least_context_tokens
        if least >= 48_000:
            return told
        return [
            *told,
            f"its own prompt takes about 18,000 tokens, and it keeps 33,000 free; your smallest tier holds {least:,}: "
            "give the tiers you use 65,536 (context_tokens), or start it with --bare",
        ]

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return headless(prompt, commands=commands)


def headless(prompt: str, *, commands: bool) -> Headless:
    tools = ["Read", "Edit", "Write", *(["Bash"] if commands else [])]
    return Headless(["-p", prompt, "--output-format", "stream-json", "--verbose", "--allowedTools", ",".join(tools)])


def key_command(engine: Catalogue, *, windows: bool) -> str:
    """Prints the key; for a shell."""
    words = [*key_words(engine)]
    return " ".join(f'"{one}"' for one in words) if windows else shlex.join(words)


def key_words(engine: Catalogue) -> tuple[str, ...]:
    # -P: nothing of the folder it is run in.
    return (sys.executable, "-P", "-m", "variet", "connect", "--key-of", engine.url)
