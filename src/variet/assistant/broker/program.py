"""The broker's own copy of Variet, which nobody but root can change: what its person can write must not run as it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import variet
from variet.assistant.broker.account import Account
from variet.errors import VarietError

_EXTRA = "agent"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^]]*)\])?")
_OF_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([^'\"]+)['\"]")
_HOMES = ("/home/", "/root/", "/run/user/")  # ProtectHome= of its service
_SKIPPED = ("__pycache__", ".pyc", "direct_url.json")

# What a Python is made of, as it sees itself: all that is mapped once it did what the broker does, and its library.
_PARTS = """
import ctypes, json, os, sqlite3, ssl, sys, sysconfig
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
mapped = {path for path in mapped if os.path.isfile(path)}
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "parts": sorted({os.path.realpath(sys.executable), *mapped,
        *(os.path.realpath(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))}),
}))
"""

# Run as somebody: the first of the paths, or what they lie in, or lies in them, that this user can write to.
_WRITABLE = """
import json, os, sys
def first(paths):
    for path in paths:
        around = path
        while True:
            if os.access(around, os.W_OK):
                return around
            if around == "/":
                break
            around = os.path.dirname(around)
        for folder, folders, files in os.walk(path):
            for name in [*folders, *files]:
                inside = os.path.join(folder, name)
                if os.access(inside, os.W_OK):
                    return inside
    return ""
