"""A small MCP server on the official SDK, for tests: `python mcp_server.py [--http PORT]`. What it says of `greet` can
be changed by the environment."""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("greeter")


async def greet(name: str, loud: bool = False) -> str:
    return f"hello {name}{'!' * 3 if loud else ''}"


async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


async def fail() -> str:
    raise ValueError("it went wrong")


async def end() -> str:
    os._exit(3)


server.add_tool(greet, description=os.environ.get("GREET", "Greets someone."))
server.add_tool(slow, description="Sleeps.", annotations=ToolAnnotations(readOnlyHint=True))
server.add_tool(fail, description="Fails.")
server.add_tool(end, description="Ends the server.")

if __name__ == "__main__":
    if "--http" in sys.argv:
        server.run("streamable-http", port=int(sys.argv[-1]))
    else:
        server.run("stdio")
