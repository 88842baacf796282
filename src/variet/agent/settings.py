"""What a person set for the agent, in `agent.json` in Variet's configuration folder; and the servers of a project.

A project's `.mcp.json` has the shape that other clients read, too. It counts only where the folder is trusted, and no
tool of it is allowed beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from variet import paths, settings_file

Role = Literal["main", "ask", "assistant", "explore", "plan", "review"]
ProfileName = Literal["native", "replayed", "preserved", "unthinking", "blocks", "open-blocks"]  # profiles.py
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class ServerSettings(BaseModel):
    """An MCP server: a `command` that is run here, or a `url`. `always_allow`: what needs no asking, or `*`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    timeout_s: float = Field(120.0, gt=0)
    disabled: bool = False
    always_allow: tuple[str, ...] = Field((), alias="alwaysAllow")

    def filled(self, environment: Mapping[str, str]) -> ServerSettings:
        """With `${NAME}` and `${NAME:-otherwise}` replaced. Raises KeyError for a variable that is not set."""
        return ServerSettings.model_validate(_filled(self.model_dump(), environment))

    def on_path(self, environment: Mapping[str, str]) -> ServerSettings:
        """With programs found where this environment has them, unless it says another path itself."""
        if not self.command or "PATH" in self.env or "PATH" not in environment:
            return self
        return self.model_copy(update={"env": {**self.env, "PATH": environment["PATH"]}})


class Settings(BaseModel):
    """`roles`: which tier does what. `escalation`: tiers that take over, in this order, when one does not get on.
    `profiles`: how a tier or model is spoken to, where what it did when it was tried is not to decide."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    roles: dict[Role, str] = Field(default_factory=dict)
    escalation: tuple[str, ...] = ()
    profiles: dict[str, ProfileName] = Field(default_factory=dict)
    servers: dict[str, ServerSettings] = Field(default_factory=dict, alias="mcpServers")


def file() -> Path:
    return paths.config_dir() / "agent.json"


def load() -> Settings:
    """Raises ConfigError that names each mistake; no file is no mistake."""
    return settings_file.read(file(), Settings) or Settings()


def of_project(root: Path) -> dict[str, ServerSettings]:
    """The servers that a project brings. Raises ConfigError."""
    found = settings_file.read(root / ".mcp.json", _Project)
    servers = found.servers if found else {}
    return {name: one.model_copy(update={"always_allow": ()}) for name, one in servers.items()}


class _Project(BaseModel):
    model_config = ConfigDict(extra="ignore")

    servers: dict[str, ServerSettings] = Field(default_factory=dict, alias="mcpServers")


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, environment), value)
    if isinstance(value, list | tuple):
        return [_filled(one, environment) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, environment) for name, one in value.items()}
    return value


def _variable(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, otherwise = match.group(1), match.group(2)
    value = environment.get(name, otherwise)
    if value is None:
        raise KeyError(name)
    return value
