"""Model files on disk: where each belongs, whether it is whole, and fetching what is missing.

A file counts as present only when it was verified; a small `.ok` file beside it remembers that, so that a start need
not hash gigabytes. Fetches go to a `.part` file and become visible by one rename.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from variet.engine.config import FileSpec, ModelConfig
from variet.errors import ModelFileError, PullFailed
from variet.paths import write_whole

OnBytes = Callable[[int, int | None], None]  # bytes so far, bytes in all where known
_CHUNK = 16 << 20
GGUF_MAGIC = b"GGUF"


class Source(Protocol):
    """Fetches one file of one kind of source into `part`; returns the SHA-256 that its publisher names, if any.

    Raises PullFailed.
    """

    async def fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ModelPaths:
    """The files of a model on disk, in the roles of its configuration."""

    model: tuple[Path, ...]
    mmproj: Path | None
    draft: Path | None
    lora: tuple[Path, ...]

    def all(self) -> tuple[Path, ...]:
        return (*self.model, *(path for path in (self.mmproj, self.draft) if path), *self.lora)


def model_paths(name: str, config: ModelConfig, models_dir: Path) -> ModelPaths:
    """Where a model's files are or will be."""

    def place(spec: FileSpec, role: str) -> Path:
        return file_path(spec, models_dir / name, role)

    files = config.files
    return ModelPaths(
        model=tuple(place(spec, f"{name}-{index}" if index else name) for index, spec in enumerate(files.model)),
        mmproj=place(files.mmproj, "mmproj") if files.mmproj else None,
        draft=place(files.draft, "draft") if files.draft else None,
        lora=tuple(place(spec, f"lora-{index}") for index, spec in enumerate(files.lora)),
    )


def file_path(spec: FileSpec, folder: Path, fallback: str) -> Path:
    kind, _, rest = spec.source.partition(":")
    if kind == "path":
        return Path(rest).expanduser().absolute()
    if spec.name:
        return folder / Path(spec.name).name
    if kind == "pypi":
        return folder / f"{fallback}.gguf"
    last = rest.split("@")[0] if kind == "hf" else rest.split("?")[0]
    return folder / (Path(last).name or f"{fallback}.gguf")


def is_present(spec: FileSpec, path: Path) -> bool:
    """True if the file was verified in this very state before. A `path:` file without a checksum need only exist."""
    try:
        status = path.stat()
        if spec.source.startswith("path:") and spec.sha256 is None:
            return True
        mark = json.loads(_mark(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = (
        mark.get("source") == spec.source
        and mark.get("size") == status.st_size
        and mark.get("mtime_ns") == status.st_mtime_ns
    )
    return same and (spec.sha256 is None or mark.get("sha256") == spec.sha256)


async def ensure(spec: FileSpec, path: Path, source: Source | None, on_bytes: OnBytes) -> None:
    """Make `path` the verified file that `spec` names.

    Raises PullFailed (not to be had, wrong checksum, full disk) and ModelFileError (not a GGUF; a `path:` that is
    not there).
    """
    if is_present(spec, path):
        return
    if source is None:
        if not path.is_file():
            raise ModelFileError("no such file", where=str(path), next_step="Correct the path in the configuration")
        await _accept(spec, path, path, None)
        return
    part = path.with_name(f"{path.name}.part")
    if path.is_file():  # put there by hand, or by an interrupted engine: verify before fetching again
        digest = await sha256_of(path)
        if spec.sha256 is not None and digest == spec.sha256:
            _remember(spec, path, digest)
            return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        published = await source.fetch(spec, part, on_bytes)
        await _accept(spec, part, path, published)
    except OSError as error:
        raise _from_os(error, path) from None


async def _accept(spec: FileSpec, part: Path, path: Path, published: str | None) -> None:
    expected = spec.sha256 or published
    digest = await sha256_of(part)
    if expected is not None and digest != expected:
        if part != path:
            _discard(part)
        raise PullFailed(
            f"its SHA-256 is {digest}, expected {expected}",
            where=f"{path.name} from {spec.source}",
            next_step="The download was damaged or the file changed at its source: pull again, or correct sha256",
        )
    with part.open("rb") as file:
        magic = file.read(4)
    if magic != GGUF_MAGIC:
        if part != path:
            _discard(part)
        raise ModelFileError(
            f"not a GGUF file (it begins with {magic!r})", where=str(path), next_step="Name another file"
        )
    if part != path:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        part.with_name(f"{part.name}.origin").unlink(missing_ok=True)
    _remember(spec, path, digest)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(f"{part.name}.origin").unlink(missing_ok=True)


async def sha256_of(path: Path) -> str:
    """In a thread, piece by piece, so that it can be cancelled in the middle of sixty gigabytes."""
    digest = hashlib.sha256()

    def feed(file: BinaryIO) -> bool:
        chunk = file.read(_CHUNK)
        digest.update(chunk)
        return bool(chunk)

    with path.open("rb") as file:
        while await asyncio.to_thread(feed, file):
            pass
    return digest.hexdigest()


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.ok")


def _remember(spec: FileSpec, path: Path, digest: str) -> None:
    status = path.stat()
    mark = _mark(path)
    state = {"source": spec.source, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    try:
        write_whole(mark, json.dumps(state))
    except OSError as error:
        # A read-only model folder is fine: it only costs hashing again at the next start.
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def _from_os(error: OSError, path: Path) -> PullFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free >> 20
        return PullFailed(
            f"the disk is full ({free} MiB free)",
            where=str(path.parent),
            next_step="Free some space, or set VARIET_MODELS to a folder on a larger disk, then pull again",
        )
    return PullFailed(str(error), where=str(path), next_step="Check the folder's permissions and disk")
