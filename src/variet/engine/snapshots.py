"""KV states of conversations on disk: written by children, indexed here, checked before use, forgotten by a budget.

A snapshot is `ID.kv`, which a child wrote, and `ID.json` beside it, which says what it is and seals it: without its
seal a file is nobody's and goes at the next start. One folder a model, mode 0700, since it holds what people said.
`checksum`, `has_checkpoints` and `is_whole` read whole files: call them from a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from variet import paths
from variet.engine.conversation import Chain

log = logging.getLogger("variet.engine.snapshots")
_READ_BYTES = 8 << 20
# What llama.cpp from b11506 on writes behind a state (tools/server, pull request 26004): name, version 1.
_CHECKPOINTS = b"SCKP\x01\0\0\0"
_INDIFFERENT = frozenset({
    "--alias", "--slot-save-path", "--batch-size", "--ubatch-size", "--n-gpu-layers", "--split-mode",
    "--tensor-split", "--n-cpu-moe", "--device", "--threads", "--threads-batch", "--ctx-checkpoints",
    "--cache-ram", "--sse-ping-interval",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`key`: for which file, flags and build its bytes are valid. `used_at`: Unix seconds."""

    id: str
    model: str
    key: str
    chain: Chain
    tokens: int
    size: int
    checksum: str
    made_at: float
    used_at: float


