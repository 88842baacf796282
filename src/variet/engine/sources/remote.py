"""Headers of files that are not here yet, read from a hub or web server by HTTP range: a plan needs no download.

A header that was read is kept in the cache, a few megabytes a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from variet import paths
from variet.engine import gguf_facts
from variet.engine.config import FileSpec, ModelConfig
from variet.engine.facts import Facts
from variet.engine.gguf_facts import Header
from variet.engine.sources.hf import split
from variet.errors import PullFailed

_CHUNK = 4 << 20
_LIMIT = 256 << 20  # no header is that long; a server that never ends is cut here
_TIMEOUT_S = 30.0


def remote_facts(config: ModelConfig, *, kept_only: bool = False) -> Facts | None:
    """Facts of a model from its sources, or None for sources without ranges (wheels, paths).

    `kept_only`: ask nobody, None for what was not read before.
    Raises PullFailed (not to be had) and ModelFileError (no GGUF).
    """
    if not all(spec.source.startswith(("hf:", "http:", "https:")) for spec in config.files.model):
        return None
    if kept_only and not all(_kept(_address(spec)[0]).is_file() for spec in config.files.model):
        return None
    return gguf_facts.facts_of([_header(spec) for spec in config.files.model])


def _header(spec: FileSpec) -> Header:
    url, headers = _address(spec)
    kept = _kept(url)
    if kept.is_file():
        with kept.open("rb") as stream:
            return gguf_facts.read_header(stream, spec.source)
    with httpx.Client(headers=headers, follow_redirects=True, timeout=_TIMEOUT_S) as client:
        stream_of = _RangeStream(client, url, spec.source)
        header = gguf_facts.read_header(stream_of, spec.source)
    paths.write_whole(kept, bytes(stream_of.taken[: header.data_start]))
    return header


def _kept(url: str) -> Path:
    return paths.cache_dir() / "headers" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.bin"


def _address(spec: FileSpec) -> tuple[str, dict[str, str]]:
    if not spec.source.startswith("hf:"):
        return spec.source, {}
    import huggingface_hub  # heavy: only a plan of files from the hub needs it

    repo, file, revision = split(spec.source)
    url = huggingface_hub.hf_hub_url(repo, file, revision=revision)
    return url, huggingface_hub.utils.build_hf_headers()  # type: ignore[attr-defined]


class _RangeStream:
    """read() over HTTP ranges, in chunks."""

    def __init__(self, client: httpx.Client, url: str, where: str) -> None:
        self.taken = bytearray()
        self._client, self._url, self._where = client, url, where
        self._position = 0

    def read(self, size: int, /) -> bytes:
        end = self._position + size
        if end > _LIMIT:
            raise PullFailed("its header does not end", where=self._where, next_step="Use another file")
        while len(self.taken) < end and self._fetch():
            pass
        data = bytes(self.taken[self._position : end])
        self._position += len(data)
        return data

    def _fetch(self) -> bool:
        """One more chunk; False at the end of the file."""
        start = len(self.taken)
        try:
            with self._client.stream(
                "GET", self._url, headers={"Range": f"bytes={start}-{start + _CHUNK - 1}"}
            ) as answer:
                if answer.status_code == 416:
                    return False
                if answer.status_code != 206:
                    words = "it serves no ranges" if answer.status_code == 200 else f"it answered {answer.status_code}"
                    raise PullFailed(
                        f"the header could not be read: {words}", where=self._where, next_step="Pull it first"
                    )
                self.taken += answer.read()
        except httpx.TransportError as error:
            raise PullFailed(
                f"the header could not be read: {error}", where=self._where, next_step="Check the network"
            ) from None
        return len(self.taken) > start
