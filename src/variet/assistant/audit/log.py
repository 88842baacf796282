"""What was asked for, decided and done, a line each, whose hash goes into the next: nothing is changed or taken out
unseen. No bodies, no queries: hashes stand for them.

What is cut off at the end is seen by the head, which the broker keeps apart from the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from variet import paths

_FIRST = "0" * 64
_END_BYTES = 1 << 20  # no line is longer


class AuditLog:
    """Of one writer. Each line is on disk before `add` returns."""

    def __init__(self, file: Path) -> None:
        paths.private_dir(file.parent)
        self._file = file
        self._head = _last(file)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._out = os.fdopen(descriptor, "ab", buffering=0)
        if file.stat().st_size and not _whole(file):
            self._out.write(b"\n")  # a line that was cut by a crash stays as it is, and is told by `verify`

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._head

    def knows(self, sha256: str) -> bool:
        """Whether a line of it has this hash; none is no line."""
        return sha256 in ("", self._head) or any(line.get("sha256") == sha256 for line in lines(self._file))

    def add(self, ts_ms: int, event: str, **what: Any) -> str:
        """Its hash. Raises OSError where there is no room for it, and leaves no half of it."""
        line = {"ts_ms": ts_ms, "event": event, **what, "before": self._head}
        line["sha256"] = _hash(line)
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        end = os.fstat(self._out.fileno()).st_size
        try:
            if self._out.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))
            os.fsync(self._out.fileno())  # may be the first to find that there is no room
        except OSError:
            os.ftruncate(self._out.fileno(), end)
            raise
        self._head = line["sha256"]
        return self._head

    def close(self) -> None:
        self._out.close()


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """Oldest first; a line that cannot be read is given as `{"event": "unreadable"}`."""
    try:
        with file.open("rb") as read:
            for raw in read:
                if raw.strip():
                    yield _parsed(raw)
    except FileNotFoundError:
        return


def wrong_with(file: Path, head: str) -> list[str]:
    """What is not as it was written, in words; nothing where all holds. `head`: as the broker knows it."""
    found = []
    before = _FIRST
    for number, line in enumerate(lines(file), 1):
        if line.get("event") == "unreadable":
            found.append(f"line {number} cannot be read: it was cut or changed")
            continue
        if line.get("before") != before:
            found.append(f"before line {number}, something was taken out or put in")
        if _hash({key: value for key, value in line.items() if key != "sha256"}) != line.get("sha256"):
            found.append(f"line {number} was changed")
        before = str(line.get("sha256"))
    if head and before != head:
        found.append("the end is not the one that the broker wrote last: lines were cut off")
    return found


def _hash(line: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw, object_pairs_hook=_once)
    except ValueError:
        return {"event": "unreadable"}
    return line if isinstance(line, dict) else {"event": "unreadable"}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without a key that comes twice: one value would be read, and the other would not be hashed."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _whole(file: Path) -> bool:
    with file.open("rb") as read:
        read.seek(-1, os.SEEK_END)
        return read.read(1) == b"\n"


def _last(file: Path) -> str:
    """The hash of the last line: from the end of the file, which may be long; where that says none, from all of it."""
    try:
        with file.open("rb") as read:
            read.seek(max(0, read.seek(0, os.SEEK_END) - _END_BYTES))
            last = read.read().rstrip(b"\n").rpartition(b"\n")[2]
    except FileNotFoundError:
        return _FIRST
    if found := _parsed(last).get("sha256"):
        return str(found)
    head = _FIRST
    for line in lines(file):
        head = str(line.get("sha256", head))
    return head
