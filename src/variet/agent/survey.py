"""One walk over a workspace: what programs obey by themselves later, and what a person's rules keep.

A command gets these names read-only where there is a sandbox; after it a second walk tells what came to be or changed.
It reads only; `put_back` undoes what a command did to a repository's own settings.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from variet.agent.workspace import GUARDED, GUARDED_FILES
from variet.errors import ToolFailed

MOST_NAMES = 2_500  # that bubblewrap can hold: it takes 9,000 words
_ANY = "\x01"  # a name that no rule means: a rule that matches it matches every file
_NOT_WALKED = frozenset({".git", "node_modules", ".venv", "venv"})
_MOST_BYTES = 1_000_000  # of a file of git's that is compared
Identity = tuple[int, int]  # of a file: device and inode


@dataclass(frozen=True, slots=True)
class Survey:
    """`repositories`: each `.git` in the workspace; `guarded`: what else is obeyed; both with the file that it is.
    `kept`: what a person's rules refuse to have written. `settings`: what git obeys within each `.git`, by path."""

    repositories: Mapping[Path, Identity] = field(default_factory=dict)
    guarded: Mapping[Path, Identity] = field(default_factory=dict)
    kept: tuple[Path, ...] = ()
    settings: Mapping[Path, bytes] = field(default_factory=dict)

    def names(self) -> int:
        return len(self.repositories) + len(self.guarded) + len(self.kept)


def survey(root: Path, refused: Callable[[str], bool] | None = None) -> Survey:
    """Links are not followed. Raises ToolFailed where there are more names than a sandbox holds: none is left out."""
    repositories: dict[Path, Identity] = {}
    guarded: dict[Path, Identity] = {}
    kept: list[Path] = []
    settings: dict[Path, bytes] = {}
    for folder, folders, names in os.walk(root):
        installed = [
            path for one in folders if one in _NOT_WALKED - {".git"} for path in _git_of_installed(folder, one)
        ]
        for path in (*(Path(folder, name) for name in (*folders, *names)), *installed):
            name = path.name
            if _obeyed(name) or (name in ("venv", ".venv") and (path / "pyvenv.cfg").is_file()):
                with contextlib.suppress(OSError):
                    found = path.lstat()
                    if name != ".git":
                        if not stat.S_ISLNK(found.st_mode):
                            guarded[path] = (found.st_dev, found.st_ino)
                        continue
                    # A link, or a file that names a folder, counts with what it leads to: git obeys that.
                    for git in (path, *_led_to(path, root)):
                        known = git.lstat()
                        repositories[git] = (known.st_dev, known.st_ino)
                        settings.update(_settings(git))
        if refused is not None:
            whole = _kept_of(root, folder, folders, names, refused, kept)
            folders[:] = [one for one in folders if one not in whole]
        folders[:] = [one for one in folders if one not in _NOT_WALKED and not _obeyed(one)]
        if len(repositories) + len(guarded) + len(kept) > MOST_NAMES:
            raise ToolFailed(
                f"this folder has more than {MOST_NAMES:,} names that no command may change: too many for a sandbox",
                next_step="Nothing was run. Work in a smaller folder",
            )
    return Survey(repositories, guarded, tuple(kept), settings)


def _git_of_installed(folder: str, name: str) -> list[Path]:
    """Each `.git` of `node_modules`, of a package in it, and of a package within a scope. These folders are not walked:
    they hold a hundred times as many files as all else."""
    path = Path(folder, name)
    if path.is_symlink():
        return []
    return [git for pattern in (".git", "*/.git", "@*/*/.git") for git in path.glob(pattern)]


def _kept_of(
    root: Path, folder: str, folders: list[str], names: list[str], refused: Callable[[str], bool], kept: list[Path]
) -> list[str]:
    """Adds the refused names of a folder to `kept`. Returns the folders in which every name is refused."""
    here = Path(folder).relative_to(root)
    whole = [one for one in folders if refused((here / one / _ANY).as_posix())]
    single = [one for one in names if refused((here / one).as_posix())]
    kept += [path for path in (Path(folder, one) for one in (*whole, *single)) if not path.is_symlink()]
    return whole


