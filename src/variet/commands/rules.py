"""`variet rules`: what the agent may always do, must always ask for, or may never do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from variet.commands.common import json_option, print_json


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  variet rules                                  those that count in this folder
  variet rules add "shell:python -m pytest"     allow a command with any further words, in this folder and below
  variet rules add --deny "write:migrations/*"
  variet rules add "search.*"                   all tools of the MCP server `search`
  variet rules remove 2
""",
)
@click.option("--all", "everywhere", is_flag=True, help="Of every folder, not only of this one.")
@json_option
@click.pass_context
def rules(context: click.Context, everywhere: bool, as_json: bool) -> None:
    """List, add and remove standing answers for the agent. They are kept in your own state, never in a project."""
    if context.invoked_subcommand is not None:
        return
    from variet.agent.rules import kept

    here = Path.cwd().resolve()
    folders = {str(one) for one in (here, *here.parents)}
    found = [(number, one) for number, one in enumerate(kept(), 1) if everywhere or one.folder in folders]
    if as_json:
        print_json([{"number": number, **one.model_dump()} for number, one in found])
        return
    if not found:
        click.echo("no rules" + ("" if everywhere else " for this folder; --all lists those of others"))
    for number, one in found:
        click.echo(f"{number:>3}  {one}" + (f"  in {one.folder}" if everywhere or one.folder != str(here) else ""))


@rules.command()
@click.argument("rule", metavar="TOOL[:PATTERN]")
@click.option("--deny", "answer", flag_value="deny", help="Never.")
@click.option("--ask", "answer", flag_value="ask", help="Ask, in every mode.")
@click.option("--allow", "answer", flag_value="allow", default="allow", help="Without asking (the default).")
def add(rule: str, answer: Literal["allow", "ask", "deny"]) -> None:
    """Add a rule for sessions of this folder and of those below it."""
    from variet.agent.rules import Kept, keep

    tool, _, pattern = rule.partition(":")
    if not tool.strip():
        raise click.UsageError('Which tool? Example: variet rules add "shell:git commit"')
    one = Kept(folder=str(Path.cwd().resolve()), tool=tool.strip(), pattern=pattern.strip(), answer=answer)
    keep(one)
    click.echo(f"kept: {one}")


@rules.command()
@click.argument("number", type=int)
def remove(number: int) -> None:
    """Remove a rule by its number."""
    from variet.agent.rules import drop

    try:
        click.echo(f"removed: {drop(number)}")
    except IndexError:
        raise click.UsageError(f"there is no rule {number}; `variet rules --all` lists them") from None
