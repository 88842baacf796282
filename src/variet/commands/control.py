"""`variet swap|load|unload|reload|logs`: wishes to a running engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json
from variet.errors import ConnectionFailed, VarietError


def _wish(kind: str, model: str, as_json: bool, **extra: Any) -> None:
    began = time.monotonic()

    def ask() -> Any:
        return client.call("POST", f"/engine/{kind}", {"model": model, **extra}, timeout_s=None).json()

    if as_json:
        print_json(ask())
        return
    answer = _with_progress(ask)
    click.echo(f"{kind} {answer['model']}: done in {time.monotonic() - began:.1f} s")


def _with_progress(ask: Callable[[], Any]) -> Any:
    """Carry `ask` out while a person sees what leaves and what loads: bars on a terminal, lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said: set[str] = set()

        def say(moving: dict[str, dict[str, Any]]) -> None:
            for line in {_bar(name, one)["description"] for name, one in moving.items()} - said:
                said.add(line)
                click.echo(line, err=True)

        return _watched(ask, say, every_s=1.0)  # nothing is said of what is done within a second
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def draw(moving: dict[str, dict[str, Any]]) -> None:
            for name in {*moving, *bars}:
                if name not in bars:
                    bars[name] = progress.add_task(name, total=1.0)
                progress.update(bars[name], **_bar(name, moving.get(name)))

        return _watched(ask, draw, every_s=0.25)


def _watched(ask: Callable[[], Any], show: Callable[[dict[str, dict[str, Any]]], None], every_s: float) -> Any:
    """The result of `ask`; until it is there, `show` gets the instances that are not simply ready, by model."""
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(ask)
        while not wait([pending], timeout=every_s).done:
            instances = client.call("GET", "/engine/status").json()["instances"]
            show({one["model"]: one for one in instances if one["phase"] != "ready"})
        return pending.result()


def _bar(name: str, instance: dict[str, Any] | None) -> dict[str, Any]:
    """Description and share of one model's bar; a model that is on its way no more is done."""
    if instance is None:
        return {"description": f"{name} done", "completed": 1.0}
    if instance["phase"] == "starting":
        return {"description": f"{name} loads ({instance['stage']})", "completed": instance["progress"], "total": 1.0}
    running = f": {instance['leases']} still answering" if instance["leases"] else ""
    return {"description": f"{name} {instance['phase']}{running}", "total": None}


@click.command(epilog="Example: variet swap deep-coder")
@click.argument("model")
@json_option
def swap(model: str, as_json: bool) -> None:
    """Make MODEL (a tier, model or alias) resident. Running answers finish first; new requests wait behind it."""
    _wish("swap", model, as_json)


@click.command(epilog="Example: variet load fast")
@click.argument("model")
@json_option
def load(model: str, as_json: bool) -> None:
    """Load MODEL beside what is resident, if it fits; nothing is evicted."""
    _wish("load", model, as_json)


@click.command(epilog="Example: variet unload ultra --now")
@click.argument("model")
@click.option("--now", is_flag=True, help="Cut running answers instead of letting them finish.")
@json_option
def unload(model: str, now: bool, as_json: bool) -> None:
    """Unload MODEL after its running answers are done."""
    _wish("unload", model, as_json, now=now)


@click.command(epilog="Example: variet prefetch deep-coder")
@click.argument("model")
@json_option
def prefetch(model: str, as_json: bool) -> None:
    """Read the file of MODEL into memory ahead: it is wanted soon, and loads quicker then. Nothing is unloaded."""
    answer = client.call("POST", "/engine/prefetch", {"model": model}).json()
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{model} is read ahead" if answer["prefetch"] else f"{model} is loaded already")


@click.command()
@json_option
def reload(as_json: bool) -> None:
    """Take the changed configuration in without dropping a request; a broken one is refused."""
    answer = client.call("POST", "/engine/config/reload").json()
    if as_json:
        print_json(answer)
    else:
        changed = ", ".join(answer["changed"]) or "no model changed"
        click.echo(f"reloaded {answer['reloaded']}: {changed}")
        for key in answer["needs_restart"]:
            click.echo(f"{key} changed: it holds from the next `variet up` on", err=True)


@click.command(
    epilog="""\b
Examples:
  variet logs                             what the engine did
  variet logs qwen2.5-coder-1.5b -n 50    what that model's llama-server said
"""
)
@click.argument("model", default="engine")
@click.option("-n", "--lines", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How many lines.")
def logs(model: str, lines: int) -> None:
    """Show the end of the engine's own log, or of the llama-server log of MODEL (a tier, model or alias).

    Where no engine runs, what the last one on this machine wrote is shown; MODEL is then a model's own name.
    """
    try:
        text = client.call("GET", f"/engine/logs/{model}?lines={lines}").text
    except ConnectionFailed:
        text = _left_here(model, lines)
    click.echo(text, nl=False)


def _left_here(model: str, lines: int) -> str:
    from variet import paths

    folder = paths.state_dir() / "logs"
    known = sorted(path.stem for path in folder.glob("*.log") if not path.stem.endswith(".1"))
    if model not in known:
        there = f"there are: {', '.join(known)}" if known else "there are none yet"
        raise VarietError(f"no engine runs, and it left no log of {model!r} here", where=str(folder), next_step=there)
    text = (folder / f"{model}.log").read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:]) + "\n"
