"""Sessions on disk: a folder each, its log one event a line, written as it happens; nobody writes a line twice.

STATE/sessions/ID/log.jsonl: a header, the prefix, then events without deltas. A torn last line is cut off when a
session is taken up again. One writer holds the lock; it goes with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ValidationError

from variet import paths
from variet.agent.events import EVENTS, VERSION, CallPart, EventBase, MessageDone, ToolEnded, TurnEnded, TurnStarted
from variet.errors import SessionError


class Header(BaseModel):
    """`profile`: the name of how its model is spoken to; `format`, `tier`: frozen with the session."""

    v: int = VERSION
    id: str
    cwd: str
    profile: str
    tier: str
    created_ms: int


class Stored(BaseModel):
    """What every request of the session begins with."""

    model: str
    system: str
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as lists show it. `title`: the first words of the person."""

    header: Header
    title: str
    turns: int
    changed_ms: int


class Session:
    """An open log. Raises SessionError where somebody else holds it."""

    def __init__(self, folder: Path, header: Header, stored: Stored, events: list[EventBase], file: IO[bytes]) -> None:
        self.folder = folder
        self.header = header
        self.stored = stored
        self.events = events
        self._file = file
        self.next_seq = max((event.seq for event in events), default=0) + 1

    def append(self, event: EventBase) -> None:
        """Handed to the operating system before it returns: a kill of this process loses nothing."""
        self.events.append(event)
        begin = self._file.seek(0, os.SEEK_END)
        try:
            _write(self._file, event.model_dump_json().encode() + b"\n")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(begin)  # half a line would be taken for damage
            raise SessionError(
                f"cannot be written: {error.strerror}", where=str(self.folder), next_step="Make room on the disk"
            ) from None

    def close(self) -> None:
        self._file.close()


def root() -> Path:
    return paths.state_dir() / "sessions"


def create(cwd: Path, profile: str, tier: str, stored: Stored) -> Session:
    now_ms = time.time_ns() // 1_000_000
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_ms / 1000))}-{secrets.token_hex(3)}"
    paths.private_dir(paths.state_dir())
    folder = paths.private_dir(paths.private_dir(root()) / name)
    header = Header(id=name, cwd=str(cwd), profile=profile, tier=tier, created_ms=now_ms)
    file = _held(folder / "log.jsonl", name)
    for kind, record in (("header", header), ("prefix", stored)):
        _write(file, json.dumps({"type": kind, **record.model_dump()}, ensure_ascii=False).encode() + b"\n")
    return Session(folder, header, stored, [], file)


def resume(name: str) -> Session:
    """Take a session up again: a torn end is cut off, calls without an end are told as interrupted, never run again."""
    folder = find(name)
    path = folder / "log.jsonl"
    file = _held(path, folder.name)
    try:
        header, stored, events, whole = _load(path)
        if whole < path.stat().st_size:
            file.truncate(whole)
        session = Session(folder, header, stored, events, file)
        _mend(session)
    except BaseException:
        file.close()
        raise
    return session


def find(name: str) -> Path:
    """A session's folder by its id or the beginning of it. Raises SessionError."""
    names = sorted(one.name for one in root().iterdir() if (one / "log.jsonl").is_file()) if root().is_dir() else []
    hits = [one for one in names if one == name] or [one for one in names if name and one.startswith(name)]
    if len(hits) != 1:
        what = f"{len(hits)} sessions begin with {name!r}" if hits else f"there is no session {name!r}"
        raise SessionError(what, next_step="`variet sessions` lists them")
    return root() / hits[0]


def latest(cwd: Path) -> str | None:
    """The id of the last session of this folder."""
    return next((one.header.id for one in listed() if one.header.cwd == str(cwd)), None)


def listed() -> list[Listed]:
    """All that can be read, newest first."""
    found = []
    for folder in root().iterdir() if root().is_dir() else ():
        path = folder / "log.jsonl"
        with contextlib.suppress(OSError, SessionError):
            header, _, events, _ = _load(path)
            turns = [event for event in events if isinstance(event, TurnStarted)]
            title = " ".join(turns[0].input.split())[:80] if turns else ""
            found.append(Listed(header, title, len(turns), int(path.stat().st_mtime * 1000)))
    return sorted(found, key=lambda one: -one.changed_ms)


def read(name: str) -> tuple[Header, Stored, list[EventBase]]:
    """A session for reading alone, also while somebody writes it."""
    header, stored, events, _ = _load(find(name) / "log.jsonl")
    return header, stored, events


def _load(path: Path) -> tuple[Header, Stored, list[EventBase], int]:
    """(header, prefix, events, how many bytes are whole)."""
    header: Header | None = None
    stored: Stored | None = None
    events: list[EventBase] = []
    whole = 0
    for raw in _lines(path.read_bytes()):
        try:
            line = json.loads(raw)
            kind = line.pop("type")
            if kind == "header":
                header = Header.model_validate(line)
            elif kind == "prefix":
                stored = Stored.model_validate(line)
            else:
                events.append(EVENTS.validate_python({"type": kind, **line}))
        except ValidationError as error:
            if "union_tag_invalid" not in str(error):  # of a newer version: passed over
                raise SessionError(f"line {len(events) + 3} is damaged", where=str(path)) from None
        except (ValueError, KeyError, AttributeError):
            raise SessionError(f"line {len(events) + 3} is damaged", where=str(path)) from None
        whole += len(raw) + 1
    if header is None or stored is None:
        raise SessionError("its beginning is damaged", where=str(path), next_step="It cannot be taken up again")
    return header, stored, events, whole


def _lines(data: bytes) -> Iterator[bytes]:
    """Whole lines; what follows the last line end was torn."""
    yield from data.split(b"\n")[:-1]


def _mend(session: Session) -> None:
    calls: list[CallPart] = []
    last: EventBase | None = None
    for event in session.events:
        if isinstance(event, MessageDone):
            calls = [part for part in event.content if isinstance(part, CallPart)]
        elif isinstance(event, ToolEnded):
            calls = [call for call in calls if call.call_id != event.call_id]
        elif isinstance(event, TurnEnded):
            calls = []
        last = event
    if last is None or isinstance(last, TurnEnded):
        return
    envelope = {"session_id": session.header.id, "turn_id": last.turn_id, "ts_ms": time.time_ns() // 1_000_000}
    lost = "This was interrupted: Variet was ended meanwhile. It may have happened in part; look before you repeat it."
    ends: list[EventBase] = [
        ToolEnded(**envelope, call_id=call.call_id, status="interrupted", content=lost) for call in calls
    ]
    for event in (*ends, TurnEnded(**envelope, reason="cancelled", detail="crash")):
        session.append(event.model_copy(update={"seq": session.next_seq}))
        session.next_seq += 1


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: an unbuffered file may take a part. Raises OSError."""
    while data:
        data = data[file.write(data) :]


def _held(path: Path, name: str) -> IO[bytes]:
    """The log, open at its end, locked. Raises SessionError where another process writes it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SessionError(f"session {name} is in use by another process", next_step="End that one first") from None
    return file
