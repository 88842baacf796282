"""Carries out what a client's files are to hold, and puts back what stood there.

What was written, and what had stood in its place, is remembered in STATE/connect before anything is written; the first
time a copy of the whole file is kept there, too. To put it back each value is looked at: what a person changed since
stays. Values of ours are remembered by their digest alone.
"""

from __future__ import annotations

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
_MOST_DIGESTS = 16  # of one value


class Edit(BaseModel):
    """A value of ours. `wrote`: digests of it, and of what it was the time before, should this time be cut short;
    `before`: what stood there, where anything `was` there; `around`: how many of the tables around it were there.
    `names`, `keys`: of tables in a list, by which ours are found again; `before` are those then that ours replaced."""

    at: Place
    wrote: list[str] = []
    was: bool = False
    before: Any = None
    around: int = 0
    names: tuple[str, ...] = ()
    keys: list[list[Any]] = []


class Written(BaseModel):
    """`made`: by us; it goes once nothing else is in it. `secret`: a key is in it; `mode`: what it had, where we closed
    it to others for that. `texts`: digests of what it may hold as we left it; `copied`: the copy is what it was before
    us, for nobody else has changed it since."""

    path: Path
    kind: Kind
    made: bool
    edits: list[Edit]
    secret: bool = False
    mode: int | None = None
    texts: list[str] = []
    copied: bool = False


class Remembered(BaseModel):
    """Of one client in one folder (of all folders, without). `when`: Unix seconds."""

    client: str
    folder: str = ""
    when: float = 0
    files: list[Written] = []


@dataclass(frozen=True, slots=True)
class Change:
    """One file as it is (None: there is none) and as it will be (None: there will be none). `shown`: what changes in
    it, for people: of ours alone, and no key. `loose`: others may read it, and shall not."""

    path: Path
    before: str | None
    after: str | None
    shown: str = ""
    secret: bool = False
    new: bool = False  # nothing of ours was in it
    mode: int | None = None  # that it is to have
    loose: bool = False

    @property
    def different(self) -> bool:
        return self.before != self.after or self.loose


@dataclass
class Plan:
    """What is about to be changed, and remembered of it. `left`: what a person changed since, and therefore keeps."""

    changes: list[Change]
    remembered: Remembered
    left: list[str] = field(default_factory=list)
    known: Remembered | None = None  # of what is there now
    others: list[Remembered] = field(default_factory=list)  # of the same client, in other folders or in all


def plan(client: str, folder: Path | None, files: Sequence[File]) -> Plan:
    """Without any, all is put back. Raises VarietError for a file that cannot be read or changed."""
    known = recall(client, folder)
    remembered = Remembered(client=client, folder=str(folder or ""), when=time.time())
    made = Plan([], remembered, known=known, others=_others_of(known))
    wanted: dict[Path, File] = {}
    for file in files:
        path = _real(file.path)
        wanted[path] = _together(wanted[path], file) if path in wanted else file
        if folder is not None and file.secret and path.is_relative_to(_real(folder)):
            raise VarietError("would bring the key into this project", where=str(path), next_step="Make it no link")
    for path in dict.fromkeys([*(_real(one.path) for one in known.files), *wanted]):
        old = next((one for one in known.files if _real(one.path) == path), None)
        try:
            _one(path, old, wanted.get(path), made)
        except VarietError as error:
            if files or old is None:
                raise
            made.left.append(str(error))  # the others are put back, and this one is remembered
            made.remembered.files.append(old)
    return made


def apply(made: Plan) -> None:
    """Raises VarietError, and says how far it came: what is remembered by then is enough to put it back."""
    changes = [change for change in made.changes if change.different]
    for change in changes:
        if _read(change.path) != change.before:
            raise VarietError("was changed meanwhile", where=str(change.path), next_step="Run it again")
    _remember(_both(made.remembered, made.known), made.others, changes)
    for change in changes:
        try:
            if change.after is None:
                change.path.unlink(missing_ok=True)
                continue
            mode = _mode(change)
            paths.write_whole(change.path, change.after.encode(), mode)
            if os.name == "posix":
                change.path.chmod(mode)
        except OSError as error:
            undo = f"variet connect {made.remembered.client} --undo" + (" --project" if made.remembered.folder else "")
            told = f"`{undo}` puts back what was written before it"
            raise VarietError(f"cannot be written: {error.strerror}", where=str(change.path), next_step=told) from None
    if made.remembered.files:
        _remember(made.remembered, (), ())
    else:
        _file_of(made.remembered).unlink(missing_ok=True)


