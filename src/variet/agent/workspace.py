"""One folder of a person's files: paths that stay inside, whole reads and atomic writes, and what the model has seen.

It decides nothing about permission: `inside` says where a path leads, links followed; `policy` judges that.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from variet.agent.events import Diff
from variet.errors import ToolFailed

_LINE_END = re.compile(r"\r?\n")
_MOST_FOLDERS = 2_000  # that are searched for programs
MOST_BYTES = 10_000_000  # of a file that is read as text
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text with \\n line ends, and how to write it back as it was."""

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""  # of its byte order, before the text
    newline: str = "\n"  # of most lines
    sha256: str | None = None
    ends: tuple[str, ...] = ()  # of each line, where they differ

    def encode(self, text: str) -> bytes:
        """Raises ToolFailed where the file's encoding cannot say it."""
        with_ends = text
        if self.ends:
            lines = text.replace("\r\n", "\n").split("\n")
            with_ends = "".join(map("".join, zip(lines, self._ends_of(lines), strict=True)))
        elif self.newline != "\n":
            with_ends = text.replace("\r\n", "\n").replace("\n", self.newline)
        try:
            return self.mark + with_ends.encode(self.encoding)
        except UnicodeEncodeError as error:
            raise ToolFailed(
                f"the file is {self.encoding}, which cannot hold {error.object[error.start : error.end]!r}"
            ) from None

    def _ends_of(self, lines: Sequence[str]) -> list[str]:
        """Those of a changed text, of its last line none: the first and the last lines, as far as they stayed, keep
        theirs; so do as many lines between as there were, and others end as most do."""
        before = self.text.split("\n")
        least = min(len(before), len(lines))
        head = next((at for at in range(least) if before[at] != lines[at]), least)
        tail = next((at for at in range(least - head) if before[-1 - at] != lines[-1 - at]), least - head)
        ends = [*self.ends, ""]
        between = ends[head : len(ends) - tail]
        if len(between) != len(lines) - head - tail:
            between = [self.newline] * (len(lines) - head - tail)
        ends = [*ends[:head], *between, *ends[len(ends) - tail :]]
        return [*(end or self.newline for end in ends[:-1]), ""]


