"""`variet status`: what runs, what waits, what memory is left; once, or as it happens."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json
from variet.errors import VarietError

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "missing": "red",
    "failed": "red",
    "pulling": "cyan",
}
_STAGES = {"load": "loads", "prefill": "reads", "pull": "is fetched", "restore": "is brought back"}


@click.command(
    epilog="""\b
Examples:
  variet status --watch             stays, and shows what happens
  variet status --watch --json      one JSON object a line for each event
"""
)
@click.option("--watch", is_flag=True, help="Stay, and show what happens as it happens; Ctrl-C ends it.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show tiers, instances, memory, requests and running pulls of the engine."""
    if watch:
        _watch(as_json)
        return
    answer = client.call("GET", "/engine/status").json()
    if as_json:
        print_json(answer)
        return
    from rich.console import Console

    Console().print(_picture(answer))


def _watch(as_json: bool) -> None:
    if as_json:
        for kind, data in client.events("/engine/events"):
            click.echo(json.dumps({"event": kind, "data": data}))
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        raise VarietError("--watch draws on a terminal", next_step="For programs: variet status --watch --json")
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        try:
            for kind, data in client.events("/engine/events"):
                if kind == "status":
                    live.update(_picture(data), refresh=True)
        except KeyboardInterrupt:
            return


def _picture(answer: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    table = Table(
        "tier", "model", "state", "context", title=f"Variet Engine at {client.engine_url()}", title_justify="left"
    )
    for tier, row in answer["tiers"].items():
        table.add_row(tier, row["model"], _state(row["state"]), f"{row['context_length']:,}")
    parts: list[RenderableType] = [table, *_memory(answer), *_requests(answer["requests"])]
    if answer["swaps"]:
        last = answer["swaps"][-1]
        phases = ", ".join(f"{name} {ms / 1000:.1f}" for name, ms in last["phases_ms"].items() if ms >= 50)
        parts.append(f"last swap: {last['model']} in {sum(last['phases_ms'].values()) / 1000:.1f} s ({phases})")
    for one in answer["instances"]:
        if one["phase"] == "starting":
            parts.append(f"{one['model']} loads: {_bar(one['progress'] or 0.0, 1.0)} {one['progress'] or 0.0:.0%}")
    ahead = answer["prefetch"]
    if ahead and ahead["total"]:
        parts.append(f"{ahead['model']} is read ahead ({ahead['why']}): {_bar(ahead['bytes'], ahead['total'])}")
    for one in answer["commands"]:
        busy = sum(each["leases"] for each in answer["instances"] if each["phase"] == "draining")
        parts.append(f"{one['kind']} {one['model']} waits{f' for {busy} answers to end' if busy else ''}")
    for tier, row in answer["tiers"].items():
        if row["problem"] and row["state"] in ("failed", "missing"):
            parts.append(f"[red]{tier}[/]: {row['problem']}")
    for name, pull in answer["pulls"].items():
        if not pull["done"]:
            parts.append(f"pull {name}: {pull['problem'] or _share(pull)}")
    return Group(*parts)


def _memory(answer: dict[str, Any]) -> list[RenderableType]:
    used: dict[str, int] = {}
    for one in answer["instances"]:
        for device, amount in one["memory_mib"].items():
            used[device] = used.get(device, 0) + amount
    return [
        f"{device:<6} {_bar(used.get(device, 0), capacity)} {used.get(device, 0):,} of {capacity:,} MiB planned"
        for device, capacity in answer["capacity_mib"].items()
    ]


def _requests(requests: dict[str, Any]) -> list[RenderableType]:
    active = requests["active"]
    lines: list[RenderableType] = [
        f"requests: {len(active)} active, {requests['waiting']} waiting, {requests['done']} done"
    ]
    for one in active:
        progress = one["progress"] or {}
        since = f"{time.time() - one['began_at']:.0f} s"
        lines.append(f"  {one['id']:>6} {one['tier'] or one['model']:<11} {_stage(one, progress)}  ({since})")
    return lines


def _stage(request: dict[str, Any], progress: dict[str, Any]) -> str:
    """Where a request stands, in words and, where there is a share, as a bar."""
    stage: str = progress.get("stage", "")
    percent = progress.get("percent")
    if stage == "answer":
        speed = f", {request['tokens_per_s']:g} a second" if request["tokens_per_s"] else ""
        return f"answers: {request['output_tokens']} tokens{speed}"
    if stage == "queue":
        reason = f": {progress['reason']}" if progress.get("reason") else ""
        return f"waits at place {progress.get('position', '?')}{reason}"
    words = _STAGES.get(stage, stage)
    if percent is None:
        return words
    left = f", {progress['left_ms'] / 1000:.0f} s left" if progress.get("left_ms") else ""
    return f"{words} {_bar(percent, 100)} {percent:.0f}%{left}"


def _state(state: str) -> str:
    return f"[{_COLOURS[state]}]{state}[/]" if state in _COLOURS else state


def _bar(amount: float, capacity: float, width: int = 24) -> str:
    filled = round(width * min(1.0, amount / capacity)) if capacity else 0
    return "█" * filled + "░" * (width - filled)


def _share(pull: dict[str, Any]) -> str:
    so_far = f"{pull['bytes'] / 1e6:,.0f} MB"
    return f"{pull['file']} {so_far}" + (f" of {pull['total'] / 1e6:,.0f} MB" if pull["total"] else "")
