"""`write`: a whole file, new or replaced."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from variet.agent.events import ToolKind
from variet.agent.tools import lint
from variet.agent.tools.base import Args, Place, Result
from variet.agent.workspace import Text, Workspace, lines_of, patch
from variet.errors import ToolFailed
from variet.policy.action import Sink


class WriteArgs(Args):
    path: str = Field(validation_alias=AliasChoices("path", "file_path", "file", "filename", "filePath"))
    content: str = Field(validation_alias=AliasChoices("content", "contents", "text", "file_text", "code"))


class Write:
    name = "write"
    description = "Create a file, or replace all of it."
    kind: ToolKind = "edit"
    changes = True
    args = WriteArgs

    def sink(self, args: WriteArgs, workspace: Workspace) -> Sink:
        path = workspace.resolve(args.path)
        return Sink("write", (workspace.show(path),), inside=workspace.inside(path), guarded=workspace.guarded(path),
                    protected=workspace.kept_from_writing(path))  # fmt: skip

    def summary(self, args: WriteArgs) -> str:
        return f"write {args.path} ({args.content.count(chr(10)) + 1} lines)"

    def preview(self, args: WriteArgs, workspace: Workspace) -> str:
        path = workspace.resolve(args.path)
        return patch(workspace.show(path), workspace.read(path).text if path.exists() else "", args.content)

    async def run(self, args: WriteArgs, place: Place) -> Result:
        workspace = place.workspace
        path = workspace.resolve(args.path)
        before: Text | None = None
        if path.exists():
            before = workspace.read(path)
            if workspace.changed_since_seen(path):
                raise ToolFailed(
                    f"{args.path} was changed by somebody else since you read it", next_step="Read it again first"
                )
            if before.text == args.content:
                workspace.saw(path, before.sha256)
                return Result(f"{args.path} holds exactly that already; nothing was changed")
        diff = workspace.write(path, args.content, before)
        wrong = lint.left(workspace, path, args.content, before.text if before else None)
        lines = len(lines_of(args.content))
        return Result(f"wrote {diff.path}: {lines} lines" + (f"\n{wrong}" if wrong else ""), diffs=(diff,))
