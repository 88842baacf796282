"""Keys of clients that reach the servers of tools over HTTP: shown once, kept as hashes. A key says whose a call is."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from variet import paths
from variet.assistant.problems import ToolProblem
from variet.visible import one_line

OURS = "variet"  # the agent's own name


class Keys:
    """In one file, read anew each time: who is removed is out at once. Methods raise ToolProblem."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.state_dir() / "mcp_keys.json"

    def add(self, name: str) -> str:
        """A new key for a client of this name; an old one no longer counts."""
        if not name or name != one_line(name, 60) or name == OURS:
            raise ToolProblem("bad_request", f"{name!r} is no name for a client", "Call it as cursor, or chat-app")
        secret = secrets.token_urlsafe(32)
        self._write({**self._read(), name: _digest(secret)})
        return secret

    def drop(self, name: str) -> bool:
        held = self._read()
        if held.pop(name, None) is None:
            return False
        self._write(held)
        return True

    def names(self) -> list[str]:
        return sorted(self._read())

    def client_of(self, secret: str) -> str:
        """Whose key it is; empty for nobody's."""
        digest = _digest(secret)
        return next((name for name, one in self._read().items() if secrets.compare_digest(one, digest)), "")

    def _read(self) -> dict[str, str]:
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ToolProblem(
                "unavailable", f"{self._path} cannot be read: {error}", "Remove it, and add keys"
            ) from None
        return {str(name): str(one) for name, one in held.items()} if isinstance(held, dict) else {}

    def _write(self, held: dict[str, str]) -> None:
        paths.private_dir(self._path.parent)
        paths.write_whole(self._path, json.dumps(held, indent=1), 0o600)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
