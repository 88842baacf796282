"""Carries out what a client's files are to hold, and puts back what stood there.

What was written, and what had stood in its place, is remembered in STATE/connect before anything is written; the first
time a copy of the whole file is kept there, too. To put it back each value is looked at: what a person changed since
stays. Values of ours are remembered by their digest alone.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml.error import YAMLError

from variet import paths
from variet.connect.documents import ABSENT, Document, DocumentProblem, Place, document
from variet.connect.wishes import Choice, Entries, File, Kind, Values
from variet.errors import VarietError

_PRIVATE = 0o600


class Edit(BaseModel):
    """A value of ours. `wrote`: digests of it, and of what it was the time before, should this time be cut short;
    `before`: what stood there, where anything `was` there. `names`, `keys`: of tables in a list, by which ours are
    found again."""

    at: Place
    wrote: list[str] = []
    was: bool = False
    before: Any = None
    names: tuple[str, ...] = ()
    keys: list[list[Any]] = []


class Written(BaseModel):
    """`made`: by us; it goes once nothing else is in it."""

    path: Path
    kind: Kind
    made: bool
    edits: list[Edit]


class Remembered(BaseModel):
    """Of one client in one folder (of all folders, without). `when`: Unix seconds."""

    client: str
    folder: str = ""
    when: float = 0
    files: list[Written] = []


@dataclass(frozen=True, slots=True)
class Change:
    """One file as it is (None: there is none) and as it will be (None: there will be none)."""

    path: Path
    before: str | None
    after: str | None
    secret: bool = False
    new: bool = False  # nothing of ours was in it

    @property
    def different(self) -> bool:
        return self.before != self.after

    def diff(self, secrets: Sequence[str]) -> str:
        """Unified, with the secrets masked."""
        old, new = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        told = "".join(difflib.unified_diff(old, new, str(self.path), str(self.path)))
        for secret in secrets:
            told = told.replace(secret, "…")
        return told


@dataclass
class Plan:
    """What is about to be changed, and remembered of it. `left`: what a person changed since, and therefore keeps."""

    changes: list[Change]
    remembered: Remembered
    left: list[str] = field(default_factory=list)
    others: list[Remembered] = field(default_factory=list)  # of the same client, in other folders or in all


def plan(client: str, folder: Path | None, files: Sequence[File]) -> Plan:
    """Without any, all is put back. Raises VarietError for a file that cannot be read or changed."""
    known = recall(client, folder)
    made = Plan([], Remembered(client=client, folder=str(folder or ""), when=time.time()), others=_others_of(known))
    wanted = {_real(one.path): one for one in files}
    for path in dict.fromkeys([*(_real(one.path) for one in known.files), *wanted]):
        old = next((one for one in known.files if _real(one.path) == path), None)
        _one(path, old, wanted.get(path), made)
    return made


def apply(made: Plan) -> None:
    """Raises VarietError, and says how far it came: what is remembered by then is enough to put it back."""
    _remember(made.remembered, made.others, [change for change in made.changes if change.different])
    for change in made.changes:
        if not change.different:
            continue
        try:
            if change.after is None:
                change.path.unlink(missing_ok=True)
                continue
            mode = _mode(change)
            paths.write_whole(change.path, change.after.encode(), mode)
            if os.name == "posix":
                change.path.chmod(mode)
        except OSError as error:
            told = f"`variet connect {made.remembered.client} --undo` puts back what was written before it"
            raise VarietError(f"cannot be written: {error.strerror}", where=str(change.path), next_step=told) from None
    if not made.remembered.files:
        _file_of(made.remembered).unlink(missing_ok=True)


def _others_of(known: Remembered) -> list[Remembered]:
    """Raises VarietError."""
    own, name = _file_of(known), re.compile(rf"{re.escape(known.client)}-(user|[0-9a-f]{{12}})\.json")
    named = [path for path in sorted(own.parent.glob("*.json")) if path != own and name.fullmatch(path.name)]
    return [one for path in named if (one := _recalled(path)) is not None]


def recall(client: str, folder: Path | None) -> Remembered:
    """What was written for a client; nothing, where it was never connected. Raises VarietError."""
    empty = Remembered(client=client, folder=str(folder or ""))
    return _recalled(_file_of(empty)) or empty


def _recalled(path: Path) -> Remembered | None:
    try:
        return Remembered.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise VarietError("cannot be read", where=str(path), next_step="Remove it: nothing will be put back") from None


def _one(path: Path, old: Written | None, file: File | None, made: Plan) -> None:
    kind = file.kind if file is not None else old.kind if old is not None else "whole"
    before = _read(path)
    was_made = old.made if old is not None else before is None
    try:
        if kind == "whole":
            after, edits = _whole(path, before, old, file, made)
        else:
            values = {**(file.first if was_made else {}), **file.values} if file is not None else {}
            after, edits = _merged(path, before, kind, old, values, made)
            if not edits and after is not None:
                after = _as_kept(made.remembered, path, after)
    except DocumentProblem as problem:
        raise VarietError(problem.what, where=str(path), next_step="Mend or move it, and connect again") from None
    if not edits and was_made and after is not None and not _held(kind, after):
        after = None
    made.changes.append(Change(path, before, after, file.secret if file is not None else False, old is None))
    if edits:
        made.remembered.files.append(Written(path=path, kind=kind, made=was_made, edits=edits))


def _whole(
    path: Path, before: str | None, old: Written | None, file: File | None, made: Plan
) -> tuple[str | None, list[Edit]]:
    """A file that is ours alone. One that somebody else made, or changed since, is left as it is."""
    ours = old.edits[0].wrote if old is not None else []
    if before is not None and _digest(before) not in ours and (file is None or before != file.values[()]):
        made.left.append(f"{path}: it is not as Variet wrote it")
        return before, []
    if file is None:
        return None, []
    return file.values[()], [Edit(at=(), wrote=[_digest(file.values[()]), *ours[:1]])]


def _merged(
    path: Path, before: str | None, kind: Kind, old: Written | None, wanted: Values, made: Plan
) -> tuple[str, list[Edit]]:
    try:
        return _edited(path, before, kind, old, wanted, made)
    except (ValueError, TypeError, AttributeError, YAMLError) as error:  # of the libraries, for what they cannot write
        raise DocumentProblem(f"it is written in a way that cannot be changed with care ({error})") from None


def _edited(
    path: Path, before: str | None, kind: Kind, old: Written | None, wanted: Values, made: Plan
) -> tuple[str, list[Edit]]:
    held = document(kind, before or "")
    ours = old.edits if old is not None else []
    stood = {at: held.get(at) for at in wanted}
    for edit in reversed(ours):
        if edit.at not in wanted and _sharing(path, edit.at, made):
            continue  # it is needed still
        if not _put_back(held, edit) and edit.at not in wanted:
            made.left.append(f"{path}: {'.'.join(edit.at)} was changed since")
    edits = []
    for at, value in wanted.items():
        if isinstance(value, Entries):
            edit = _entered(held, at, value)
        elif isinstance(value, Choice):
            edit = _set(held, at, stood[at] if stood[at] in value.among else value.value)
            edit.wrote += [_digest(one) for one in value.among]
        else:
            edit = _set(held, at, value)
        _shared(edit, _sharing(path, at, made))
        edit.wrote += next((one.wrote[:1] for one in ours if one.at == at), [])
        edits.append(edit)
    if not edits and old is None:
        return before or "", edits
    places = {edit.at for edit in (*edits, *ours)}
    after = document(kind, held.text)
    if any(after.get(edit.at) != held.get(edit.at) for edit in edits) or _others(after, places) != _others(
        document(kind, before or ""), places
    ):
        raise DocumentProblem("what else stands in it would become something else")
    return held.text, edits


def _sharing(path: Path, at: Place, made: Plan) -> list[Edit]:
    """The same place as the same client needs it elsewhere: in other folders, or in all."""
    files = [file for other in made.others for file in other.files if _real(file.path) == path]
    return [edit for file in files for edit in file.edits if edit.at == at]


def _shared(edit: Edit, sharing: Sequence[Edit]) -> None:
    """What stood there before any of them is what comes back when the last of them goes."""
    for one in sharing:
        if edit.was and _digest(edit.before) in one.wrote:
            edit.was, edit.before = one.was, one.before
        one.wrote = list(dict.fromkeys([*edit.wrote[:1], *one.wrote]))


def _others(held: Document, places: set[Place]) -> Any:
    """All but what stands at these places, and tables that hold nothing."""

    def pruned(value: Any, at: Place) -> Any:
        if not isinstance(value, dict):
            return value
        left = {key: pruned(one, (*at, key)) for key, one in value.items() if (*at, key) not in places}
        return {key: one for key, one in left.items() if one != {}}

    return pruned(held.get(()), ())


def _set(held: Document, at: Place, value: Any) -> Edit:
    stood = held.get(at)
    if stood is ABSENT or stood != value:
        held.set(at, value)
    return Edit(at=at, wrote=[_digest(value)], was=stood is not ABSENT, before=None if stood is ABSENT else stood)


def _entered(held: Document, at: Place, entries: Entries) -> Edit:
    stood = held.get(at)
    if stood is not ABSENT and not isinstance(stood, list):
        raise DocumentProblem(f"there is something else than a list at {'.'.join(at)}")
    listed: list[Any] = stood if isinstance(stood, list) else []
    others = [one for one in listed if _names(one, entries.names) not in _keys(entries)]
    replaced = [one for one in listed if one not in others]
    value = [*others, *entries.tables]
    if stood != value:
        held.set(at, value)
    return Edit(at=at, was=stood is not ABSENT, before=replaced, names=entries.names, keys=_keys(entries))


def _put_back(held: Document, edit: Edit) -> bool:
    """Whether nothing of ours is left there, and nothing of anybody else's was touched."""
    stands = held.get(edit.at)
    if edit.names:
        if not isinstance(stands, list):
            return stands is ABSENT
        rest = [one for one in stands if _names(one, edit.names) not in edit.keys] + list(edit.before or [])
        if rest or edit.was:
            held.set(edit.at, rest)
        else:
            held.remove(edit.at)
        return True
    if (stands == edit.before) if edit.was else (stands is ABSENT):
        return True
    if stands is ABSENT or _digest(stands) not in edit.wrote:
        return False
    if edit.was:
        held.set(edit.at, edit.before)
    else:
        held.remove(edit.at)
    return True


