"""Zed, by the Agent Client Protocol: it starts Variet's own agent. https://zed.dev/docs/ai/external-agents"""

from __future__ import annotations

import sys
from pathlib import Path

from variet.connect.catalogue import Catalogue
from variet.connect.clients.base import Headless, Where
from variet.connect.wishes import File


class Zed:
    name, title, program = "zed", "Zed", "zed"
    only_user = "Zed takes agents from your own settings alone"

    def files(self, engine: Catalogue, where: Where) -> list[File]:
        agent = {"type": "custom", "command": sys.executable, "args": ["-P", "-m", "variet", "acp"]}
        return [File(_settings(where), "json", {("agent_servers", "Variet"): agent})]

    def environment(self, engine: Catalogue, where: Where) -> dict[str, str]:
        return {}

    def notes(self, engine: Catalogue, where: Where) -> list[str]:
        return ["open its agent panel, and start a Variet thread"]

    def headless(self, prompt: str, file: str, *, commands: bool) -> Headless | None:
        return None


def _settings(where: Where) -> Path:
    if where.windows:
        return where.named("APPDATA", where.home / "AppData" / "Roaming") / "Zed" / "settings.json"
    mac = sys.platform == "darwin"
    return (where.home / ".config" if mac else where.xdg_config()) / "zed" / "settings.json"
