"""Sessions on disk: a folder each, its log one event a line, written as it happens; nobody writes a line twice.

STATE/sessions/ID/log.jsonl: a header, the prefix, then events without deltas. A torn last line is cut off when a
session is taken up again. One writer holds the lock; it goes with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from variet import paths
from variet.agent.events import (
    BESIDE_TURNS,
    EVENTS,
    VERSION,
    ApprovalRequested,
    ApprovalResolved,
    CallPart,
    Compacted,
    EventBase,
    MessageDone,
    ModeChanged,
    PromptDropped,
    PromptQueued,
    TierChanged,
    TitleChanged,
    ToolEnded,
    TurnEnded,
    TurnStarted,
)
from variet.agent.formats.repair import sound
from variet.agent.titles import title_of
from variet.errors import SessionError
from variet.locks import try_lock
from variet.policy.action import Mode

E = TypeVar("E", bound=EventBase)

_PLACES = "places"  # beside the log: how far places of events may have been taken
_PLACES_AT_ONCE = 1_000


class Header(BaseModel):
    """`kind`: what its agent may do (`code`, `ask`, or a role); `profile`, `tier`: what it began with. `parent`: of a
    helper, the session that sent it."""

    v: int = VERSION
    id: str
    cwd: str
    profile: str
    tier: str
    created_ms: int
    kind: str = "code"
    parent: str = ""


class Stored(BaseModel):
    """What every request of the session begins with, as long as `profile` is how its model is spoken to."""

    profile: str
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

    def __init__(
        self, folder: Path, header: Header, stored: dict[str, Stored], events: list[EventBase], file: IO[bytes]
    ) -> None:
        self.folder = folder
        self.header = header
        self.stored = stored  # by profile
        self.events = events
        self._file = file
        self._places = folder / _PLACES
        self._reserved = _reserved(self._places)
        self.next_seq = max(self._reserved, max((event.seq for event in events), default=0) + 1)

    def take_seq(self) -> int:
        """The next place. None is taken twice, also where a crash ends this process: readers of events that stand in no
        log have seen their places."""
        if self.next_seq >= self._reserved:
            self._reserved = self.next_seq + _PLACES_AT_ONCE
            with contextlib.suppress(OSError):
                paths.write_whole(self._places, str(self._reserved), 0o600)
        self.next_seq += 1
        return self.next_seq - 1

    @property
    def last_seq(self) -> int:
        """The place of the last event that stands in the log; 0 without one."""
        return self.events[-1].seq if self.events else 0

    @property
    def last_tier(self) -> TierChanged | None:
        """The tier that a person or an escalation changed to last."""
        return next((event for event in reversed(self.events) if isinstance(event, TierChanged)), None)

    @property
    def last_mode(self) -> Mode:
        """The mode that it was left in."""
        return next((event.mode for event in reversed(self.events) if isinstance(event, ModeChanged)), "ask")

    def store(self, stored: Stored) -> None:
        """What a profile begins with, once: afterwards it never changes."""
        self._line(_prefix(stored))
        self.stored[stored.profile] = stored

    def append(self, event: EventBase) -> None:
        """Handed to the operating system before it returns: a kill of this process loses nothing."""
        self._line(event.model_dump_json().encode() + b"\n")
        self.events.append(event)

    def note(self, event: EventBase) -> None:
        """Append what happened to the session while no agent works in it."""
        place = {"seq": self.take_seq(), "session_id": self.header.id, "ts_ms": time.time_ns() // 1_000_000}
        self.append(writable(event.model_copy(update=place)))

    def _line(self, line: bytes) -> None:
        begin = self._file.seek(0, os.SEEK_END)
        try:
            _write(self._file, line)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(begin)  # half a line would be taken for damage
            raise SessionError(
                f"cannot be written: {error.strerror}", where=str(self.folder), next_step="Make room on the disk"
            ) from None

    def close(self) -> None:
        self._file.close()


def writable(event: E) -> E:
    """With halves of surrogate pairs replaced, as names of files have them: neither log nor request can hold any."""
    try:
        event.model_dump_json()
    except PydanticSerializationError:
        return type(event).model_validate(sound(event.model_dump()))
    return event


def _reserved(path: Path) -> int:
    """The first place that no earlier process can have taken."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def root() -> Path:
    return paths.state_dir() / "sessions"


