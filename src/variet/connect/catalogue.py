"""What an engine offers to a client: its address, its key, its five tiers with what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from variet.connection import Connection
from variet.errors import ConnectionFailed
from variet.tiers import TIERS

_LEAST_OUTPUT = 1024
_MOST_OUTPUT = 8192  # tokens that are kept free for an answer where the tier sets no limit
NO_KEY = "none"  # clients want one, engines on this machine's loopback do not


@dataclass(frozen=True, slots=True)
class Model:
    """A name that a request may use. `context_tokens`: what a conversation may hold, its answer included."""

    name: str
    description: str
    context_tokens: int
    output_tokens: int
    sees: bool = False

    @property
    def input_tokens(self) -> int:
        return self.context_tokens - self.output_tokens


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`authority`: the PEM file of whoever signed the engine's certificate; None for plain HTTP."""

    url: str
    key: str
    authority: Path | None
    models: Mapping[str, Model]

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    @property
    def tiers(self) -> list[Model]:
        return [self.models[name] for name in TIERS]

    @property
    def offered(self) -> list[Model]:
        """The tiers, and what stands for any of them."""
        return [*self.tiers, self.models["auto"], self.models["resident"]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.offered)

    @property
    def token(self) -> str:
        return self.key or NO_KEY

    @property
    def least_context_tokens(self) -> int:
        """For clients that know one size for all models."""
        return min(model.context_tokens for model in self.tiers)

    @property
    def least_output_tokens(self) -> int:
        return min(model.output_tokens for model in self.tiers)


def catalogue(connection: Connection, listed: Mapping[str, Any]) -> Catalogue:
    """From what `/v1/models` says. A key that is valid for this run of the engine only must be in nobody's file. Raises
    ConnectionFailed where that is no engine of ours."""
    try:
        models = {entry["id"]: _model(entry) for entry in listed["data"]}
        lacking = [name for name in (*TIERS, "auto", "resident") if name not in models]
    except (KeyError, TypeError, ValueError):
        lacking = ["its models"]
    if lacking:
        raise ConnectionFailed(f"is no Variet Engine: {', '.join(lacking)} is not there", where=connection.url)
    if "@" in urlsplit(connection.url).netloc:
        told = "Pair with the engine: variet pair URL CODE"
        raise ConnectionFailed("has a password in it, which would come into files", where="its address", next_step=told)
    authority = connection.authority if connection.url.startswith("https:") else None
    return Catalogue(connection.url, (connection.key or "") if connection.key_lasts else "", authority, models)


def _model(entry: Mapping[str, Any]) -> Model:
    context = int(entry["context_length"])
    usual = min(_MOST_OUTPUT, max(_LEAST_OUTPUT, context // 4))
    limit = int(entry.get("max_output_tokens") or usual)
    sees = "vision" in entry.get("capabilities", ())
    return Model(entry["id"], entry.get("description", ""), context, min(limit, context // 2), sees)