print(json.dumps(first(json.load(sys.stdin))))
"""


def sound_python(chosen: Path | None, owner: Account) -> Path:
    """A Python of this one's version that `owner` can run, and no part of which they can change.

    `chosen`: by a person; else the one below this environment is tried, and the system's. Raises VarietError.
    """
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    tried = [chosen] if chosen else [Path(sys.base_prefix) / "bin" / name, Path("/usr/bin") / name]
    reasons = []
    for one in tried:
        why = _unsound(one, owner)
        if not why:
            return one.resolve()
        reasons.append(f"{one}: {why}")
    raise VarietError(
        f"no Python here that {owner.name} cannot change: {'; '.join(reasons)}",
        next_step=f"Install the system's own {name} and name it: --python PATH",
    )


def _unsound(python: Path, owner: Account) -> str:
    """Why the broker should not run on it; empty: it may."""
    try:
        told = owner.run([str(python), "-I", "-c", _PARTS])
        found = json.loads(told.stdout)
    except FileNotFoundError:
        return "is not there"
    except PermissionError:
        return f"{owner.name} cannot run it"
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "does not run, or lacks sqlite3 or ssl"
    if tuple(found["version"]) != sys.version_info[:2]:
        return f"is of another version than {sys.version_info[0]}.{sys.version_info[1]}, for which Variet is here"
    if at_home := [part for part in found["parts"] if part.startswith(_HOMES)]:
        return f"lies in a home ({at_home[0]}), which the broker does not see"
    if why := others_can_change(found["parts"]):
        return why
    told = owner.run([str(python), "-I", "-c", _WRITABLE], json.dumps(found["parts"]))
    writable = str(json.loads(told.stdout or '"?"'))
    return f"{owner.name} can change {writable}" if writable else ""


def others_can_change(paths: Iterable[str], *, inside: bool = True) -> str:
    """Who else than root may write to one of them or to what it lies in, by owner and mode; empty: nobody. `inside`:
    nor to what lies in it."""
    for path in map(Path, paths):
        within = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
        for one in (path, *path.parents, *(within if inside else ())):
            status = one.lstat()
            if stat.S_ISLNK(status.st_mode):
                continue
            if status.st_uid != 0:
                return f"{one} is user id {status.st_uid}'s"
            if status.st_mode & stat.S_ISVTX:
                continue  # whoever may write there changes nothing of root's
            if status.st_mode & stat.S_IWOTH:
                return f"everybody can change {one}"
            if status.st_mode & stat.S_IWGRP and (members := _members(status.st_gid)):
                return f"{', '.join(members)} can change {one}, by its group"
    return ""


def _members(gid: int) -> list[str]:
    """Of a group, but for root."""
    import grp
    import pwd

    try:
        named = grp.getgrgid(gid).gr_mem
    except KeyError:
        named = []
    return sorted({*named, *(one.pw_name for one in pwd.getpwall() if one.pw_gid == gid)} - {"root"})


def install(python: Path, folder: Path) -> None:
    """Variet with all it needs, from where it runs now, as an environment of `python`; replaces what was there at once.

    Raises VarietError, OSError; then what was there is as it was.
    """
    new, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    for one in (new, old):
        shutil.rmtree(one, ignore_errors=True)
    try:
        new.mkdir(mode=0o700)  # nobody looks in before it is whole
        _run([str(python), "-I", "-m", "venv", "--without-pip", "--symlinks", str(new)])
        [site] = (new / "lib").glob("python*/site-packages")
        for name in needed(f"variet[{_EXTRA}]"):
            _copied(metadata.distribution(name), site)
        _copy(Path(variet.__file__).parent, site / "variet")  # an editable installation lists no files
        start = new / "bin" / "variet"
        start.write_text(f"#!{folder}/bin/python -I\nfrom variet.cli import main\n\nmain()\n")
        _run([str(new / "bin" / "python"), "-I", "-m", "compileall", "-q", "-j", "0", "-s", str(new), "-p",
              str(folder), str(site)])  # fmt: skip
        _readable(new)
        start.chmod(0o755)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for one in (new, old):
            shutil.rmtree(one, ignore_errors=True)


def needed(requirement: str) -> list[str]:
    """The distributions that are here for it, without those for other systems or unwanted extras. Raises VarietError
    where it is not here itself."""
    found: dict[str, set[str]] = {}

    def look(requirement: str, *, must: bool) -> None:
        match = _REQUIREMENT.match(requirement)
        assert match is not None, requirement
        name, extras = _normal(match[1]), {_normal(one) for one in _NAME.findall(match[2] or "")}
        if name in found and extras <= found[name]:
            return
        try:
            requires = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            if must:
                raise VarietError(f"{name} is not installed here", next_step="Run: make setup-client") from None
            return
        found[name] = found.get(name, set()) | extras
        for line in requires:
            of = {_normal(extra) for extra in _OF_EXTRA.findall(line)}
            if not of or of & found[name]:
                look(line, must=False)

    look(requirement, must=True)
    return sorted(found)


def _normal(name: str) -> str:
    """PEP 503: of distributions, and by PEP 685 of extras."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _copied(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or []:
        if ".." in file.parts or file.is_absolute() or file.name.endswith(".pth") or _skipped(file.parts):
            continue  # scripts; paths that would lead elsewhere
        if file.parts[0] == "variet":
            continue
        source, target = Path(str(distribution.locate_file(file))), site / file
        if not os.path.lexists(source):
            continue
        _plain(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
        shutil.copymode(source, target)


def _copy(source: Path, target: Path) -> None:
    for file in _files(source):
        _plain(file)
        to = target / file.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to, follow_symlinks=False)


def _files(folder: Path) -> Iterator[Path]:
    found = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return (path for path in found if not _skipped(path.relative_to(folder).parts))


def _skipped(parts: Iterable[str]) -> bool:
    return any(part.endswith(_SKIPPED) for part in parts)


def _plain(file: Path) -> None:
    """A link would have root read for its maker what they cannot read."""
    if file.is_symlink() or not file.is_file():
        raise VarietError("is no plain file", where=str(file), next_step="Set the environment up anew")


def _readable(folder: Path) -> None:
    """By everybody, and written by root alone, whatever the umask is."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd="/")
    if done.returncode:
        raise VarietError(
            f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-2000:]}",
            next_step="Mend what it says, then install again: what was there before is as it was",
        )
