"""`call_tool`: any tool of the MCP servers that the person configured, through one schema that never changes.

Judged by the inner name; arguments are checked against the schema that the tool told before it is called.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
from pydantic import AliasChoices, Field, field_validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from variet.agent.events import ToolKind
from variet.agent.servers import ForeignTool, Servers
from variet.agent.tools.base import Args, Place, Result
from variet.agent.tools.served import brokered
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed
from variet.policy.action import Sink


class CallToolArgs(Args):
    name: str = Field(validation_alias=AliasChoices("name", "tool", "tool_name"))
    args: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("args", "arguments", "parameters", "input")
    )

    @field_validator("args", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        """Models also write them as a string."""
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return {} if value is None else value


class CallTool:
    name = "call_tool"
    description = "Call a further tool, of those that you were told."
    kind: ToolKind = "other"
    changes = True
    args = CallToolArgs

    def __init__(self, servers: Servers | None = None) -> None:
        self.servers = servers or Servers()

    def sink(self, args: CallToolArgs, workspace: Workspace) -> Sink:
        if args.name.partition(".")[0] in self.servers.brokered:  # its server may still start
            return brokered(args.name)
        tool = self._tool(args.name)
        return Sink(
            "tool", (tool.name,), inside=False, looks=tool.looks, changed=self.servers.changed(tool.name),
            allowed=not self.servers.allowed.isdisjoint({tool.name, f"{tool.name.partition('.')[0]}.*"}),
        )  # fmt: skip

    def summary(self, args: CallToolArgs) -> str:
        given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in args.args.items())
        return f"{args.name}({given[:200]})"

    async def run(self, args: CallToolArgs, place: Place) -> Result:
        await self.servers.joined(args.name.partition(".")[0])
        tool = self._tool(args.name)
        if tool.name.partition(".")[0] not in self.servers.brokered:
            self.servers.accept(tool.name)
        if wrong := _mistake(args.args, tool.schema):
            takes = json.dumps(tool.schema.get("properties", {}), ensure_ascii=False)[:4_000]
            raise ToolFailed(f"{wrong}. {tool.signature} takes {takes}. Nothing was run")
        said, failed = await self.servers.call(tool.name, args.args, place.say)
        return Result(said, failed)

    def _tool(self, name: str) -> ForeignTool:
        """By its whole name, or by the tool's own where that is of one server only."""
        tools = self.servers.tools
        if name in tools:
            return tools[name]
        ours = name.partition(".")[0] in self.servers.brokered  # such a call was let through: it is nobody else's
        hits = [] if ours else [one for key, one in tools.items() if key.partition(".")[2] == name]
        if len(hits) == 1:
            return hits[0]
        servers = self.servers
        none = "none" if servers.joining or servers.failed else "none: the user has configured no server"
        late = [f"{one} still starts" for one in servers.joining]
        lost = [f"{one} cannot be used: {why}" for one, why in servers.failed.items()]
        told = "; ".join([f"there are: {', '.join(sorted(tools)) or none}", *late, *lost])
        raise ToolFailed(f"there is no further tool {name!r}; {told}")


def _mistake(args: dict[str, Any], schema: dict[str, Any]) -> str:
    """What is wrong with arguments, or nothing. References that lead elsewhere are not followed: nothing is fetched."""
    try:
        check = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        error = jsonschema.exceptions.best_match(check(schema, registry=Registry()).iter_errors(args))
    except (jsonschema.SchemaError, Unresolvable, TypeError, ValueError, re.error):
        return ""  # a schema that means nothing: the server will say what it thinks of the arguments
    if error is None:
        return ""
    return f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {error.message}"
