"""`read`: a file's text with line numbers, or a part of it."""

from __future__ import annotations

import asyncio

from pydantic import AliasChoices, Field

from variet.agent.events import ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Workspace, lines_of
from variet.errors import ToolFailed
from variet.policy.action import Sink

_MOST_LINES = 400
_MOST_LINE = 1000  # characters of a line
_MOST = 24_000  # characters of an answer


class ReadArgs(Args):
    path: str = Field(validation_alias=AliasChoices("path", "file_path", "file", "filename", "filePath"))
    start: int = Field(
        1, description="First line", ge=0, validation_alias=AliasChoices("start", "offset", "start_line")
    )
    lines: int = Field(_MOST_LINES, ge=1, validation_alias=AliasChoices("lines", "limit", "count"))


class Read:
    name = "read"
    description = "Read a text file."
    kind: ToolKind = "read"
    changes = False
    args = ReadArgs

    def sink(self, args: ReadArgs, workspace: Workspace) -> Sink:
        path = workspace.resolve(args.path)
        return Sink("read", (workspace.show(path),), inside=workspace.inside(path))

    def summary(self, args: ReadArgs) -> str:
        return f"read {args.path}" + (f" from line {args.start}" if args.start > 1 else "")

    async def run(self, args: ReadArgs, place: Place) -> Result:
        path = place.workspace.resolve(args.path)
        found = await asyncio.to_thread(place.workspace.read, path)
        place.workspace.saw(path, found.sha256)
        lines = lines_of(found.text)
        first = max(1, args.start)
        if not lines:
            return Result("(the file is empty)")
        if first > len(lines):
            raise ToolFailed(f"{args.path} has {len(lines)} lines; there is no line {first}")
        out: list[str] = []
        length = 0
        for number in range(first, min(len(lines), first - 1 + min(args.lines, _MOST_LINES)) + 1):
            line = lines[number - 1]
            if len(line) > _MOST_LINE:
                line = f"{line[:_MOST_LINE]} … ({len(line):,} characters)"
            length += len(line)
            if out and length > _MOST:
                break
            out.append(f"{number:>5}  {line}")
        last = first - 1 + len(out)
        more = f"\n({len(lines)} lines; go on with start={last + 1})" if last < len(lines) else ""
        return Result("\n".join(out) + more)