def create(cwd: Path, tier: str, stored: Stored, *, kind: str = "code", parent: str = "") -> Session:
    now_ms = time.time_ns() // 1_000_000
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_ms / 1000))}-{secrets.token_hex(3)}"
    paths.private_dir(paths.state_dir())
    folder = paths.private_dir(paths.private_dir(root()) / name)
    header = Header(
        id=name, cwd=str(cwd), profile=stored.profile, tier=tier, created_ms=now_ms, kind=kind, parent=parent
    )
    file = _held(folder / "log.jsonl", name)
    _write(file, json.dumps({"type": "header", **header.model_dump()}, ensure_ascii=False).encode() + b"\n")
    _write(file, _prefix(stored))
    return Session(folder, header, {stored.profile: stored}, [], file)


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


def remove(name: str) -> str:
    """Delete a session: what was said, and what undo needs. Its id. Raises SessionError where it is in use."""
    folder = find(name)
    file = _held(folder / "log.jsonl", folder.name)
    try:
        (folder / "log.jsonl").unlink()  # first: a folder without a log is no session
    except OSError as error:
        raise SessionError(f"it cannot be removed: {error.strerror}", where=folder.name) from None
    finally:
        file.close()
    shutil.rmtree(folder, ignore_errors=True)
    return folder.name


def latest(cwd: Path, kind: str = "code") -> str | None:
    """The id of the last session of this folder."""
    return next((one.header.id for one in listed() if one.header.cwd == str(cwd) and one.header.kind == kind), None)


def listed() -> list[Listed]:
    """All that can be read, newest first; those of helpers belong to others. A log that did not change since is not
    read again: what lists show of it stands in an index."""
    index = _Index()
    found = []
    for folder in root().iterdir() if root().is_dir() else ():
        with contextlib.suppress(OSError, SessionError):
            one = index.of(folder)
            if not one.header.parent:
                found.append(one)
    index.keep()
    return sorted(found, key=lambda one: -one.changed_ms)


