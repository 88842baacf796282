"""`variet up`: start the engine here and say how to use it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet.commands.common import chosen_config, config_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from variet.engine.engine import Engine
    from variet.engine.fleet import Moment


@click.command(
    epilog="""\b
Examples:
  variet up                                   small real models, ready in seconds
  variet up --config config/engine_models.json
  variet up --port 9000 --verbose
"""
)
@config_option
@click.option("--host", help="Address to listen on; by default $.server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; by default $.server.port. 0 takes a free one.")
@click.option("-v", "--verbose", is_flag=True, help="Tell every request and load here, too.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="What is written to stderr.")
def up(config_path: Path | None, host: str | None, port: int | None, verbose: bool, log_format: str) -> None:
    """Start Variet Engine on this machine and serve until Ctrl-C.

    Missing models are fetched behind the running engine; a request for one waits for it. `variet logs` shows what the
    engine wrote down.
    """
    try:
        from variet.engine import logs, serve
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"this machine has no engine installed ({error.name} is missing); run `pip install 'variet[engine]'`"
        ) from None
    listener = logs.start(verbose=verbose, as_json=log_format == "json")
    try:
        code = serve.run(chosen_config(config_path), host=host, port=port, audience=_Terminal())
    finally:
        listener.stop()
    sys.exit(code)


_watchers: set[asyncio.Task[None]] = set()


class _Terminal:
    """What a person sees of a running engine: where it listens, what its first models do, and its end."""

    def ready(self, engine: Engine, urls: Sequence[str], authority: Path | None) -> None:
        told: set[str] = set()

        def tell(moment: Moment) -> None:
            if moment.kind == "loaded" and moment.model not in told and moment.ms is not None:
                told.add(moment.model)
                tiers = [tier for tier, spec in engine.config.tiers.items() if spec.model == moment.model]
                click.echo(f"{moment.model} is ready after {moment.ms / 1000:.1f} s ({', '.join(tiers)})", err=True)

        engine.tell = tell
        _greet(engine, urls, authority)

    def stopping(self, answers: int, seconds: float) -> None:
        if answers:
            many = "1 answer" if answers == 1 else f"{answers} answers"
            click.echo(f"stopping: {many} may finish for {seconds:g} s; Ctrl-C again cuts", err=True)


def _greet(engine: Engine, urls: Sequence[str], authority: Path | None) -> None:
    url = urls[0]
    click.echo(f"Variet Engine listens on {url}   (Ctrl-C stops it)")
    for further in urls[1:]:
        click.echo(f"               also on  {further}")
    click.echo(f"dashboard      {url}/")
    click.echo(f"configuration  {engine.config_path}")
    click.echo(f"llama-server   {engine.servers[None].version} from {engine.servers[None].origin}")
    width = max(len(tier) for tier in engine.config.tiers)
    for tier, spec in engine.config.tiers.items():
        state = engine.view.state_of(spec.model)
        click.echo(f"  {tier:<{width}}  {spec.model}  {'' if state == 'unloaded' else state}".rstrip())
    body = '{"model":"fast","stream":true,"messages":[{"role":"user","content":"Say hello."}]}'
    trust = f'--cacert {authority} -H "Authorization: Bearer $VARIET_API_KEY" ' if authority else ""
    click.echo(f"try:  curl {trust}{url}/v1/chat/completions -d '{body}'")
    if authority:
        click.echo("`variet pair` lets another machine in", err=True)
    sys.stdout.flush()
    if engine.puller.pulls:
        task = asyncio.create_task(_show_pulls(engine))
        _watchers.add(task)
        task.add_done_callback(_watchers.discard)


async def _show_pulls(engine: Engine) -> None:
    """Progress bars on a terminal, a line per model elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    pulls = engine.puller.pulls
    if not console.is_terminal:
        told: set[str] = set()
        while len(told) < len(pulls):
            await asyncio.sleep(0.2)
            for name, pull in pulls.items():
                if name not in told and (pull.done or pull.problem):
                    told.add(name)
                    click.echo(f"{name}: {pull.problem or 'ready'}", err=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(name, total=None) for name in pulls}
        while not all(pull.done or pull.problem for pull in pulls.values()):
            for name, pull in pulls.items():
                progress.update(bars[name], completed=pull.so_far, total=pull.so_far if pull.done else pull.total)
            await asyncio.sleep(0.2)
    for name, pull in pulls.items():
        click.echo(f"{name}: {pull.problem or 'ready'}", err=True)
