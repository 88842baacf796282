"""`variet config`: check a configuration, show its path or its JSON Schema."""

from __future__ import annotations

from pathlib import Path

import click

from variet.commands.common import chosen_config, config_option, own_config, print_json


@click.group()
def config() -> None:
    """Check, show or describe the configuration."""


@config.command()
@config_option
def check(config_path: Path | None) -> None:
    """Name every mistake of the file by its JSON path."""
    from variet.engine import config as configuration

    path = chosen_config(config_path)
    configuration.load(path)
    click.echo(f"{path}: no mistakes")


@config.command()
@config_option
@click.option("--own", is_flag=True, help="Where your own configuration belongs, there or not.")
def path(config_path: Path | None, own: bool) -> None:
    """Print which file is in force."""
    click.echo(own_config() if own else chosen_config(config_path))


@config.command()
def schema() -> None:
    """Print the JSON Schema, for completion in editors."""
    from variet.engine import config as configuration

    print_json(configuration.json_schema())
