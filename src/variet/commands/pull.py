"""`variet pull`: fetch and verify model files before they are needed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from variet import paths
from variet.commands.common import chosen_config, config_option


@click.command(
    epilog="""\b
Examples:
  variet pull fast               the files of one tier
  variet pull --all              all five tiers and side models
"""
)
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every model that a tier or side model needs.")
@config_option
def pull(names: tuple[str, ...], everything: bool, config_path: Path | None) -> None:
    """Fetch the model files of NAMES (tiers, models or aliases); what is there and verified is not fetched again."""
    from variet.engine import config_file
    from variet.engine.names import Names, UnknownName
    from variet.engine.pulls import Pull, missing_models
    from variet.engine.pulls import pull as fetch

    config = config_file.load(chosen_config(config_path))
    if everything == bool(names):
        raise click.UsageError("name what to pull, or use --all")
    try:
        resolved = [Names(config).resolve(name).model for name in names]
    except UnknownName as error:
        raise click.UsageError(f"there is no {error.name!r}; there are: {', '.join(error.known)}") from None
    wanted = config.used_models() if everything else {name: config.model(name) for name in dict.fromkeys(resolved)}
    folder = paths.models_dir()
    absent = missing_models(wanted, folder)
    failed = False

    async def run() -> None:
        nonlocal failed
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            for name in absent:
                state, bar = Pull(), progress.add_task(name, total=None)
                work = asyncio.create_task(fetch(name, wanted[name], folder, state))
                while not work.done():
                    progress.update(bar, completed=state.so_far, total=state.total)
                    await asyncio.wait([work], timeout=0.2)
                problem = work.result()
                failed = failed or problem is not None
                progress.update(bar, completed=state.so_far, total=state.so_far)
                click.echo(f"{name}: {problem or 'ready'}")

    asyncio.run(run())
    for name in wanted:
        if name not in absent:
            click.echo(f"{name}: already there")
    sys.exit(1 if failed else 0)
