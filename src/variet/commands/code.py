"""`variet code`: the coding agent in this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet.tiers import TIERS

if TYPE_CHECKING:
    from variet.agent.conversation import Conversation
    from variet.policy.action import Mode, Rule


@click.command(
    epilog="""\b
Examples:
  variet code                      a conversation
  variet code "make the failing test pass"
  variet code --mode auto-edit --allow "shell:python -m pytest" "fix the parser"
  git diff | variet code "review this" --mode plan
  variet code --continue "now add a test for it"

\b
Modes: plan changes nothing; ask asks for each edit and command; auto-edit edits inside this folder without asking;
full also runs commands where a sandbox holds. Exit code: 0 done, 1 error, 3 a limit was reached, 130 interrupted.
"""
)
@click.argument("prompt", required=False)
@click.option("--tier", envvar="VARIET_TIER", help=f"{', '.join(TIERS)}, auto, resident, or a model's name.")
@click.option(
    "--mode",
    type=click.Choice(["plan", "ask", "auto-edit", "full"]),
    help="By default ask, or what the session was left in.",
)
@click.option("--allow", multiple=True, metavar="TOOL:PATTERN", help='As "shell:python -m pytest"; may be repeated.')
@click.option("--deny", multiple=True, metavar="TOOL:PATTERN", help='As "write:migrations/*"; may be repeated.')
@click.option("--trust", is_flag=True, help="Trust this folder from now on: its AGENTS.md is read.")
@click.option("--resume", metavar="ID", help="Go on with a session (`variet sessions` lists them).")
@click.option("--continue", "go_on", is_flag=True, help="Go on with the last session of this folder.")
@click.option("--check", metavar="COMMAND", default="", help='Not done until this succeeds, as "python -m pytest -q".')
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="Answers of the model at most.")
@click.option(
    "--profile",
    default="",
    help="native, replayed, preserved, unthinking, blocks, open-blocks; by default what suits the model.",
)
@click.option("--seed", type=int, help="Of the model's choices, for repeatable runs.")
@click.option("--temperature", type=float, help="Of the model's choices.")
@click.option("--json", "as_json", is_flag=True, help="Print the events, one JSON object a line.")
@click.option("--verbose", "-v", is_flag=True, help="Show the results of tools whole.")
def code(
    prompt: str | None, tier: str | None, mode: Mode | None, allow: tuple[str, ...], deny: tuple[str, ...], trust: bool,
    resume: str | None, go_on: bool, check: str, steps: int, profile: str, seed: int | None, temperature: float | None,
    as_json: bool, verbose: bool,
) -> None:  # fmt: skip
    """Work on the files of this folder: read, change, run, until PROMPT is done. Without one: a conversation."""
    import asyncio

    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    text = "\n\n".join(part for part in (prompt or "", piped) if part)
    alone = not text and sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if not text and not alone:
        raise click.UsageError('What is to be done? Example: variet code "make the failing test pass"')
    sampling = {key: value for key, value in (("seed", seed), ("temperature", temperature)) if value is not None}
    if (resume or go_on) and (profile or sampling):
        raise click.UsageError(
            "--profile, --seed and --temperature are a session's from its beginning; start a new one"
        )
    rules = (*_rules(allow, "allow"), *_rules(deny, "deny"))
    sys.exit(
        asyncio.run(
            _run(
                text, tier, mode, rules, trust=trust, resume=resume, go_on=go_on, steps=steps, profile=profile,
                sampling=sampling, as_json=as_json, verbose=verbose, check=check,
            )
        )
    )  # fmt: skip


async def _run(
    text: str, tier: str | None, mode: Mode | None, rules: tuple[Rule, ...], *, trust: bool, resume: str | None,
    go_on: bool, steps: int, profile: str, sampling: dict[str, float], as_json: bool, verbose: bool, check: str,
) -> int:  # fmt: skip
    from variet import connection
    from variet.agent import opening, sessions
    from variet.agent import trust as trusting
    from variet.agent.guards import Limits
    from variet.agent.host.client import release
    from variet.agent.model import EngineModel
    from variet.surfaces.terminal import one_shot

    root = Path.cwd().resolve()
    if trust:
        trusting.trust(root)
    present = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    name = resume or (sessions.latest(root) if go_on else None)
    if go_on and name is None:
        click.echo("note: there is no session of this folder yet; a new one begins", err=True)
    wishes = opening.Wishes(tier or "", profile, Limits(steps=steps), sampling, check)

    async def opened_anew(name: str | None, mode: Mode | None) -> Conversation:
        if name is not None:
            await release(sessions.find(name).name)
        model = EngineModel(connection.find())
        return await opening.start(root, model, wishes, mode, rules, present=present, name=name)

    conversation = await opened_anew(name, mode)
    if not text:
        from variet.surfaces.terminal.interactive import Terminal

        return await Terminal(conversation, opened_anew, trusted=lambda: trusting.trust(root)).run()
    try:
        for note in conversation.notes:
            click.echo(f"note: {note}", err=True)
        return await one_shot.run(conversation, text, as_json=as_json, verbose=verbose)
    finally:
        await conversation.close()


_TOOLS = ("edit", "list", "plan", "read", "search", "shell", "task", "write")


def _rules(given: tuple[str, ...], answer: str) -> list[Rule]:
    from variet.policy.action import Rule

    rules = []
    for one in given:
        tool, _, pattern = one.partition(":")
        if tool.strip() not in _TOOLS and not set(".*") & set(tool):
            raise click.UsageError(
                f"--{answer} {one}: there is no tool {tool!r}; there are: {', '.join(_TOOLS)}, SERVER.TOOL"
            )
        rules.append(Rule(f"--{answer} {one}", tool.strip(), pattern.strip(), answer))  # type: ignore[arg-type]
    return rules