class _Index:
    """What lists show of each session, beside the logs. Losing it costs reading them once."""

    def __init__(self) -> None:
        self._path = root() / "index.json"
        self._rows: dict[str, Any] = {}
        self._new: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            self._rows = rows if isinstance(rows, dict) else {}

    def of(self, folder: Path) -> Listed:
        """Raises OSError, SessionError."""
        path = folder / "log.jsonl"
        found = path.stat()
        stamp = [found.st_mtime_ns, found.st_size]
        row: Any = self._rows.get(folder.name)
        try:
            known = row["stamp"] == stamp
            header = Header.model_validate(row["header"]) if known else None
            title, turns = (str(row["title"]), int(row["turns"])) if known else ("", 0)
        except (TypeError, KeyError, ValueError):
            header = None
        if header is None:
            header, _, events, _ = _load(path)
            started = [event for event in events if isinstance(event, TurnStarted)]
            named = [event.title for event in events if isinstance(event, TitleChanged)]
            title, turns = (named or [title_of(one.input) for one in started[:1]] or [""])[-1], len(started)
        self._new[folder.name] = {"stamp": stamp, "header": header.model_dump(), "title": title, "turns": turns}
        return Listed(header, title, turns, found.st_mtime_ns // 1_000_000)

    def keep(self) -> None:
        if self._new != self._rows:
            with contextlib.suppress(OSError):
                paths.write_whole(self._path, json.dumps(self._new, ensure_ascii=False), 0o600)


def read(name: str) -> tuple[Header, list[EventBase]]:
    """A session for reading alone, also while somebody writes it."""
    header, _, events, _ = _load(find(name) / "log.jsonl")
    return header, events


def _load(path: Path) -> tuple[Header, dict[str, Stored], list[EventBase], int]:
    """(header, prefixes by profile, events, how many bytes are whole)."""
    header: Header | None = None
    stored: dict[str, Stored] = {}
    events: list[EventBase] = []
    whole = 0
    for raw in _lines(path.read_bytes()):
        try:
            line = json.loads(raw)
            kind = line.pop("type")
            if kind == "header":
                header = Header.model_validate(line)
            elif kind == "prefix":
                prefix = Stored.model_validate({"profile": header.profile if header else "", **line})
                stored[prefix.profile] = prefix
            else:
                events.append(EVENTS.validate_python({"type": kind, **line}))
        except ValidationError as error:
            if "union_tag_invalid" not in str(error):  # of a newer version: passed over
                raise SessionError(f"line {len(events) + 3} is damaged", where=str(path)) from None
        except (ValueError, KeyError, AttributeError):
            raise SessionError(f"line {len(events) + 3} is damaged", where=str(path)) from None
        whole += len(raw) + 1
    if header is None or header.profile not in stored:
        raise SessionError("its beginning is damaged", where=str(path), next_step="It cannot be taken up again")
    return header, stored, events, whole


def _prefix(stored: Stored) -> bytes:
    return json.dumps({"type": "prefix", **stored.model_dump()}, ensure_ascii=False).encode() + b"\n"


def _lines(data: bytes) -> Iterator[bytes]:
    """Whole lines; what follows the last line end was torn."""
    yield from data.split(b"\n")[:-1]


def _mend(session: Session) -> None:
    calls: list[CallPart] = []
    asked: dict[str, None] = {}
    queued: dict[str, None] = {}
    last: EventBase | None = None
    for event in session.events:
        if isinstance(event, PromptQueued):
            queued[event.prompt_id] = None
        elif isinstance(event, PromptDropped):
            queued.pop(event.prompt_id, None)
        if isinstance(event, BESIDE_TURNS):
            continue
        if isinstance(event, MessageDone):
            calls = [part for part in event.content if isinstance(part, CallPart)]
        elif isinstance(event, ToolEnded):
            calls = [call for call in calls if call.call_id != event.call_id]
        elif isinstance(event, ApprovalRequested) and event.approval.origin == "agent":
            asked[event.approval.id] = None
        elif isinstance(event, ApprovalResolved):
            asked.pop(event.approval_id, None)
        elif isinstance(event, TurnEnded):
            calls = []
        elif isinstance(event, TurnStarted):
            queued.pop(event.prompt_id, None)
        last = event
    ended = last is None or isinstance(last, TurnEnded | Compacted | TierChanged)
    if ended and not queued:
        return
    envelope = {
        "session_id": session.header.id,
        "turn_id": last.turn_id if last else "",
        "ts_ms": time.time_ns() // 1_000_000,
    }
    lost = "This was interrupted: Variet was ended meanwhile. It may have happened in part; look before you repeat it."
    ends: list[EventBase] = [PromptDropped(**envelope, prompt_id=one, reason="crash") for one in queued]
    ends += [ApprovalResolved(**envelope, approval_id=one, state="expired", by="crash") for one in asked]
    ends += [ToolEnded(**envelope, call_id=call.call_id, status="interrupted", content=lost) for call in calls]
    if not ended:
        ends.append(TurnEnded(**envelope, reason="cancelled", detail="crash"))
    for event in ends:
        session.append(event.model_copy(update={"seq": session.take_seq()}))


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: an unbuffered file may take a part. Raises OSError."""
    while data:
        data = data[file.write(data) :]


def _held(path: Path, name: str) -> IO[bytes]:
    """The log, open at its end, locked. Raises SessionError where another process writes it."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)
    try:
        try_lock(file)
    except OSError:
        file.close()
        raise SessionError(f"session {name} is in use by another process", next_step="End that one first") from None
    return file