class Snapshots:
    """All snapshots below one folder."""

    def __init__(self, folder: Path, most_bytes: int, free_bytes: int) -> None:
        self.folder = folder
        self.most_bytes, self.free_bytes = most_bytes, free_bytes
        self._all: dict[str, Snapshot] = {}
        self._by_link: dict[tuple[str, str], list[str]] = {}  # (key, digest) -> ids whose chain goes through it
        self._load()

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(list(self._all.values()))

    @property
    def size(self) -> int:
        return sum(one.size for one in self._all.values())

    def place(self, model: str) -> Path:
        """The folder that a child of this model writes into."""
        return paths.private_dir(self.folder / model)

    def path(self, one: Snapshot) -> Path:
        return self.folder / one.model / f"{one.id}.kv"

    # --- finding ---

    def find(self, key: str, chain: Chain, *, whole: bool = False) -> tuple[Snapshot, int] | None:
        """The snapshot that shares the longest beginning with a conversation, and how many links that is. `whole`: only
        one of which everything is in that beginning."""
        for links in range(len(chain.digests), 0, -1):
            ids = self._by_link.get((key, chain.digests[links - 1]), ())
            fitting = [self._all[one] for one in ids if not whole or len(self._all[one].chain.digests) == links]
            if fitting:
                return max(fitting, key=lambda one: one.tokens * one.chain.share(links)), links
        return None

    def touch(self, one: Snapshot) -> None:
        """It was of use now."""
        if one.id in self._all:
            self._all[one.id] = replace(self._all[one.id], used_at=time.time())
            if self._all[one.id].checksum:
                with contextlib.suppress(OSError):
                    self._write_seal(self._all[one.id])

    # --- making ---

    def new_id(self) -> str:
        return secrets.token_hex(8)

    def room_for(self, size: int) -> bool:
        """Whether the disk may take so much more; the longest unused snapshots go for it."""
        if size > self.most_bytes:
            return False
        self._shrink(self.most_bytes - size)
        free = shutil.disk_usage(self.folder).free
        while free - size < self.free_bytes and self._all:
            self._shrink(self.size - 1)
            free = shutil.disk_usage(self.folder).free
        return free - size >= self.free_bytes

    def add(self, snapshot_id: str, model: str, key: str, chain: Chain, tokens: int) -> Snapshot:
        """Take in what a child just wrote under that id; shorter states of the same conversation are forgotten.

        It can be found at once, and outlives this process once `seal` was called. Raises OSError.
        """
        path = self.folder / model / f"{snapshot_id}.kv"
        path.chmod(0o600)
        now = time.time()
        one = Snapshot(snapshot_id, model, key, chain, tokens, path.stat().st_size, "", now, now)
        for older in list(self._all.values()):
            if older.key == key and older.chain.common(chain) == len(older.chain.digests):
                self.forget(older)
        self._index(one)
        self._shrink(self.most_bytes)
        return one

    def checksum(self, one: Snapshot) -> str:
        """Of its file as it is now; reads all of it. Raises OSError."""
        return _checksum(self.path(one))

    def has_checkpoints(self, one: Snapshot) -> bool:
        """Whether the child saved context checkpoints with the state; reads all of it. Raises OSError."""
        with self.path(one).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.rfind(_CHECKPOINTS) >= 0

    def seal(self, one: Snapshot, checksum: str) -> None:
        """Write down what it is. Raises OSError."""
        if one.id in self._all:
            sealed = replace(self._all[one.id], checksum=checksum)
            self._all[one.id] = sealed
            self._write_seal(sealed)

    def is_whole(self, one: Snapshot) -> bool:
        """Whether its file is what was written; reads all of it, unless it was written just now."""
        try:
            whole = self.path(one).stat().st_size == one.size
            return whole and (not one.checksum or _checksum(self.path(one)) == one.checksum)
        except OSError:
            return False

    # --- forgetting ---

    def forget(self, one: Snapshot) -> None:
        known = self._all.pop(one.id, None)
        if known is None:
            return
        for digest in known.chain.digests:
            ids = self._by_link.get((known.key, digest), [])
            if known.id in ids:
                ids.remove(known.id)
            if not ids:
                self._by_link.pop((known.key, digest), None)
        self.discard(known.model, known.id)

    def discard(self, model: str, snapshot_id: str) -> None:
        """Remove what there is of an id, whole or not."""
        for ending in (".json", ".kv"):  # the seal first: what is left of it then is nobody's
            with contextlib.suppress(OSError):
                (self.folder / model / f"{snapshot_id}{ending}").unlink(missing_ok=True)

    def _shrink(self, most: int) -> None:
        for one in sorted(self._all.values(), key=lambda one: one.used_at):
            if self.size <= most:
                return
            log.info("the snapshot %s of %s goes: the disk budget is spent", one.id, one.model)
            self.forget(one)

    # --- the index ---

    def _index(self, one: Snapshot) -> None:
        self._all[one.id] = one
        for digest in one.chain.digests:
            self._by_link.setdefault((one.key, digest), []).append(one.id)

    def _write_seal(self, one: Snapshot) -> None:
        paths.write_whole(self.path(one).with_suffix(".json"), json.dumps(asdict(one)), mode=0o600)

    def _load(self) -> None:
        paths.private_dir(self.folder)
        for seal in sorted(self.folder.glob("*/*.json")):
            try:
                one = _snapshot(json.loads(seal.read_text(encoding="utf-8")))
                if self.path(one).with_suffix(".json") != seal or self.path(one).stat().st_size != one.size:
                    raise ValueError("it does not belong to its file")
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning("%s is no snapshot that can be used: %s", seal, error)
                seal.unlink(missing_ok=True)
                continue
            self._index(one)
        for file in self.folder.glob("*/*"):
            if file.stem not in self._all and file.is_file():
                file.unlink(missing_ok=True)  # a save that was cut


def validity(build: str, args: Sequence[str], env: Mapping[str, str], files: Iterable[Path]) -> str:
    """For what a KV state is valid: this build of llama.cpp, these very files, and whatever shapes what it computes.

    How layers lie on devices does not: llama-server itself refuses a state whose layout differs. The context's size
    does, since some models take other rope factors for a long one.
    """
    digest = hashlib.sha256(build.encode())
    for name in sorted(env):
        if name.startswith("LLAMA_"):
            digest.update(f"\0{name}={env[name]}".encode())
    rest = iter(args)
    for arg in rest:
        if arg in _INDIFFERENT:
            next(rest, None)
        else:
            digest.update(b"\0" + arg.encode())
    for file in files:
        status = file.stat()
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _snapshot(stored: dict[str, Any]) -> Snapshot:
    chain = stored.pop("chain")
    return Snapshot(**stored, chain=Chain(tuple(chain["digests"]), tuple(chain["sizes"])))


def _checksum(path: Path) -> str:
    """XXH3, which reads as fast as memory does: it finds what a disk broke, nothing more."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
