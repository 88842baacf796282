"""Configuration files by their kind."""

from __future__ import annotations

from variet.connect.documents.base import ABSENT, Document, DocumentProblem, Place, Spot

__all__ = ["ABSENT", "Document", "DocumentProblem", "Place", "Spot", "document"]


def document(kind: str, text: str) -> Document:
    """`kind`: json, toml, yaml or env. Raises DocumentProblem."""
    if kind == "json":
        from variet.connect.documents.jsonc import JsonDocument

        return JsonDocument(text)
    if kind == "env":
        from variet.connect.documents.env import EnvDocument

        return EnvDocument(text)
    from variet.connect.documents.tables import TomlDocument, YamlDocument

    return TomlDocument(text) if kind == "toml" else YamlDocument(text)
