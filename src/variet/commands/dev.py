"""`variet dev`: what helps to write clients and tests."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def dev() -> None:
    """Tools for whoever develops with Variet."""


@dev.command(
    epilog="""\b
Example:
  echo '{"answers": [{"say": "Hello."}]}' > script.json
  variet dev scripted-model script.json --port 8765
  VARIET_ENGINE_URL=http://127.0.0.1:8765 variet code "say hello"
"""
)
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default="any that is free")
def scripted_model(script: Path, host: str, port: int) -> None:
    """Serve a model that answers as SCRIPT says (JSON; docs/agent.md has its fields)."""
    from variet.dev.scripted_model import serve

    serve(script, host, port, say=lambda text: click.echo(text))