class Workspace:
    """`root` is absolute and resolved. Paths from a model are relative to it, or absolute."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)
        self._seen: dict[Path, str | None] = {}  # sha256 of what the model has read or written; None: no such file

    def resolve(self, path: str) -> Path:
        """Where a path leads, links followed. Raises ToolFailed for what is no path."""
        if not path or "\0" in path:
            raise ToolFailed("a path is needed", next_step='For the workspace itself say "."')
        try:
            given = Path(path).expanduser() if path == "~" or path.startswith("~/") else Path(path)
            return (given if given.is_absolute() else self.root / given).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ToolFailed(f"{path} leads nowhere ({error})") from None

    def inside(self, path: Path) -> bool:
        return path == self.root or self.root in path.parents

    def guarded(self, path: Path) -> bool:
        """Whether something obeys this file by itself later: git, direnv, editors, agents, forges."""
        parts = [part.lower() for part in (path.relative_to(self.root).parts if self.inside(path) else path.parts)]
        name = path.name.lower()
        venv = {".venv", "venv"} & set(parts)
        return bool(venv or GUARDED & set(parts)) or name in GUARDED_FILES or name.endswith(".code-workspace")

    def kept_from_writing(self, path: Path) -> str:
        """Why a person is asked before this file is written, in any mode: its owner may not write it, or it has other
        names. Empty where nothing speaks against it."""
        try:
            found = path.stat()
        except OSError:
            return ""
        if not stat.S_ISREG(found.st_mode):
            return ""
        if not found.st_mode & stat.S_IWUSR:
            return f"{self.show(path)} is read-only"
        return f"{self.show(path)} is one file with {found.st_nlink - 1} other names" if found.st_nlink > 1 else ""

    def show(self, path: Path) -> str:
        """As people and models read it: relative where it is inside, with `/` everywhere."""
        return path.relative_to(self.root).as_posix() if self.inside(path) else str(path)

    def read(self, path: Path) -> Text:
        """Raises ToolFailed for a file that is not there, too large or not text."""
        data = self._bytes(path)
        mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
        if encoding == "utf-8" and b"\0" in data[:8192]:
            raise ToolFailed(f"{self.show(path)} is not text ({len(data):,} bytes)")
        try:
            text = data[len(mark) :].decode(encoding)
        except UnicodeDecodeError:
            mark, encoding = b"", "latin-1"  # every byte is a character of it: writing back changes nothing else
            text = data.decode(encoding)
        both, longer = text.count("\n"), text.count("\r\n")
        newline = "\r\n" if longer * 2 > both else "\n"
        ends = tuple(_LINE_END.findall(text)) if 0 < longer < both else ()
        if longer:
            text = text.replace("\r\n", "\n")
        digest = hashlib.sha256(data).hexdigest()
        return Text(text, encoding, mark, newline, digest, ends)

    def saw_all(self, shown: Iterable[str]) -> None:
        """These files were shown as they are."""
        for name in shown:
            with contextlib.suppress(ToolFailed):
                path = self.resolve(name)
                self.saw(path, self.read(path).sha256)

    def saw(self, path: Path, sha256: str | None) -> None:
        """The model knows this state of the file."""
        self._seen[path] = sha256

    def knows(self, path: Path) -> bool:
        """Whether the model has read or written this file."""
        return path in self._seen

    def write(self, path: Path, text: str, before: Text | None) -> Diff:
        """Replace the whole file in one step; `before` is what it is expected to hold (None: nothing).

        Raises ToolFailed where somebody else changed it meanwhile, or where it cannot be written; nothing changed then.
        """
        shape = before or Text("")
        data = shape.encode(text)
        now = self._digest(path)
        if now != (before.sha256 if before else None):
            raise ToolFailed(
                f"{self.show(path)} was changed by somebody else meanwhile; nothing was written",
                next_step="Read it again",
            )
        try:
            replace_file(path, data)
        except OSError as error:
            raise ToolFailed(f"{self.show(path)} cannot be written: {error.strerror or error}") from None
        after = hashlib.sha256(data).hexdigest()
        self.saw(path, after)
        name = self.show(path)
        return Diff(path=name, before_sha256=now, after_sha256=after, patch=patch(name, shape.text, text))

    def changed_since_seen(self, path: Path) -> bool:
        """Whether somebody else changed a file that the model knows."""
        return path in self._seen and self._digest(path) != self._seen[path]

    def _digest(self, path: Path) -> str | None:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ToolFailed(f"{self.show(path)} cannot be read: {error.strerror or error}") from None

    def _bytes(self, path: Path) -> bytes:
        shown = self.show(path)
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise ToolFailed(f"{shown} is a folder", next_step="Use `list` for it")
            if not stat.S_ISREG(status.st_mode):
                raise ToolFailed(f"{shown} is no regular file")
            if status.st_size > MOST_BYTES:
                raise ToolFailed(f"{shown} has {status.st_size:,} bytes; at most {MOST_BYTES:,} are read")
            return path.read_bytes()
        except FileNotFoundError:
            raise ToolFailed(f"there is no file {shown}", next_step=self._near(path)) from None
        except OSError as error:
            raise ToolFailed(f"{shown} cannot be read: {error.strerror or error}") from None

    def named(self, name: str, most: int = 3) -> list[Path]:
        """Files of that name, wherever they lie."""
        found: list[Path] = []
        for folder, folders, files in os.walk(self.root):
            folders[:] = [one for one in folders if not one.startswith(".") and one not in SKIPPED]
            if name in files:
                found.append(Path(folder, name))
            if len(found) >= most:
                break
        return found

    def python_files(self, most: int = 400) -> Iterator[tuple[str, str]]:
        """(path as shown, text) of the first so many, without those of hidden folders and what tools make."""
        left = most
        for count, (folder, folders, files) in enumerate(os.walk(self.root)):
            if count > _MOST_FOLDERS:
                return
            folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in SKIPPED)
            for path in (Path(folder, name) for name in sorted(files) if name.endswith(".py")):
                left -= 1
                if left < 0:
                    return
                with contextlib.suppress(ToolFailed):
                    yield self.show(path), self.read(path).text

    def _near(self, path: Path) -> str:
        """Files of that name elsewhere, or of a similar one there."""
        same = [self.show(one) for one in self.named(path.name)]
        with contextlib.suppress(OSError):
            same += difflib.get_close_matches(path.name, os.listdir(path.parent), 3)  # noqa: PTH208 - names are wanted
        return f"Did you mean {' or '.join(dict.fromkeys(same))}?" if same else "Use `list` to see what is there"


# What something obeys by itself later: git and forges, editors, agents, shells that enter a folder, hooks of commits.
GUARDED = frozenset(
    {".git", ".vscode", ".idea", ".claude", ".openclaude", ".github", ".gitlab", ".husky", ".zed", ".forgejo", ".gitea",
     ".circleci", ".devcontainer", ".cursor", ".codex", ".gemini", ".continue", ".opencode", ".qwen", ".nvim", ".mise",
     ".fleet", ".windsurf", ".roo", ".kiro"}
)  # fmt: skip
GUARDED_FILES = frozenset(
    {".envrc", ".gitmodules", ".gitattributes", ".gitconfig", ".mcp.json", "agents.md", "claude.md", "gemini.md",
     ".gitlab-ci.yml", "jenkinsfile", ".pre-commit-config.yaml", ".exrc", ".nvimrc", ".nvim.lua", ".vimrc", ".lvimrc",
     ".mise.toml", "mise.toml", ".tool-versions", ".cursorrules", ".windsurfrules", ".travis.yml",
     "azure-pipelines.yml",
     "lefthook.yml", ".lefthook.yml", ".dir-locals.el", "opencode.json", ".aider.conf.yml"}
)  # fmt: skip
SKIPPED = frozenset({"node_modules", "__pycache__", "venv", ".venv", "dist", "build", "target", ".git"})


def lines_of(text: str) -> list[str]:
    """Lines as `read`, `edit`, patches and git count them: they end with \\n alone. Form feeds and what else Unicode
    takes for a line end are characters of a line."""
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


def patch(name: str, before: str, after: str) -> str:
    """A unified diff."""
    old, new = ([f"{line}\n" for line in lines_of(text)] for text in (before, after))
    for text, lines in ((before, old), (after, new)):
        if lines and not text.endswith("\n"):
            lines[-1] = lines[-1][:-1]
    changed = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in changed)


def replace_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Atomic, on disk before it is renamed, with the mode of the file it replaces; a file with other names is written
    in its place, so that they stay names of it. Raises OSError, leaving nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_symlink() and path.stat().st_nlink > 1:
        _write_in_place(path, data)
        return
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_in_place(path: Path, data: bytes) -> None:
    before = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.write_bytes(before)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