def _obeyed(name: str) -> bool:
    return name.lower() in GUARDED or name.lower() in GUARDED_FILES


def _led_to(git: Path, root: Path) -> list[Path]:
    """Folders within the workspace that a `.git` leads to: as a link, by `gitdir:` in a file, by `commondir` there."""
    found: list[Path] = []
    if git.is_symlink():
        found.append(git.resolve())
    elif git.is_file():
        named = _bytes(git)[2:].decode(errors="replace").strip()
        if named.startswith("gitdir:"):
            found.append((git.parent / named.removeprefix("gitdir:").strip()).resolve())
    for folder in list(found):
        with contextlib.suppress(OSError):
            found.append((folder / (folder / "commondir").read_text(errors="replace").strip()).resolve())
    return [one for one in dict.fromkeys(found) if one.is_dir() and root in one.parents]


def _settings(git: Path) -> Iterator[tuple[Path, bytes]]:
    """What git obeys of a repository, but its objects and references."""
    if git.is_symlink() or git.is_file():
        yield git, _bytes(git)
        return
    single = ["config", "config.worktree", "commondir", "gitdir", "info/attributes", "objects/info/alternates"]
    found = [git / name for name in single]
    for pattern in ("hooks/*", "modules/**/config", "modules/**/hooks/*", "worktrees/*/*"):
        found += [path for path in git.glob(pattern) if pattern != "worktrees/*/*" or path.name in single]
    for path in found:
        if path.is_file() or path.is_symlink():
            yield path, _bytes(path)


def _bytes(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        if path.is_symlink():
            return b"link " + os.fsencode(os.readlink(path))  # noqa: PTH115 - as it is written
        with path.open("rb") as file:
            return (b"x " if os.access(path, os.X_OK) else b"- ") + file.read(_MOST_BYTES)
    return b""


def put_back(before: Survey, after: Survey) -> list[str]:
    """Settings of repositories that were there before stand as before. What was changed, for model and person."""
    lines = []
    for path in sorted({*before.settings, *after.settings}):
        old, new = before.settings.get(path), after.settings.get(path)
        if old == new or not any(git == path or git in path.parents for git in before.repositories):
            continue
        try:
            _restore(path, old)
            lines.append(f"(the command changed {path}, which git obeys: it stands as before)")
        except OSError as error:
            lines.append(f"(the command changed {path}, which git obeys; it cannot be put back: {error.strerror})")
    return lines


def _restore(path: Path, old: bytes | None) -> None:
    if path.is_symlink() or old is None:
        path.unlink(missing_ok=True)
    if old is None or old.startswith(b"link "):
        if old is not None:
            path.symlink_to(os.fsdecode(old.removeprefix(b"link ")))
        return
    if len(old) >= _MOST_BYTES:
        raise OSError(0, "it is too large to have been kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(old[2:])
    path.chmod(0o755 if old.startswith(b"x ") else 0o644)


def changed_settings(before: Survey, after: Survey) -> list[str]:
    """The same without putting anything back: of commands that a person allowed to run without a sandbox."""
    changed = [path for path in {*before.settings, *after.settings}
               if before.settings.get(path) != after.settings.get(path)
               and any(git == path or git in path.parents for git in before.repositories)]  # fmt: skip
    return [f"(the command changed {path}, which git obeys: the user should look at it)" for path in sorted(changed)]


def set_aside(root: Path, before: Survey, after: Survey) -> list[str]:
    """What a command made of the kind that programs obey: repositories get another name, since a mere `git status` of
    the person would obey them. Returns lines for the model and the person."""
    known = {*before.repositories.values(), *before.guarded.values()}
    lines = []
    for path, identity in {**after.repositories, **after.guarded}.items():
        if identity in known or path in before.settings:  # the latter was put back
            continue
        shown = path.relative_to(root)
        if path.name == ".git":
            aside = path.with_name(f"git-made-by-a-command-{identity[1]}")
            with contextlib.suppress(OSError):
                path.rename(aside)
                lines.append(f"({shown} was made by this command: it is {aside.name} now; `git init` alone makes one)")
        else:
            lines.append(f"({shown} was made by this command; other programs obey it: the user should look at it)")
    return lines
