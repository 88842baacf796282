"""`variet acp`: the coding agent for editors that speak the Agent Client Protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet.tiers import TIERS

if TYPE_CHECKING:
    from variet.agent.conversation import Conversation
    from variet.agent.settings import ServerSettings
    from variet.policy.action import Mode


@click.command(
    epilog="""\b
An editor starts this and speaks the Agent Client Protocol (version 1) with it over standard input and output. How Zed,
JetBrains and Neovim are set up: docs/editors.md.
"""
)
@click.option("--tier", envvar="VARIET_TIER", help=f"Of new sessions: {', '.join(TIERS)}, auto, or a model's name.")
@click.option(
    "--mode", type=click.Choice(["plan", "ask", "auto-edit", "full"]), help="Of new sessions; by default ask."
)
@click.option("--trust", is_flag=True, help="Trust every folder that the editor opens: its AGENTS.md is read.")
def acp(tier: str | None, mode: Mode | None, trust: bool) -> None:
    """Serve the coding agent to an editor, over standard input and output."""
    import asyncio

    if sys.stdin.isatty():
        raise click.UsageError("An editor starts this; docs/editors.md says how. In a terminal: `variet code`.")

    from variet import connection
    from variet.agent import opening, sessions
    from variet.agent import trust as trusting
    from variet.agent.host.client import release
    from variet.agent.model import EngineModel
    from variet.surfaces.acp.agent import serve

    async def open_session(root: Path, name: str | None, servers: dict[str, ServerSettings]) -> Conversation:
        if trust:
            trusting.trust(root)
        if name is not None:
            await release(sessions.find(name).name)
        model = EngineModel(connection.find())
        return await opening.start(
            root,
            model,
            opening.Wishes(tier or ""),
            mode if name is None else None,
            present=True,
            name=name,
            servers=servers,
        )

    asyncio.run(serve(open_session))
