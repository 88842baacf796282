"""`search`: lines that match a pattern, by ripgrep where it is installed, else by Python; ignored files left out."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices, Field

from variet.agent.events import ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import SKIPPED, Workspace
from variet.errors import ToolFailed
from variet.policy.action import Sink

_MOST = 100  # lines
_MOST_LINE = 240  # characters
_MOST_FILE = 1_000_000  # bytes of a file that Python looks through
_MOST_S = 20.0


class SearchArgs(Args):
    pattern: str = Field(description="Regular expression", validation_alias=AliasChoices("pattern", "query", "regex"))
    path: str = Field(".", validation_alias=AliasChoices("path", "directory", "dir", "folder"))
    glob: str = Field("", description="As *.py", validation_alias=AliasChoices("glob", "include", "file_pattern"))


class Search:
    name = "search"
    description = "Find lines in files."
    kind: ToolKind = "search"
    changes = False
    args = SearchArgs

    def sink(self, args: SearchArgs, workspace: Workspace) -> Sink:
        path = workspace.resolve(args.path)
        return Sink("read", (workspace.show(path),), inside=workspace.inside(path))

    def summary(self, args: SearchArgs) -> str:
        return f"search {args.pattern!r}" + (f" in {args.path}" if args.path != "." else "")

    async def run(self, args: SearchArgs, place: Place) -> Result:
        path = place.workspace.resolve(args.path)
        if not path.exists():
            raise ToolFailed(f"there is no {args.path}", next_step="Use `list` to see what is there")
        ripgrep = shutil.which("rg")
        found = await _ripgrep(ripgrep, args, path, place) if ripgrep else None
        if found is None:
            found = await asyncio.to_thread(_by_python, args, path, place.workspace)
        if not found:
            return Result("no line matches")
        more = f"\n(at least {len(found)} lines; narrow the pattern or the path)" if len(found) > _MOST else ""
        return Result("\n".join(found[:_MOST]) + more)


async def _ripgrep(program: str, args: SearchArgs, path: Path, place: Place) -> list[str] | None:
    """None: the pattern is not one for ripgrep."""
    command = [
        program,
        "--no-config",
        "--line-number",
        "--no-heading",
        "--color=never",
        "--max-count=50",
        "--sort=path",
    ]
    command += ["--max-columns", str(_MOST_LINE), "--max-columns-preview", "--max-filesize=1M"]
    command += [f"--glob={args.glob}"] if args.glob else []
    process = await asyncio.create_subprocess_exec(
        *command, "--regexp", args.pattern, "--", str(path),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(_MOST_S):
            async for raw in process.stdout:
                name, _, rest = raw.decode(errors="replace").rstrip("\n").partition(":")
                lines.append(f"{place.workspace.show(Path(name))}:{rest}")
                if len(lines) > _MOST:
                    break
            else:
                if await process.wait() > 1:
                    return None
    except TimeoutError:
        lines.append(f"(stopped after {_MOST_S:.0f} s)")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return lines


def _by_python(args: SearchArgs, path: Path, workspace: Workspace) -> list[str]:
    try:
        pattern = re.compile(args.pattern)
    except re.error:
        pattern = re.compile(re.escape(args.pattern))
    found: list[str] = []
    deadline = time.monotonic() + _MOST_S
    for file in _files(path, args.glob):
        if time.monotonic() > deadline:
            return [*found, f"(stopped after {_MOST_S:.0f} s)"]
        try:
            if file.is_symlink() or file.stat().st_size > _MOST_FILE:
                continue
            data = file.read_bytes()
        except OSError:
            continue
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if pattern.search(line[:2000]):
                found.append(f"{workspace.show(file)}:{number}:{line[:_MOST_LINE]}")
                if len(found) > _MOST:
                    return found
    return found


def _files(path: Path, glob: str) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(one for one in folders if one not in SKIPPED and not one.startswith("."))
        for name in sorted(names):
            if not glob or fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(str(Path(folder, name)), f"*{glob}"):
                yield Path(folder, name)
