"""`list`: what lies in a folder; folders end with `/`, ignored and hidden things are counted only."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import AliasChoices, Field

from variet.agent.events import ToolKind
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import SKIPPED, Workspace
from variet.errors import ToolFailed
from variet.policy.action import Sink

_MOST = 200


class ListArgs(Args):
    path: str = Field(".", validation_alias=AliasChoices("path", "directory", "dir", "folder", "dir_path"))


class List:
    name = "list"
    description = "List a folder."
    kind: ToolKind = "read"
    changes = False
    args = ListArgs

    def sink(self, args: ListArgs, workspace: Workspace) -> Sink:
        path = workspace.resolve(args.path)
        return Sink("read", (workspace.show(path),), inside=workspace.inside(path))

    def summary(self, args: ListArgs) -> str:
        return f"list {args.path}"

    async def run(self, args: ListArgs, place: Place) -> Result:
        path = place.workspace.resolve(args.path)
        try:
            entries = await asyncio.to_thread(_entries, path)
        except NotADirectoryError:
            raise ToolFailed(f"{args.path} is a file", next_step="Use `read` for it") from None
        except OSError as error:
            raise ToolFailed(f"{args.path} cannot be listed: {error.strerror or error}") from None
        names = [f"{one.name}/" if one.is_dir() else one.name for one in entries if one.name not in SKIPPED]
        left = len(entries) - len(names)
        more = [f"({len(names) - _MOST} more)"] if len(names) > _MOST else []
        more += [f"({left} not shown: {', '.join(sorted(one.name for one in entries if one.name in SKIPPED))})"] * (
            left > 0
        )
        return Result("\n".join([*names[:_MOST], *more]) or "(the folder is empty)")


def _entries(path: Path) -> list[Path]:
    return sorted(path.iterdir(), key=lambda one: (one.is_file(), one.name))