def _names(table: Any, names: Sequence[str]) -> list[Any]:
    return [table.get(name) for name in names] if isinstance(table, Mapping) else []


def _keys(entries: Entries) -> list[list[Any]]:
    return [_names(table, entries.names) for table in entries.tables]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _held(kind: Kind, text: str) -> bool:
    """Whether there is anything in a file, a comment being something."""
    return kind == "whole" or text.strip() not in ("", "{}")


def _read(path: Path) -> str | None:
    """Raises VarietError."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "it is not UTF-8"
        step = "Make it readable for you, or move it away"
        raise VarietError(f"cannot be read: {told}", where=str(path), next_step=step) from None


def _real(path: Path) -> Path:
    """Where a link leads: dotfiles are often kept elsewhere, and the link stays."""
    return Path(os.path.realpath(path))


def _mode(change: Change) -> int:
    if change.secret:
        return _PRIVATE
    try:
        return stat.S_IMODE(change.path.stat().st_mode)
    except OSError:
        return 0o644


def _file_of(remembered: Remembered) -> Path:
    where = hashlib.sha256(remembered.folder.encode()).hexdigest()[:12] if remembered.folder else "user"
    return paths.state_dir() / "connect" / f"{remembered.client}-{where}.json"


def _remember(remembered: Remembered, others: Sequence[Remembered], changes: Sequence[Change]) -> None:
    folder = paths.private_dir(paths.private_dir(paths.state_dir()) / "connect")
    for change in changes:
        if change.new and change.before is not None:
            paths.write_whole(_copy_of(remembered, change.path), change.before, _PRIVATE)
    for one in (remembered, *others):
        if one.files:
            paths.write_whole(folder / _file_of(one).name, one.model_dump_json(indent=1), _PRIVATE)


def _as_kept(remembered: Remembered, path: Path, text: str) -> str:
    """A file from which all of ours was taken, with the empty lines that it had."""
    kept = _read(_copy_of(remembered, path))
    same = kept is not None and [*filter(str.strip, kept.splitlines())] == [*filter(str.strip, text.splitlines())]
    return kept if kept is not None and same else text


def _copy_of(remembered: Remembered, path: Path) -> Path:
    mark = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return paths.state_dir() / "connect" / f"{_file_of(remembered).stem}-{mark}-{path.name}"