def _together(one: File, other: File) -> File:
    """Two that are one: a project's that is a link to its user's."""
    if one.kind != other.kind or one.kind == "whole":
        raise VarietError("would have to be two files at once", where=str(other.path), next_step="Make it no link")
    return File(
        one.path, one.kind, {**one.values, **other.values}, one.secret or other.secret, {**one.first, **other.first}
    )


def _both(new: Remembered, old: Remembered | None) -> Remembered:
    """What is written now and what was before, should this be cut short between them."""
    both = new.model_copy(deep=True)
    for file in old.files if old is not None else ():
        same = next((one for one in both.files if _real(one.path) == _real(file.path)), None)
        if same is None:
            both.files.append(file)
            continue
        for edit in file.edits:
            again = next((one for one in same.edits if one.at == edit.at), None)
            if again is None:
                same.edits.append(edit)
            else:
                again.keys += [key for key in edit.keys if key not in again.keys]
    return both


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
    if before is None and file is None:
        return  # somebody removed it: nothing of ours is in it
    was_made = old.made if old is not None and before is not None else before is None
    untouched = old is not None and before is not None and _digest(before) in old.texts
    others = [other for one in made.others for other in one.files if _real(other.path) == path]
    try:
        if kind == "whole":
            after, edits = _whole(path, before, old, file, made)
        else:
            values = {**(file.first if was_made else {}), **file.values} if file is not None else {}
            after, edits = _merged(path, before, kind, old, values, made)
            if not edits and untouched and old is not None and old.copied and not others:
                kept = _read(_copy_of(made.remembered, path))
                after = after if kept is None else kept
        shown = _shown(kind, before, after, [*(old.edits if old else ()), *edits])
    except (DocumentProblem, RecursionError) as problem:
        what = problem.what if isinstance(problem, DocumentProblem) else "it is nested too deeply"
        raise VarietError(what, where=str(path), next_step="Mend or move it, and run this again") from None
    if not edits and was_made and after is not None and not _held(kind, after):
        after = None
    if file is None and old is not None:
        for one in others:  # whoever still needs it puts back the rest
            one.made = one.made or old.made
    secret = file.secret if file is not None else old is not None and old.secret
    mode = _mode_before(path, old) if secret else None
    again = _mode_again(others, old) if file is None and old is not None else None
    loose = file is not None and secret and _loose(path)
    closes = secret and file is not None
    made.changes.append(Change(path, before, after, f"{path}\n{shown}", closes, old is None, again, loose))
    if edits:
        copied = untouched and old is not None and old.copied if old is not None else before is not None
        made.remembered.files.append(
            Written(
                path=path, kind=kind, made=was_made, edits=edits, secret=secret, mode=mode,
                texts=_known_by([_digest(after), _digest(before), *(old.texts if old and untouched else ())]),
                copied=copied,
            )
        )  # fmt: skip


