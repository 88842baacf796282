"""`variet config`: check a configuration, show its path or its JSON Schema."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from variet.commands.common import chosen_config, config_option, json_option, own_config, print_json


@click.group()
def config() -> None:
    """Check the configuration, say where it lies, or print its schema."""


@config.command()
@config_option
@json_option
def check(config_path: Path | None, as_json: bool) -> None:
    """Name every mistake of the file by its JSON path. Exit code 1 if there is one."""
    from variet.engine import config_file
    from variet.errors import ConfigError

    path = chosen_config(config_path)
    try:
        config_file.load(path)
    except ConfigError as error:
        if not as_json:
            raise
        print_json([asdict(mistake) for mistake in error.mistakes])
        sys.exit(1)
    if as_json:
        print_json([])
    else:
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
    from variet.engine import config_file

    print_json(config_file.json_schema())
