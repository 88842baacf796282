"""`variet ask`: a question, without tools of this machine: the quickest way to an answer. With `--assistant`, one that
may look at the web, mail and calendar for it."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click

from variet.tiers import TIERS


@click.command(
    epilog="""\b
Examples:
  variet ask "what does git rebase --onto do?"
  cat error.log | variet ask "what is wrong here?"
  variet ask --tier deep-logic "prove that there are infinitely many primes"
  variet ask --continue "and in one sentence?"
  variet ask --assistant "what is on tomorrow, and did Ada answer?"

\b
Nothing of this machine is read or changed, but for what is piped in. MCP servers that you configured can be
called (docs/agent.md). An assistant searches the web and reads your mail and calendar; what acts in your name is
shown to you first, and done by your PIN (docs/assistant.md).

Exit code: 0 answered, 1 error, 3 a limit was reached, 130 interrupted.
"""
)
@click.argument("question", required=False)
@click.option("--tier", envvar="VARIET_TIER", help=f"{', '.join(TIERS)}, auto, resident, or a model's name.")
@click.option("--assistant", is_flag=True, help="With web search, mail and calendar.")
@click.option(
    "--continue",
    "go_on",
    is_flag=True,
    help="Go on with the last question of this folder; of the assistant, from anywhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the events, one JSON object a line.")
def ask(question: str | None, tier: str | None, assistant: bool, go_on: bool, as_json: bool) -> None:
    """Ask a QUESTION; what is piped in belongs to it."""
    import asyncio

    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    text = "\n\n".join(part for part in (question or "", piped) if part)
    if not text:
        raise click.UsageError('What do you want to know? Example: variet ask "what does git rebase --onto do?"')
    if assistant:
        working = _assist(text, question or "", tier or "", go_on=go_on, as_json=as_json)
    else:
        working = _run(text, tier or "", go_on=go_on, as_json=as_json)
    sys.exit(asyncio.run(working))


async def _run(text: str, tier: str, *, go_on: bool, as_json: bool) -> int:
    from variet import connection
    from variet.agent import opening, sessions
    from variet.agent.guards import Limits
    from variet.agent.model import EngineModel
    from variet.surfaces.terminal import one_shot

    root = Path.cwd().resolve()
    name = sessions.latest(root, kind="ask") if go_on else None
    if go_on and name is None:
        click.echo("note: nothing was asked in this folder yet; a new conversation begins", err=True)
    present = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    wishes = opening.Wishes(tier, limits=Limits(steps=20), kind="ask")
    model = EngineModel(connection.find())
    conversation = await opening.start(root, model, wishes, "ask", present=present, name=name)
    try:
        for note in conversation.notes:
            click.echo(f"note: {note}", err=True)
        return await one_shot.run(conversation, text, as_json=as_json, verbose=False)
    finally:
        await conversation.close()


async def _assist(text: str, typed: str, tier: str, *, go_on: bool, as_json: bool) -> int:
    """As `_run`, with Variet's own servers; the folder is the person's, wherever they are. `typed`: what of the text is
    the person's own: what is piped in may be anybody's."""
    from variet import connection
    from variet.agent import opening, sessions
    from variet.agent.guards import Limits
    from variet.agent.model import EngineModel
    from variet.assistant.problems import ToolProblem
    from variet.surfaces import assistant
    from variet.surfaces.terminal import one_shot
    from variet.surfaces.terminal.approvals import Decider

    root = Path.home().resolve()
    name = sessions.latest(root, kind="assistant") if go_on else None
    if go_on and name is None:
        click.echo("note: you asked the assistant nothing yet; a new conversation begins", err=True)
    present = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    wishes = opening.Wishes(tier, limits=Limits(steps=40), kind="assistant")
    async with AsyncExitStack() as stack:
        decider = await stack.enter_async_context(Decider()) if present else None
        talk = await stack.enter_async_context(assistant.brokered(name))
        lacks = await talk.lacks()
        if lacks == assistant.SEALED and decider is not None:
            try:
                await decider.open()
            except ToolProblem as problem:  # the web is there without it
                lacks = f"{lacks} ({problem})"
            else:
                lacks = ""
        if lacks:
            click.echo(f"note: {lacks}", err=True)
        await talk.said(typed)
        conversation = await opening.start(
            root, EngineModel(connection.find()), wishes, "ask", present=present, name=name,
            brokered=talk.servers(present=present),
        )  # fmt: skip
        stack.push_async_callback(conversation.close)
        talk.keep(conversation)
        for note in conversation.notes:
            click.echo(f"note: {note}", err=True)
        meanwhile = await talk.meanwhile(conversation)
        await stack.enter_async_context(assistant.followed(talk, conversation))
        return await one_shot.run(
            conversation, text, attached=meanwhile, as_json=as_json, verbose=False, decider=decider
        )
