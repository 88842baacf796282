"""`search`: lines that match a pattern, by ripgrep where it is installed, else by Python; ignored files left out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import AliasChoices, Field

from variet import processes
from variet.agent import programs
from variet.agent.events import ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed
from variet.policy.action import Sink

_MOST = 100  # lines
_MOST_LINE = 240  # characters
_MOST_S = 20.0
_RIPGREP = ("--no-config", "--line-number", "--no-heading", "--color=never", "--max-count=50", "--sort=path",
            "--max-columns", str(_MOST_LINE), "--max-columns-preview", "--max-filesize=1M")  # fmt: skip


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
        ripgrep = programs.find("rg", place.workspace.root)
        found = await _lines([ripgrep, *_RIPGREP, *_of(args), "--", str(path)], place) if ripgrep else None
        if found is None:
            scan = [sys.executable, "-I", "-m", "variet.agent.scan", args.pattern, str(path), args.glob]
            found = await _lines(scan, place) or []
        if not found:
            return Result("no line matches")
        more = f"\n(at least {len(found)} lines; narrow the pattern or the path)" if len(found) > _MOST else ""
        return Result("\n".join(found[:_MOST]) + more)


def _of(args: SearchArgs) -> list[str]:
    return [*([f"--glob={args.glob}"] if args.glob else []), "--regexp", args.pattern]


async def _lines(command: list[str], place: Place) -> list[str] | None:
    """What a program finds, as `path:number:line`, with a limit of time. None: the pattern is not one for it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        **processes.leash().spawn_options(),
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
