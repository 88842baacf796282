"""What a tool is: a name, typed arguments, what it would do (for the policy), and how it does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from variet.agent.events import Diff, EventBase, ToolKind
from variet.agent.workspace import Workspace
from variet.policy.action import Sink

A = TypeVar("A", bound="Args")


class Args(BaseModel):
    """Arguments of a tool. Forgiving about names that other tools use for the same thing, and about extra ones."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


@dataclass(frozen=True, slots=True)
class Result:
    """`content` is what the model reads."""

    content: str
    failed: bool = False
    diffs: tuple[Diff, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What a tool has to work with. `say`: a piece of output as it comes, for people. `tell`: an event of a helper.
    `refused`: whether a person's rules refuse that a path is written, where there are such rules."""

    workspace: Workspace
    say: Callable[[str], None] = lambda _: None
    call_id: str = ""
    tell: Callable[[EventBase], None] = lambda _: None
    refused: Callable[[str], bool] | None = None


class Tool(Protocol, Generic[A]):
    """`changes`: whether it may change anything; those that do not run side by side."""

    name: str
    description: str
    kind: ToolKind
    changes: bool
    args: type[A]

    def sink(self, args: A, workspace: Workspace) -> Sink:
        """What it would do, for the policy. Raises ToolFailed for arguments that mean nothing."""
        ...

    def summary(self, args: A) -> str:
        """One line for people."""
        ...

    async def run(self, args: A, place: Place) -> Result:
        """Raises ToolFailed with words for the model."""
        ...


AnyTool = Tool[Any]


@runtime_checkable
class Previews(Protocol):
    """A tool that can show beforehand what it would change."""

    def preview(self, args: Any, workspace: Workspace) -> str:
        """A unified diff. Raises ToolFailed where it could not be done: nobody need be asked for that."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A tool that leaves something running: processes, connections."""

    async def close(self) -> None: ...


class Job(BaseModel):
    """A command in the background. `exit_code`: None while it runs; `output`: the end of what it said."""

    number: int
    command: str
    exit_code: int | None
    output: str


@runtime_checkable
class HasJobs(Protocol):
    """A tool that keeps commands in the background."""

    def jobs(self) -> list[Job]: ...

    async def stop_job(self, number: int) -> bool:
        """Whether a command of this number ran, and was ended."""
        ...


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a session, by name, sorted, and the names that models use for them elsewhere."""

    tools: Mapping[str, AnyTool]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether one of them may change files."""
        return any(tool.kind == "edit" for tool in self.tools.values())

    def find(self, name: str) -> AnyTool | None:
        bare = name.strip().removeprefix("functions.").removeprefix("default_api.")
        tool = self.tools.get(bare) or self.tools.get(bare.lower())
        return tool or self.tools.get(self.aliases.get(bare.lower(), ""))

    def takes(self, name: str, args: dict[str, Any]) -> bool:
        """Whether there is such a tool, and these are arguments for it."""
        tool = self.find(name)
        with contextlib.suppress(ValidationError):
            return tool is not None and bool(tool.args.model_validate(args))
        return False

    def schemas(self) -> list[dict[str, Any]]:
        """As Chat Completions wants them, sorted by name: these bytes never change within a session."""
        return [
            {
                "type": "function",
                "function": {"name": name, "description": tool.description, "parameters": schema(tool.args)},
            }
            for name, tool in sorted(self.tools.items())
        ]


async def close_all(tools: Toolbox) -> None:
    """End whatever tools left running."""
    for tool in tools.tools.values():
        if isinstance(tool, Closes):
            await tool.close()


def schema(args: type[Args]) -> dict[str, Any]:
    """A JSON Schema without what costs tokens and says nothing: titles, defaults, null branches."""
    full = args.model_json_schema(by_alias=False)
    lean: dict[str, Any] = _lean(
        {key: full[key] for key in ("type", "properties", "required") if key in full}, full.get("$defs", {})
    )
    return lean


def _lean(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_lean(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _lean(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in node:
        kept = [one for one in node["anyOf"] if one.get("type") != "null"]
        if len(kept) == 1:
            return _lean({**kept[0], **{key: value for key, value in node.items() if key != "anyOf"}}, definitions)
    if node.get("type") == "object" and "properties" in node:
        inner = {name: _lean(one, definitions) for name, one in node["properties"].items()}
        return {"type": "object", "properties": inner, **{k: node[k] for k in ("required",) if node.get(k)}}
    return {key: _lean(value, definitions) for key, value in node.items() if key not in ("title", "default")}
