"""What changes from day to day, told once before the person's first words: where we are, what lies there, how it stands
in git, and the project's own instructions. Within a budget; git is asked, nothing is changed."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from variet.agent import programs
from variet.agent.workspace import SKIPPED

_MOST_ENTRIES = 80
_MOST_INSTRUCTIONS = 6_000  # characters
_MOST_STATUS = 12  # lines
_MOST_FILES_SHOWN = 12_000  # characters
LANGUAGES = {".py": "python", ".js": "javascript", ".ts": "typescript", ".md": "markdown", ".sh": "bash", ".c": "c",
              ".go": "go", ".rs": "rust", ".java": "java", ".json": "json", ".toml": "toml"}  # fmt: skip
CODE = frozenset(LANGUAGES) - {".md", ".json", ".toml"}
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md")


def preface(root: Path, *, trusted: bool, with_files: bool = False) -> str:
    """Where a folder is not trusted its instructions are left out. `with_files`: what files hold, if that is little;
    then neither where nor when: the smallest models, for whom that is, make nothing of it."""
    here = "" if with_files else f"Workspace: {root}\nDate: {time.strftime('%Y-%m-%d')}\n"
    parts = [
        f"{here}System: {platform.system()}",
        _git(root) if trusted else "",
        (files(root) if with_files else "") or f"Files:\n{tree(root)}",
        instructions(root) if trusted else "",
    ]
    return "<context>\n" + "\n".join(part for part in parts if part) + "\n</context>"


def moment() -> str:
    """Of a question: the day alone."""
    return f"<context>\nDate: {time.strftime('%Y-%m-%d')}\n</context>"


def instructions(root: Path) -> str:
    """The project's own, from the first file of that kind."""
    for name in INSTRUCTIONS:
        try:
            text = (root / name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        cut = f"{text[:_MOST_INSTRUCTIONS]}\n… (read {name} for the rest)" if len(text) > _MOST_INSTRUCTIONS else text
        return f"Instructions of this project ({name}):\n{cut}" if text else ""
    return ""


def files(root: Path, most: int = _MOST_FILES_SHOWN) -> str:
    """All files, whole, as models write them; empty where that is more than so many characters."""
    held = texts(root, most)
    parts = [
        f"{name} (not text)" if text is None
        else f"{name}\n```{LANGUAGES.get(Path(name).suffix, '')}\n{text.rstrip()}\n```"
        for name, text in held.items()
    ]  # fmt: skip
    return "Files, whole:\n\n" + "\n\n".join(parts) if parts else ""


def texts(root: Path, most: int = _MOST_FILES_SHOWN) -> dict[str, str | None]:
    """What all files hold, by path; None for what is no text. Empty where that is more than so many characters."""
    held: dict[str, str | None] = {}
    names = [name for name in tree(root).splitlines() if (root / name).is_file()]
    for name in sorted(names, key=lambda name: not is_test(name)):  # what is to be changed comes last
        path = root / name
        if path.is_symlink():  # it may lead anywhere
            continue
        try:
            held[name] = text = _text(path, most)
        except UnicodeDecodeError:
            held[name] = None
            continue
        except OSError:
            return {}
        if (most := most - len(text)) < 0:
            return {}
    return held


def _text(path: Path, most: int) -> str:
    """Raises UnicodeDecodeError for what is no text; more than so many characters where it is too long."""
    with path.open("rb") as file:
        data = file.read(4 * most + 4)
    if b"\0" in data[:8192]:
        raise UnicodeDecodeError("utf-8", data[:1], 0, 1, "it holds a zero byte")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.end < len(data) or len(data) <= 4 * most:  # else: cut within a character
            raise
        return data.decode(errors="replace")


def code_files(root: Path) -> list[str]:
    """Files of programs that are no tests."""
    return [name for name in tree(root).splitlines() if Path(name).suffix in CODE and not is_test(name)]


def is_test(name: str) -> bool:
    """Whether a path is one of a test, by the customs of most languages."""
    *folders, last = name.split("/")
    return last.startswith(("test_", "conftest.")) or "_test." in last or ".test." in last or "tests" in folders


def tree(root: Path, most: int = _MOST_ENTRIES) -> str:
    """Files breadth first, so that what is near the root is told; folders end with `/`."""
    lines: list[str] = []
    queue = [root]
    left = 0
    while queue:
        folder = queue.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda one: (one.is_dir(follow_symlinks=False), one.name))
        except OSError:
            continue
        for entry in entries:
            if entry.name in SKIPPED or entry.name.startswith(".") or len(entry.name.splitlines()) != 1:
                continue  # a name of several lines would be several names
            deep = entry.is_dir(follow_symlinks=False)
            if len(lines) >= most:
                left += 1
                continue
            lines.append(Path(entry.path).relative_to(root).as_posix() + ("/" if deep else ""))
            if deep:
                queue.append(Path(entry.path))
    more = [f"(and {left} more beside them)"] if left else []
    return "\n".join([*sorted(lines), *more]) or "(none)"


def _git(root: Path) -> str:
    git = programs.find("git", root)
    if git is None:
        return ""
    # It runs outside the sandbox: nothing that a repository's own settings name may run with it.
    settled = ["-c", "core.fsmonitor=false", "-c", "safe.bareRepository=explicit", "-c", "submodule.recurse=false"]
    try:
        done = subprocess.run(
            [git, *settled, "status", "--ignore-submodules=all", "--short", "--branch", "--untracked-files=normal"],
            cwd=root, capture_output=True, timeout=5, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if done.returncode != 0:
        return ""
    lines = done.stdout.splitlines()
    more = [f"(and {len(lines) - _MOST_STATUS} more)"] if len(lines) > _MOST_STATUS else []
    return "Git:\n" + "\n".join([*lines[:_MOST_STATUS], *more])
