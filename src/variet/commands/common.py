"""What several commands share: where the configuration is, and output for people or programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from variet import paths

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    return click.option(
        "--config", "config_path", type=click.Path(path_type=Path), envvar="VARIET_ENGINE_CONFIG",
        help="Configuration file (VARIET_ENGINE_CONFIG). By default your own, else the embedded small models.",
    )(command)  # fmt: skip


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def chosen_config(given: Path | None) -> Path:
    """The file that was named, else the owner's own, else the embedded default."""
    if given is not None:
        return given
    own = own_config()
    return own if own.is_file() else embedded_config()


def own_config() -> Path:
    return paths.config_dir() / "engine_models.json"


def embedded_config() -> Path:
    """In a wheel it lies inside the package, in a checkout in config/."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "engine" / "embedded_models.json"
    return inside if inside.is_file() else package.parent.parent / "config" / "embedded_models.json"


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
