"""`variet mcp ...`: the assistant's tools as MCP servers, over standard input and output."""

from __future__ import annotations

import click


@click.group(
    epilog="""\b
Examples:
  variet mcp search                                             as an MCP client starts it
  variet mcp calendar
  variet mcp mail                                               needs a sign-in first: variet auth google
  claude mcp add variet-search -- variet mcp search             in Claude Code
"""
)
def mcp() -> None:
    """Serve the assistant's tools to any client that speaks MCP (docs/assistant.md)."""


@mcp.command()
def search() -> None:
    """Search the web by your SearXNG, and read pages as clean text."""
    from variet.assistant import settings
    from variet.assistant.search.server import server

    server(settings.load().search).run("stdio")


@mcp.command()
def calendar() -> None:
    """Look at your calendars and find free times; create, change and cancel events after your yes."""
    from variet.assistant.calendar.server import server

    server().run("stdio")


@mcp.command()
def mail() -> None:
    """Search and read your mail; send, draft, label and archive after your yes."""
    from variet.assistant.mail.server import server

    server().run("stdio")
