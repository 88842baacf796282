"""A file to be pulled, and a pull of it."""

from __future__ import annotations

from pathlib import Path

from variet.engine.config import FileSpec
from variet.engine.sources import base, source_for

CONTENT = b"GGUF" + bytes(range(256)) * 4096


async def fetch(spec: FileSpec, path: Path) -> list[int]:
    """How many bytes there were at each word of progress."""
    seen: list[int] = []
    await base.ensure(spec, path, source_for(spec.source), lambda so_far, _total: seen.append(so_far))
    return seen
