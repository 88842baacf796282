"""What a person entered in an editor, as words for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlparse


def words_of(blocks: Sequence[Any]) -> tuple[str, str]:
    """(the person's words, files that the editor sent along). Links stay names: the agent reads them itself."""
    words: list[str] = []
    attached: list[str] = []
    for block in blocks:
        if block.type == "text":
            words.append(block.text)
        elif block.type == "resource_link":
            words.append(f"@{_path_of(block.uri)}")
        elif block.type == "resource" and getattr(block.resource, "text", None) is not None:
            name = _path_of(block.resource.uri)
            words.append(f"@{name}")
            attached.append(f"{name}, as the editor shows it:\n```\n{block.resource.text}\n```")
        else:
            words.append(f"({block.type}, which cannot be read here)")
    return "".join(words), "\n\n".join(attached)


def _path_of(uri: str) -> str:
    parsed = urlparse(uri)
    return unquote(parsed.path) if parsed.scheme == "file" else uri
