"""What each edit and command changed, kept in a shadow git repository of our own, and taken back on request.

A step is two trees: how the workspace stood before a call and after it. `undo` puts back what lies between them, and
only where the file is still as the call left it: what a person changed later stays, and is told. The workspace's own
repository is never touched; git serves as a store of objects (hash-object, update-index, write-tree), so ignored files
and those of nested repositories are kept like all others. Left out: folders that are made again (node_modules, .venv),
files over a size, and `.git` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from variet import paths
from variet.agent import programs
from variet.agent.changes import Changes, Selection, change_of, text_of, without
from variet.agent.workspace import Workspace, replace_file
from variet.errors import CheckpointFailed

MADE_AGAIN = frozenset(
    {".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
MOST_FILE = 5_000_000  # bytes
MOST_FILES = 30_000
MOST_TOTAL = 300_000_000  # bytes of one scan
MOST_STORED = 1_000_000_000  # bytes of one workspace's store; beyond, the oldest steps go
_LINK = "120000"
_BATCH = 64  # files that a process puts back at once: their contents are in memory
_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """`before`, `after`: trees; `after` is empty while the call runs, and where nobody knows how it ended. `only`: the
    paths that both are of, maybe none; None: all of the workspace. `undoes`: the steps that it took back, whole.
    `unkept`: changed files that were there and were not kept, before it or after it. `modes`: of changed files, as they
    were before it; `modes_after`: as it left them."""

    id: str
    call_id: str
    turn_id: str
    summary: str
    before: str
    after: str = ""
    only: tuple[str, ...] | None = None
    modes: Mapping[str, int] = field(default_factory=dict)
    undoes: tuple[str, ...] = ()
    unkept: tuple[str, ...] = ()
    modes_after: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Undone:
    """Paths that stand as before, and those that were left, with the reason."""

    restored: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)


Entry = tuple[str, str]  # (mode as git writes it, object)
Change = tuple[Entry | None, Entry | None]  # before and after; None: no such file
_Stat = tuple[int, int, int, int, int]  # size, mtime and ctime in ns, inode, mode
_RACY_NS = 50_000_000  # what changed so shortly before a scan may change again without its times telling


class Checkpoints:
    """Of one session in one workspace. Nothing is written into the workspace but by `undo`."""

    def __init__(self, workspace: Workspace, journal: Path) -> None:
        self._workspace = workspace
        self._journal = journal
        key = hashlib.sha256(str(workspace.root).encode()).hexdigest()[:20]
        self._store = paths.state_dir() / "checkpoints" / key
        self._known: dict[str, tuple[_Stat, Entry]] = {}
        self._scanned_ns = 0
        self._modes: dict[str, int] = {}  # of files, before the step under way
        self._unkept: set[str] = set()  # there at the last look, and not kept: too large, unreadable, no files
        self._too_large: CheckpointFailed | None = None  # this folder was, when it was scanned first
        self._alive = journal.with_name("alive")
        self._beat: asyncio.Task[None] | None = None
        self.steps: list[Step] = _read(journal)

    @staticmethod
    def refusal(root: Path) -> str:
        """Why no checkpoints are kept here; empty where they are."""
        home = Path.home().resolve()
        if root == home or root in home.parents:
            return f"{root} is a home folder or holds one: too much to keep. Work in a project's folder"
        if programs.find("git", root) is None:
            return "git is not installed"
        return ""

    async def open(self) -> None:
        """Raises CheckpointFailed. A step that a crash cut short ends with what it can have changed, as far as times of
        files tell; where nothing tells, it stays open and is not taken back."""
        if not (self._store / "HEAD").is_file():
            paths.private_dir(paths.state_dir())
            paths.private_dir(self._store)
            await self._git("init", "--quiet", "--bare", ".")
        if self.steps and not self.steps[-1].after:
            with contextlib.suppress(CheckpointFailed, OSError):
                await self._end_cut(self.steps[-1])
        await self._git("read-tree", "--empty")
        self._known.clear()
        await self._prune()

    async def _end_cut(self, step: Step) -> None:
        root = self._workspace.root
        if step.only is not None:
            await self.after(step)
            return
        alive_ns = self._alive.stat().st_mtime_ns + int(1.5e9 * _BEAT_S)
        looked = await asyncio.to_thread(lambda: dict(scan(root)))
        found = {name: one for name, one in looked.items() if one is not None}
        self._unkept = set(looked) - set(found)
        names = [name for name, one in found.items() if max(one[1], one[2]) <= alive_ns]
        entries = await self._stored(names, found)
        lines = [f"{mode} {blob}\t{name}" for name, (mode, blob) in entries.items()]
        there = (await self._git("ls-tree", "-r", "-z", "--name-only", step.before)).decode("utf-8", "surrogateescape")
        for name in there.split("\0")[:-1]:
            folder = (root / name).parent
            if name not in found and folder.is_dir() and folder.stat().st_mtime_ns <= alive_ns:
                lines.append(f"0 {'0' * 40}\t{name}")
        await self._git("read-tree", step.before)
        await self._index(lines)
        await self._finish(step, (await self._git("write-tree")).decode().strip())

    async def _prune(self) -> None:
        """The oldest sessions' steps go where the store is too large; what is younger than a day stays."""
        told = dict(line.split(": ") for line in (await self._git("count-objects", "-v")).decode().splitlines())
        if (int(told.get("size", 0)) + int(told.get("size-pack", 0))) * 1024 < MOST_STORED:
            return
        refs = (await self._git("for-each-ref", "--format=%(refname)", "refs/steps")).decode().split()
        sessions = sorted({ref.split("/")[2] for ref in refs} - {self._journal.parent.name})
        for ref in refs:
            if ref.split("/")[2] in sessions[: max(1, len(sessions) // 2)]:
                await self._git("update-ref", "-d", ref)
        await self._git("prune", "--expire=1.day.ago")

    async def before(
        self, call_id: str, turn_id: str, summary: str, only: Iterable[Path] | None = None, undoes: Sequence[str] = ()
    ) -> Step:
        """Keep how things stand: all of them, or `only` these files. Raises CheckpointFailed."""
        inside = [path for path in only if self._workspace.inside(path)] if only is not None else None
        tree = await self._tree(inside)
        names = tuple(self._workspace.show(path) for path in inside) if inside is not None else None
        step = Step(
            f"c{self._next()}", call_id, turn_id, summary[:200], tree, only=names, undoes=tuple(undoes),
            unkept=tuple(sorted(self._unkept)),
        )  # fmt: skip
        self._modes = {name: stat.S_IMODE(one[-1]) for name, (one, _) in self._known.items()}
        self.steps.append(step)
        self._write()
        if inside is None:
            self._alive.touch()
            self._beat = asyncio.create_task(self._beats())
        return step

    async def after(self, step: Step) -> Step:
        """What came of it; a step that changed nothing is forgotten. Raises CheckpointFailed, and then stays open."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        only = [self._workspace.root / one for one in step.only] if step.only is not None else None
        return await self._finish(step, await self._tree(only))

    async def _finish(self, step: Step, tree: str) -> Step:
        done = replace(step, after=tree)
        if tree != step.before:
            changed = [path for path, _ in await self._changes(done)]
            unkept = {*step.unkept, *self._unkept}
            after = {path: stat.S_IMODE(self._known[path][0][-1]) for path in changed if path in self._known}
            done = replace(
                done, modes={path: self._modes[path] for path in changed if path in self._modes}, modes_after=after,
                unkept=tuple(path for path in changed if path in unkept),
            )  # fmt: skip
        at = next(at for at, one in enumerate(self.steps) if one.id == step.id)
        self.steps[at : at + 1] = [] if done.after == done.before else [done]
        self._write()
        for name, kept in (("before", done.before), ("after", done.after)):
            await self._git("update-ref", f"refs/steps/{self._journal.parent.name}/{step.id}-{name}", kept)
        return done

    def _next(self) -> int:
        return max((int(one.id[1:]) for one in self.steps if one.id[1:].isdigit()), default=0) + 1

    async def _beats(self) -> None:
        """While a command runs, a file's time says until when: after a crash, that tells its changes from others."""
        while True:
            await asyncio.sleep(_BEAT_S)
            with contextlib.suppress(OSError):
                self._alive.touch()

    def chosen(self, selection: Selection) -> list[Step]:
        """The steps that a selection is of."""
        if selection.turn_id:
            return [one for one in self.steps if one.turn_id == selection.turn_id]
        if selection.which == "all" or (selection.which == "step" and (selection.paths or selection.hunks)):
            return list(self.steps)
        if selection.which == "step":
            return self.steps[-1:]
        undone = {name for one in self.steps for name in one.undoes}
        turn = next((one.turn_id for one in reversed(self.steps) if one.turn_id and one.id not in undone), None)
        return [one for one in self.steps if one.turn_id == turn and turn is not None]

    async def undo(self, steps: Sequence[Step], paths: Collection[str] = ()) -> Undone:
        """Take these back, the last first; `paths`: of these files alone. Itself a step, so that an undo can be undone.
        Raises CheckpointFailed."""
        if not steps:
            return Undone()
        wanted, left = await self._wanted(steps)
        if paths:
            left = {path: why for path, why in left.items() if path in paths}
            left |= {path: "nothing was changed in it" for path in paths if path not in wanted and path not in left}
            wanted = {path: pair for path, pair in wanted.items() if path in paths}
        wanted = await self._behind_own_undos(steps, wanted)
        root = self._workspace.root
        undoes = () if paths else tuple(one.id for one in steps)
        mark = await self.before(
            "undo", "", f"undo of {', '.join(one.id for one in steps)}", [root / path for path in wanted], undoes
        )
        modes = {path: mode for step in reversed(steps) for path, mode in step.modes.items()}
        left_with = {path: mode for step in steps for path, mode in step.modes_after.items()}
        restored: list[str] = []
        # What is to go goes first: a folder may stand where a file is to be.
        # Batches of their own, too: a link that goes may have led the others away.
        going = sorted(path for path, (old, _) in wanted.items() if old is None)
        coming = sorted(path for path, (old, _) in wanted.items() if old is not None)
        batches = [some[at : at + _BATCH] for some in (going, coming) for at in range(0, len(some), _BATCH)]
        for batch in batches:
            now = await self._now([root / path for path in batch if not self._led_away(path)])
            blobs = await self._blobs(entry for path in batch if (entry := wanted[path][0]) is not None)
            for path in batch:
                mode = self._mode(path, modes.get(path), left_with.get(path))
                why = self._put_back(path, wanted[path], now, blobs, mode)
                if why:
                    left[path] = why
                else:
                    restored.append(path)
        await self.after(mark)
        return Undone(tuple(sorted(restored)), left)

    def _mode(self, name: str, before: int | None, after: int | None) -> int | None:
        """That a file is put back with: the one before, unless a person gave it another one since."""
        path = self._workspace.root / name
        if after is None or path.is_symlink() or not path.is_file():
            return before
        now = stat.S_IMODE(path.stat().st_mode)
        return before if now == after else now

    def _put_back(
        self, name: str, change: Change, now: Mapping[str, Entry | None], blobs: Mapping[str, bytes], mode: int | None
    ) -> str:
        """Why a file was left as it is; empty where it stands as before."""
        old, new = change
        if name not in now or self._led_away(name):
            return "a folder on its way is a link"
        path = self._workspace.root / name
        current = now[name] if os.path.lexists(path) else None  # a folder there may have gone with its last file
        if current != new and not (old and new is None and path.is_dir()):
            return "it was changed since"
        try:
            self._put(name, old, blobs[old[1]] if old else b"", mode)
        except OSError as error:
            return f"it cannot be written: {error.strerror}"
        return ""

    def _led_away(self, name: str) -> bool:
        return any((self._workspace.root / one).is_symlink() for one in list(Path(name).parents)[:-1])

    async def _behind_own_undos(self, steps: Sequence[Step], wanted: dict[str, Change]) -> dict[str, Change]:
        """Of files that were taken back in part since: what they became by that."""
        ends = {one.id: at for at, one in enumerate(self.steps)}
        later = self.steps[max(ends.get(one.id, -1) for one in steps) + 1 :]
        found = dict(wanted)
        for undo in (one for one in later if one.call_id == "undo"):
            for path, (before, after) in await self._changes(undo):
                if path in found and found[path][1] == before:
                    found[path] = (found[path][0], after)
        return {path: pair for path, pair in found.items() if pair[0] != pair[1]}

    async def undo_hunks(self, steps: Sequence[Step], hunks: Collection[str]) -> Undone:
        """Take these hunks back, by their ids in `changes`, and keep what a person changed elsewhere in the file since.
        Itself a step. Raises CheckpointFailed."""
        texts, links, _ = await self.contents(steps)
        concerned = {}
        for path, (before, after) in texts.items():
            mine = {hunk.id for hunk in change_of(path, before, after, link=path in links).hunks} & set(hunks)
            if mine:
                concerned[path] = mine
        whole = [path for path in concerned if None in texts[path]]  # made or removed: its one hunk is all of it
        undone = await self.undo(steps, whole) if whole else Undone()
        restored, left = list(undone.restored), dict(undone.left)
        parts = [path for path in concerned if path not in whole]
        mark = await self.before("undo", "", "undo of some hunks", [self._workspace.root / path for path in parts])
        for path in parts:
            old, new = (text_of(data) or "" for data in texts[path])
            why = await self._merge(path, new, without(path, old, new, concerned[path]))
            if why:
                left[path] = why
            else:
                restored.append(path)
        await self.after(mark)
        return Undone(tuple(sorted(restored)), left)

    async def _merge(self, name: str, base: str, wanted: str) -> str:
        """Bring what differs between two texts into the file as it stands. Why not; empty where it was done."""
        path = self._workspace.root / name
        if self._led_away(name) or not path.is_file() or path.is_symlink():
            return "it is no file any more"
        try:
            now = path.read_bytes()
            made = wanted.encode() if now == base.encode() else await self._merged(now, base.encode(), wanted.encode())
            if made is None:
                return "these lines were changed since"
            replace_file(path, made)
        except OSError as error:
            return f"it cannot be written: {error.strerror}"
        self._workspace.saw(path, hashlib.sha256(made).hexdigest())
        return ""

    async def _merged(self, *texts: bytes) -> bytes | None:
        """Of the file as it stands, the base and what is wanted; None where they contradict each other."""
        with tempfile.TemporaryDirectory(dir=self._store) as folder:
            files = [Path(folder, name) for name in ("now", "base", "wanted")]
            for file, text in zip(files, texts, strict=True):
                file.write_bytes(text)
            try:
                return await self._git("merge-file", "-p", "-q", *map(str, files))
            except CheckpointFailed:
                return None

    async def contents(
        self, steps: Sequence[Step]
    ) -> tuple[dict[str, tuple[bytes | None, bytes | None]], set[str], dict[str, str]]:
        """(what each file was before the first of these steps and after the last, those that were or are links, files
        that somebody else changed in between). Raises CheckpointFailed."""
        wanted, left = await self._wanted(steps)
        blobs = await self._blobs(entry for pair in wanted.values() for entry in pair if entry is not None)
        changed = {path: pair for path, pair in wanted.items() if pair[0] != pair[1]}
        found = {
            path: (blobs[before[1]] if before else None, blobs[after[1]] if after else None)
            for path, (before, after) in changed.items()
        }
        links = {path for path, pair in changed.items() if any(one is not None and one[0] == _LINK for one in pair)}
        return found, links, left

    async def changes(self, steps: Sequence[Step]) -> Changes:
        """What these steps changed, file by file. Raises CheckpointFailed."""
        found, links, left = await self.contents(steps)
        turns: dict[str, list[str]] = {}
        for step in steps:
            for path, _ in await self._changes(step):
                if step.turn_id and step.turn_id not in turns.setdefault(path, []):
                    turns[path].append(step.turn_id)
        files = tuple(
            change_of(path, *pair, turns.get(path, ()), link=path in links) for path, pair in sorted(found.items())
        )
        return Changes(files=files, left=left)

    async def diff(self, steps: Sequence[Step]) -> str:
        """What these changed, as one patch from before the first to after the last."""
        return (await self.changes(steps)).patch

    # --- trees ---

    async def _tree(self, only: Iterable[Path] | None) -> str:
        root, began_ns = self._workspace.root, time.time_ns()
        if only is None:
            if self._too_large is not None:
                raise self._too_large
            try:
                looked = await asyncio.to_thread(lambda: dict(scan(root)))
            except CheckpointFailed as error:
                self._too_large = error
                raise
            found = {name: one for name, one in looked.items() if one is not None}
            there = set(looked)
            gone = [path for path in self._known if path not in found]
        else:
            asked = {self._workspace.show(path): path for path in only if self._workspace.inside(path)}
            looked = {name: _look(path) for name, path in asked.items()}
            found = {name: one for name, one in looked.items() if one is not None}
            there = {name for name, path in asked.items() if os.path.lexists(path)}
            gone = [name for name in asked if name not in found]
        certain_ns, self._scanned_ns = self._scanned_ns - _RACY_NS, began_ns
        fresh = [
            path
            for path, one in found.items()
            if self._known.get(path, (None,))[0] != one or max(one[1], one[2]) > certain_ns
        ]
        entries = await self._stored(fresh, found)
        self._unkept = {*(there - set(found)), *(path for path in fresh if path not in entries)}
        self._known.update({path: (found[path], entries[path]) for path in fresh if path in entries})
        lines = [f"{entries[path][0]} {entries[path][1]}\t{path}" for path in fresh if path in entries]
        lines += [f"0 {'0' * 40}\t{path}" for path in gone]
        for path in gone:
            self._known.pop(path, None)
        await self._index(lines)
        return (await self._git("write-tree")).decode().strip()

    async def _index(self, lines: Sequence[str]) -> None:
        if lines:
            given = "\0".join(lines).encode("utf-8", "surrogateescape")
            await self._git("update-index", "-z", "--index-info", given=given)

    async def _stored(self, names: Sequence[str], found: Mapping[str, _Stat]) -> dict[str, Entry]:
        """Files as objects; what vanished meanwhile is left out."""
        root, entries = self._workspace.root, {}
        links = [name for name in names if stat.S_ISLNK(found[name][-1])]
        for name in links:
            with contextlib.suppress(OSError):
                target = os.fsencode(os.readlink(root / name))  # noqa: PTH115 - bytes are wanted
                entries[name] = (
                    _LINK,
                    (await self._git("hash-object", "-w", "--stdin", given=target)).decode().strip(),
                )
        files = [
            name
            for name in names
            if name not in links and not {"\n", "\r"} & set(name) and os.access(root / name, os.R_OK)
            and (root / name).is_file()
        ]  # fmt: skip
        if files:
            given = "".join(f"{root / name}\n" for name in files).encode("utf-8", "surrogateescape")
            said = await self._git("hash-object", "-w", "--no-filters", "--stdin-paths", given=given)
            for name, line in zip(files, said.decode().split(), strict=True):
                entries[name] = ("100755" if found[name][-1] & 0o100 else "100644", line)
        return entries

    async def _wanted(self, steps: Sequence[Step]) -> tuple[dict[str, Change], dict[str, str]]:
        """path -> (as it was before the first step, as the last one left it), and what somebody changed between."""
        wanted: dict[str, Change] = {}
        left: dict[str, str] = {}
        for step in steps:
            for path, (before, after) in await self._changes(step):
                if path in step.unkept:
                    left[path] = "it could not be kept (too large, or no file that can be read): it stays as it is"
                elif path in wanted and wanted[path][1] != before:
                    left[path] = "somebody changed it in between"
                wanted[path] = (wanted[path][0] if path in wanted else before, after)
        return {path: pair for path, pair in wanted.items() if path not in left}, left

    async def _changes(self, step: Step) -> list[tuple[str, Change]]:
        """Of a step that ended: what each file was and became."""
        if not step.after:
            return []
        raw = await self._git("diff-tree", "-r", "-z", "--no-renames", step.before, step.after)
        fields = raw.decode("utf-8", "surrogateescape").split("\0")
        found = []
        for meta, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, old, new, _ = meta.removeprefix(":").split(" ")
            before = None if set(old) == {"0"} else (old_mode, old)
            found.append((path, (before, None if set(new) == {"0"} else (new_mode, new))))
        return found

    async def _now(self, paths: Sequence[Path]) -> dict[str, Entry | None]:
        """How files stand, by name."""
        looked = {self._workspace.show(path): (path, _look(path)) for path in paths}
        found = {name: one for name, (_, one) in looked.items() if one is not None}
        entries = await self._stored(list(found), found)
        # A path that exists and has no entry is too large, or no file.
        return {name: entries.get(name) or (("other", "") if os.path.lexists(path) else None)
                for name, (path, _) in looked.items()}  # fmt: skip

    async def _blobs(self, entries: Iterable[Entry]) -> dict[str, bytes]:
        """What objects hold, by their names; one process for all of them."""
        names = list(dict.fromkeys(entry[1] for entry in entries))
        raw = await self._git("cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode())
        found, at = {}, 0
        for name in names:
            end = raw.index(b"\n", at)
            words = raw[at:end].split()
            if len(words) != 3:
                raise CheckpointFailed(f"an object is lost: {name}")
            size = int(words[2])
            found[name] = raw[end + 1 : end + 1 + size]
            at = end + 1 + size + 1
        return found

    def _put(self, name: str, entry: Entry | None, data: bytes, mode: int | None) -> None:
        path = self._workspace.root / name
        if entry is None:
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._workspace.root or (folder.is_dir() and any(folder.iterdir())):
                    break
                if folder.is_dir():
                    folder.rmdir()
            return
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # only an empty folder goes
        if entry[0] == _LINK:
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(os.fsdecode(data))
            return
        if path.is_symlink():
            path.unlink()
        if mode is None:
            mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
            mode = mode | 0o111 if entry[0] == "100755" else mode & ~0o111
        replace_file(path, data, mode)
        self._workspace.saw(path, hashlib.sha256(data).hexdigest())

    # --- the store ---

    async def _git(self, *words: str, given: bytes = b"") -> bytes:
        """One plumbing command on the store. Raises CheckpointFailed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        clean |= {"GIT_DIR": str(self._store), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
                  "GIT_INDEX_FILE": str(self._store / f"index-{self._journal.parent.name}")}  # fmt: skip
        program = programs.find("git", self._workspace.root)
        if program is None:
            raise CheckpointFailed("git is not installed")
        process = await asyncio.create_subprocess_exec(
            program, "-c", "core.bare=true", *words, cwd=self._store, env=clean, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, wrong = await process.communicate(given)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            told = wrong.decode(errors="replace").strip().splitlines()
            raise CheckpointFailed(f"git {words[0]} failed: {told[-1] if told else process.returncode}")
        return said

    def _write(self) -> None:
        rows = [{name: getattr(step, name) for name in Step.__slots__} for step in self.steps]
        paths.write_whole(self._journal, json.dumps(rows), 0o600)


def scan(root: Path) -> Iterator[tuple[str, _Stat | None]]:
    """Every file: (path, what tells that it changed, None for one that is not kept). Raises CheckpointFailed where
    there are too many."""
    count = total = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if one not in MADE_AGAIN]
        linked = [one for one in folders if Path(folder, one).is_symlink()]
        folders[:] = [one for one in folders if one not in linked]
        for name in (*names, *linked):
            path = Path(folder, name)
            one = _look(path)
            if name == ".git":
                continue
            if one is None:
                yield path.relative_to(root).as_posix(), None
                continue
            count, total = count + 1, total + one[0]
            if count > MOST_FILES or total > MOST_TOTAL:
                raise CheckpointFailed(
                    f"this folder holds more than {MOST_FILES:,} files or {MOST_TOTAL / 1e6:,.0f} MB",
                    next_step="Edits can still be undone; for commands, too, work in a smaller folder",
                )
            yield path.relative_to(root).as_posix(), one


def _look(path: Path) -> _Stat | None:
    """None for what is not kept: not there, no file, too large."""
    try:
        found = path.lstat()
    except OSError:
        return None
    kept = stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_size <= MOST_FILE)
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode) if kept else None


def _read(journal: Path) -> list[Step]:
    try:
        rows = json.loads(journal.read_text(encoding="utf-8"))
        for row in rows:
            row["only"] = None if row.get("only") is None else tuple(row["only"])
            row["undoes"], row["unkept"] = tuple(row.get("undoes", ())), tuple(row.get("unkept", ()))
        return [Step(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointFailed(f"the list of checkpoints is damaged: {error}", where=str(journal)) from None