def _loose(path: Path) -> bool:
    """Whether others may read a file."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _mode_before(path: Path, old: Written | None) -> int | None:
    """Of a file that is closed to others now, where it was not."""
    if old is not None:
        return old.mode
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    return mode if mode != _PRIVATE else None


def _mode_again(others: Sequence[Written], old: Written) -> int | None:
    """What it had before, once nobody needs it closed; else whoever still does knows it from now on."""
    for one in others:
        one.mode = old.mode if old.mode is not None else one.mode
    return None if others else old.mode


# Names of keys, but not of what names a key.
_SECRET_NAME = re.compile(r"(?:key|token|secret|password)\Z", re.IGNORECASE)
_NAMES_A_KEY = re.compile(r"env_?key", re.IGNORECASE)


def _shown(kind: Kind, before: str | None, after: str | None, edits: Sequence[Edit]) -> str:
    """What changes at our places, a line each; of what others wrote there, and of keys, nothing."""
    if kind == "whole":
        return "" if before == after else "  - all of it\n" if after is None else "  + all of it\n"
    old, new = document(kind, before or ""), document(kind, after or "")
    lines = []
    for at in dict.fromkeys(edit.at for edit in edits):
        stood, stands = old.get(at), new.get(at)
        name = ".".join(at)
        if stood is not ABSENT and stood != stands:
            lines.append(f"  - {name}\n")
        if stands is not ABSENT and stood != stands:
            ours = stands if not any(edit.names for edit in edits if edit.at == at) else f"{len(stands)} entries"
            told = json.dumps(_masked(at[-1], ours), indent=2, ensure_ascii=False).replace("\n", "\n    ")
            lines.append(f"  + {name}: {told}\n")
    return "".join(lines)


def _masked(name: str, value: Any) -> Any:
    """With a picture in place of each key."""
    if isinstance(value, Mapping):
        return {key: _masked(str(key), one) for key, one in value.items()}
    if isinstance(value, list):
        return [_masked(name, one) for one in value]
    if not isinstance(value, str) or not _SECRET_NAME.search(name) or _NAMES_A_KEY.fullmatch(name):
        return value
    return value if value.startswith(("${", "{file:")) else "…"


def _whole(
    path: Path, before: str | None, old: Written | None, file: File | None, made: Plan
) -> tuple[str | None, list[Edit]]:
    """A file that is ours alone. One that somebody else made, or changed since, is left as it is."""
    ours = old.edits[0].wrote if old is not None else []
    if old is None and file is not None and before == file.values[()]:
        return before, []  # somebody else's, who wants the same
    if before is not None and _digest(before) not in ours and (file is None or before != file.values[()]):
        made.left.append(f"{path}: it is not as Variet wrote it")
        return before, []
    if file is None:
        return None, []
    return file.values[()], [Edit(at=(), wrote=_known_by([_digest(file.values[()]), *ours]))]


def _merged(
    path: Path, before: str | None, kind: Kind, old: Written | None, wanted: Values, made: Plan
) -> tuple[str, list[Edit]]:
    try:
        text, edits = _edited(path, before, kind, old, wanted, made)
        for edit in edits:
            edit.model_dump_json()  # what cannot be remembered is not replaced
        return text, edits
    except (ValueError, TypeError, AttributeError, YAMLError) as error:  # of the libraries, for what they cannot write
        raise DocumentProblem(f"it is written in a way that cannot be changed with care ({error})") from None


def _edited(
    path: Path, before: str | None, kind: Kind, old: Written | None, wanted: Values, made: Plan
) -> tuple[str, list[Edit]]:
    held = document(kind, before or "")
    ours = old.edits if old is not None else []
    for edit in reversed(ours):
        if edit.at in wanted or _sharing(path, edit.at, made):
            continue  # it is needed still
        if not _put_back(held, edit):
            made.left.append(f"{path}: {'.'.join(edit.at)} was changed since")
    edits = []
    for at, value in wanted.items():
        known = next((one for one in ours if one.at == at), None)
        around = _around(held, at, path, made)
        if isinstance(value, Entries):
            edit = _entered(held, at, value, known)
        elif isinstance(value, Choice):
            stands = held.get(at)
            edit = _set(held, at, stands if stands in value.among else value.value, known)
            edit.wrote += [_digest(one) for one in value.among]
        else:
            edit = _set(held, at, value, known)
        edit.around = around if known is None else known.around
        _shared(edit, _sharing(path, at, made))
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
    for one in sharing if not edit.names else ():
        if edit.was and _digest(edit.before) in one.wrote:
            edit.was, edit.before = one.was, one.before
        one.wrote = list(dict.fromkeys([*edit.wrote[:1], *one.wrote]))


def _around(held: Document, at: Place, path: Path, made: Plan) -> int:
    """How many of the tables around a place are there, and not for our sake."""
    there = 0
    while there < len(at) - 1 and isinstance(held.get(at[: there + 1]), Mapping):
        there += 1
    for one in (
        edit for other in made.others for file in other.files if _real(file.path) == path for edit in file.edits
    ):
        common = next((n for n, (a, b) in enumerate(zip(at[:-1], one.at[:-1], strict=False)) if a != b), None)
        common = min(len(at), len(one.at)) - 1 if common is None else common
        there = min(there, one.around) if one.around < common else there
    return there


def _others(held: Document, places: set[Place]) -> Any:
    """All but what stands at these places, and tables that hold nothing."""

    def pruned(value: Any, at: Place) -> Any:
        if not isinstance(value, dict):
            return value
        left = {key: pruned(one, (*at, key)) for key, one in value.items() if (*at, key) not in places}
        return {key: one for key, one in left.items() if one != {}}

    return pruned(held.get(()), ())


def _set(held: Document, at: Place, value: Any, known: Edit | None) -> Edit:
    """What stood there before ours, where ours stands; else what stands."""
    stands = held.get(at)
    if stands is ABSENT or stands != value:
        held.set(at, value)
    if known is not None and stands is not ABSENT and _digest(stands) in known.wrote:
        wrote = _known_by([_digest(value), _digest(stands), *known.wrote])
        return Edit(at=at, wrote=wrote, was=known.was, before=known.before)
    was = stands is not ABSENT
    return Edit(at=at, wrote=[_digest(value)], was=was, before=stands if was else None)


def _entered(held: Document, at: Place, entries: Entries, known: Edit | None) -> Edit:
    """Each where it stands already; new ones go last."""
    stood = held.get(at)
    if stood is not ABSENT and not isinstance(stood, list):
        raise DocumentProblem(f"there is something else than a list at {'.'.join(at)}")
    ours = known.wrote if known is not None else []
    edit = Edit(
        at=at, wrote=[_digest(table) for table in entries.tables], was=known.was if known else stood is not ABSENT,
        before=list(known.before or []) if known else [], names=entries.names, keys=_keys(entries),
    )  # fmt: skip
    if known is not None:
        _taken_out(held, known, keep=edit.keys)
    for table in entries.tables:
        listed = held.get(at)
        if listed is ABSENT:
            held.set(at, [])
            listed = []
        number = _find(listed, _names(table, entries.names), entries.names)
        if number == len(listed):
            held.set((*at, number), table)
        elif listed[number] != table:
            if _digest(listed[number]) not in ours:
                key = _names(table, entries.names)
                edit.before = [one for one in edit.before if _names(one, entries.names) != key] + [listed[number]]
            held.set((*at, number), table)
    edit.wrote = list(dict.fromkeys([*edit.wrote, *ours]))[: _MOST_DIGESTS * (len(entries.tables) + 1)]
    return edit


def _taken_out(held: Document, edit: Edit, keep: Sequence[list[Any]] = ()) -> list[list[Any]]:
    """Those of ours from a list, but for some; what they replaced comes back. Keys of those that a person changed
    since, which stay."""
    changed = []
    for key in edit.keys:
        listed = held.get(edit.at)
        if not isinstance(listed, list):
            break
        number = _find(listed, key, edit.names)
        if key in keep or number == len(listed):
            continue
        if listed[number] in edit.before:
            continue  # as it was: ours never came into the file
        if _digest(listed[number]) not in edit.wrote:
            changed.append(key)
            continue
        replaced = [one for one in edit.before if _names(one, edit.names) == key]
        if replaced:
            held.set((*edit.at, number), replaced[0])
        else:
            held.remove((*edit.at, number))
    return changed


def _find(listed: Sequence[Any], key: list[Any], names: Sequence[str]) -> int:
    """The number of the table with these keys; the length where there is none."""
    return next((number for number, one in enumerate(listed) if _names(one, names) == key), len(listed))


def _put_back(held: Document, edit: Edit) -> bool:
    """Whether nothing of ours is left there, and nothing of anybody else's was touched."""
    if edit.names:
        changed = _taken_out(held, edit)
        if held.get(edit.at) == [] and not edit.was:
            held.remove(edit.at, keep=edit.around)
        return not changed
    stands = held.get(edit.at)
    if (stands == edit.before) if edit.was else (stands is ABSENT):
        return True
    if stands is ABSENT or _digest(stands) not in edit.wrote:
        return False
    if edit.was:
        held.set(edit.at, edit.before)
    else:
        held.remove(edit.at, keep=edit.around)
    return True


def _names(table: Any, names: Sequence[str]) -> list[Any]:
    return [table.get(name) for name in names] if isinstance(table, Mapping) else []


def _keys(entries: Entries) -> list[list[Any]]:
    return [_names(table, entries.names) for table in entries.tables]


def _known_by(digests: Sequence[str]) -> list[str]:
    """What a value of ours may be in the file: several writes in a row may have failed."""
    return list(dict.fromkeys(digests))[:_MOST_DIGESTS]


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
    if change.mode is not None:
        return change.mode
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


def _copy_of(remembered: Remembered, path: Path) -> Path:
    mark = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return paths.state_dir() / "connect" / f"{_file_of(remembered).stem}-{mark}-{path.name}"
