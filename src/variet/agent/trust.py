"""Which folders a person trusts: only there the project's own instructions count. Kept in the user's state."""

from __future__ import annotations

import json
from pathlib import Path

from variet import paths


def trusted(folder: Path) -> bool:
    """Whether this folder, or one above it, was trusted."""
    known = _read()
    return any(str(one) in known for one in (folder, *folder.parents))


def trust(folder: Path) -> None:
    paths.private_dir(paths.state_dir())
    paths.write_whole(_file(), json.dumps(sorted({*_read(), str(folder)}), indent=1), 0o600)


def _file() -> Path:
    return paths.state_dir() / "trusted_folders.json"


def _read() -> set[str]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {one for one in known if isinstance(one, str)} if isinstance(known, list) else set()
