"""A stranger's MCP server, for tests: it keeps what it is told in the file NOTES, and says of itself what SAYS says."""

from __future__ import annotations

import os
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("notes")


async def add(text: str) -> str:
    kept(text)
    return os.environ.get("ANSWERS", "kept")


def kept(text: str) -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(f"{text}\n")


async def look() -> str:
    return os.environ.get("ANSWERS", "nothing is kept")


server.add_tool(add, description=os.environ.get("SAYS", "Keeps a note."))
if "NAME" in os.environ:
    server.add_tool(add, name=os.environ["NAME"])
server.add_tool(look, description="Shows the notes.", annotations=ToolAnnotations(readOnlyHint=True))

if __name__ == "__main__":
    server.run("stdio")
