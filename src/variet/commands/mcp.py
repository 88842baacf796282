"""`variet mcp ...`: the assistant's tools as MCP servers, over standard input and output, or HTTP on this machine."""

from __future__ import annotations

import sys

import click

from variet.commands.common import json_option, print_json


@click.group(
    epilog="""\b
Examples:
  variet mcp search                                             as an MCP client starts it
  variet mcp calendar
  variet mcp mail                                               needs a sign-in first: variet auth google
  claude mcp add variet-search -- variet mcp search             in Claude Code
  variet mcp serve                                              over HTTP, for clients that start no programs
"""
)
def mcp() -> None:
    """Serve the assistant's tools to any client that speaks MCP (docs/assistant.md)."""
    from variet.assistant.audit import redaction

    redaction.install()


@mcp.command()
def search() -> None:
    """Search the web by your SearXNG, and read pages as clean text."""
    from variet.assistant import settings
    from variet.assistant.sanitize.sight import sight_for
    from variet.assistant.search.server import server

    wanted = settings.load()
    server(wanted.search, sight_for(wanted.browser)).run("stdio")


@mcp.command()
def calendar() -> None:
    """Look at your calendars and find free times; create, change and cancel events after your yes."""
    from variet.assistant.calendar.server import server

    server().run("stdio")


@mcp.command()
def mail() -> None:
    """Search and read your mail; send, draft, label and archive after your yes."""
    from variet.assistant import settings
    from variet.assistant.mail.server import server
    from variet.assistant.sanitize.sight import sight_for

    server(sight_for(settings.load().browser)).run("stdio")


@mcp.command(
    epilog="""\b
Example:
  variet mcp key add chat-app      prints its key, once
  variet mcp serve
  then, in the client: http://127.0.0.1:8797/mail with the header Authorization: Bearer KEY
"""
)
@click.option("--port", type=click.IntRange(1, 65_535), default=8797, show_default=True)
def serve(port: int) -> None:
    """Serve all three over HTTP on this machine, for clients that cannot start a program.

    At /search, /mail and /calendar. Each client shows a key of its own.
    """
    import socket

    import uvicorn

    from variet.assistant.http import HOST, application
    from variet.assistant.keys import Keys

    keys = Keys()
    if not keys.names():
        raise click.UsageError("No client has a key yet: variet mcp key add NAME")
    app = application(keys, port)
    listening = socket.socket()
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)  # who reads the line below may come at once
    except OSError as error:
        raise click.ClickException(f"port {port} cannot be had ({error.strerror}); take another: --port") from None
    click.echo(f"serving http://{HOST}:{port}/search, /mail and /calendar; Ctrl-C ends", err=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    server.run(sockets=[listening])


@mcp.group(invoke_without_command=True)
@json_option
@click.pass_context
def key(context: click.Context, as_json: bool) -> None:
    """List clients that have a key for `variet mcp serve`; add and remove them."""
    if context.invoked_subcommand is not None:
        return
    from variet.assistant.keys import Keys

    names = Keys().names()
    if as_json:
        print_json(names)
    else:
        click.echo("\n".join(names) or "none: variet mcp key add NAME")


@key.command()
@click.argument("name")
def add(name: str) -> None:
    """Print a key for the client NAME. It is shown once; an old one no longer counts."""
    from variet.assistant.keys import Keys

    click.echo(Keys().add(name))


@key.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take a client's key back."""
    from variet.assistant.keys import Keys

    if not Keys().drop(name):
        raise click.UsageError(f"{name!r} has no key")
    click.echo(f"removed: {name}")
