"""`variet status`: what runs, what waits, what memory is left."""

from __future__ import annotations

from typing import Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show tiers, instances, memory, queue and running pulls of the engine."""
    answer = client.call("GET", "/engine/status").json()
    if as_json:
        print_json(answer)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        "tier",
        "model",
        "state",
        "context",
        title=f"Variet Engine at {client.engine_url()}",
        title_justify="left",
    )
    for tier, row in answer["tiers"].items():
        table.add_row(tier, row["model"], _state(row["state"]), f"{row['context_length']:,}")
    console.print(table)
    used: dict[str, int] = {}
    for one in answer["instances"]:
        for device, amount in one["memory_mib"].items():
            used[device] = used.get(device, 0) + amount
    for device, capacity in answer["capacity_mib"].items():
        amount = used.get(device, 0)
        console.print(f"{device:<6} {_bar(amount, capacity)} {amount:,} of {capacity:,} MiB planned")
    waiting = answer["waiting"]
    console.print(
        f"requests: {answer['requests']['active']} active, {len(waiting)} waiting, {answer['requests']['done']} done"
    )
    if answer["swaps"]:
        last = answer["swaps"][-1]
        phases = ", ".join(f"{name} {ms / 1000:.1f}" for name, ms in last["phases_ms"].items() if ms >= 50)
        console.print(f"last swap: {last['model']} in {sum(last['phases_ms'].values()) / 1000:.1f} s ({phases})")
    for one in answer["commands"]:
        busy = sum(each["leases"] for each in answer["instances"] if each["phase"] == "draining")
        console.print(f"{one['kind']} {one['model']} waits{f' for {busy} answers to end' if busy else ''}")
    for tier, row in answer["tiers"].items():
        if row["problem"] and row["state"] in ("failed", "missing"):
            console.print(f"[red]{tier}[/]: {row['problem']}")
    for name, pull in answer["pulls"].items():
        if not pull["done"]:
            console.print(f"pull {name}: {pull['problem'] or _share(pull)}")


def _state(state: str) -> str:
    colours = {
        "ready": "green",
        "starting": "yellow",
        "draining": "yellow",
        "missing": "red",
        "failed": "red",
        "pulling": "cyan",
    }
    return f"[{colours[state]}]{state}[/]" if state in colours else state


def _bar(amount: int, capacity: int, width: int = 24) -> str:
    filled = round(width * min(1.0, amount / capacity)) if capacity else 0
    return "█" * filled + "░" * (width - filled)


def _share(pull: dict[str, Any]) -> str:
    so_far = f"{pull['bytes'] / 1e6:,.0f} MB"
    return f"{pull['file']} {so_far}" + (f" of {pull['total'] / 1e6:,.0f} MB" if pull["total"] else "")
