"""`variet explain`: which tier `auto` takes for a prompt, and why."""

from __future__ import annotations

import json
from typing import Any, TextIO

import click

from variet.commands import client
from variet.commands.common import json_option, print_json

_EXAMPLES = """\b
Examples:
  variet explain "why does this test deadlock?"
  variet explain --request 17          why request 17 was answered by that tier
  variet explain --file chat.json      a whole request, as a client would send it
"""


@click.command(epilog=_EXAMPLES)
@click.argument("prompt", required=False)
@click.option("--file", "file", type=click.File(encoding="utf-8"), help="A request's JSON body; - reads it from stdin.")
@click.option("--request", "name", help="A request that was made: its number, or the name its client gave it.")
@click.option("--rules", is_flag=True, help="Print the rules in force, to copy into $.auto and change.")
@json_option
def explain(prompt: str | None, file: TextIO | None, name: str | None, rules: bool, as_json: bool) -> None:
    """Show which tier the name `auto` stands for with PROMPT, what rule says so, and what each tier would cost now."""
    if rules:
        print_json(client.call("GET", "/engine/explain").json())
        return
    if sum(one is not None for one in (prompt, file, name)) != 1:
        raise click.UsageError("give a PROMPT, --file, --request or --rules")
    if name is not None:
        _explain_request(name, as_json=as_json)
        return
    answer = client.call("POST", "/engine/explain", {"prompt": prompt} if file is None else _read(file)).json()
    if as_json:
        print_json(answer)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{answer['tier']}[/bold] ({answer['model']})", highlight=False)
    console.print(answer["reason"], highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tier")
    for column in ("load", "way back", "read", "write", "lacks", "sum"):
        table.add_column(column, justify="right")
    for one in answer["options"]:
        mark = "bold" if one["tier"] == answer["tier"] else ""
        if one["problem"]:
            table.add_row(one["tier"], *[""] * 5, "-", style="dim")
            continue
        keys = ("load_s", "back_s", "read_s", "write_s", "lack_s", "total_s")
        table.add_row(one["tier"], *(_seconds(one[key]) for key in keys), style=mark)
    console.print(table)
    for one in answer["options"]:
        if one["problem"]:
            console.print(f"{one['tier']} cannot answer this: {one['problem']}", highlight=False, markup=False)


def _explain_request(name: str, *, as_json: bool) -> None:
    row = client.call("GET", f"/engine/requests/{name}").json()
    if as_json:
        print_json({key: row[key] for key in ("id", "number", "tier", "model", "reason")})
    elif row["reason"]:
        click.echo(f"{row['tier']} ({row['model']})\n{row['reason']}")
    else:
        click.echo(f"{row['tier'] or row['model']}: its client asked for it by name")


def _read(file: TextIO) -> dict[str, Any]:
    try:
        body = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise click.UsageError(f"{file.name} has no JSON object in it")
    return body


def _seconds(value: float) -> str:
    return "" if not value else f"{value:.1f} s"
