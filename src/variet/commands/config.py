"""`variet config`: check a configuration, show its path or its JSON Schema."""

from __future__ import annotations

from pathlib import Path

import click

from variet.commands.common import chosen_config, config_option, print_json


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
def path(config_path: Path | None) -> None:
    """Print which file is in force."""
    click.echo(chosen_config(config_path))


@config.command()
def schema() -> None:
    """Print the JSON Schema, for completion in editors."""
    from variet.engine import config as configuration

    print_json(configuration.json_schema())
