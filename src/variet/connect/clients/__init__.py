"""The clients that can be connected, a file each."""

from __future__ import annotations

from variet.connect.clients.aider import Aider
from variet.connect.clients.base import Client, Where
from variet.connect.clients.claude_code import ClaudeCode
from variet.connect.clients.codex import Codex
from variet.connect.clients.continue_ import Continue
from variet.connect.clients.openclaude import OpenClaude
from variet.connect.clients.opencode import OpenCode
from variet.connect.clients.qwen_code import QwenCode
from variet.connect.clients.zed import Zed

__all__ = ["CLIENTS", "Client", "Where"]

_ALL: tuple[Client, ...] = (
    OpenClaude(), OpenCode(), QwenCode(), ClaudeCode(), Codex(), Aider(), Continue(), Zed(),
)  # fmt: skip
CLIENTS = {client.name: client for client in _ALL}
