"""Where model files come from; one module a kind of source."""

from __future__ import annotations

from variet.engine.sources.base import Source
from variet.engine.sources.hf import HfSource
from variet.engine.sources.https import HttpsSource
from variet.engine.sources.pypi import PypiSource


def source_for(source: str) -> Source | None:
    """The fetcher for a source, or None for a `path:`, which is used where it lies."""
    kind = source.partition(":")[0]
    kinds: dict[str, type[Source]] = {
        "hf": HfSource,
        "https": HttpsSource,
        "http": HttpsSource,
        "pypi": PypiSource,
    }
    return kinds[kind]() if kind in kinds else None
