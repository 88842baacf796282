"""`variet plan`: where each tier will run, and why."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from variet import paths
from variet.commands.common import chosen_config, config_option, json_option, print_json


@click.command()
@config_option
@click.option("--described", is_flag=True, help="Plan for the machine that $.hardware describes instead of this one.")
@json_option
def plan(config_path: Path | None, described: bool, as_json: bool) -> None:
    """Show GPUs, split, memory against capacity, expected load time, and which tiers can live together.

    Files that are not here yet are planned from their headers, read from their source by HTTP range.
    """
    from variet.engine import config_file, hardware
    from variet.engine.plan import make_plan
    from variet.engine.pulls import missing_models
    from variet.engine.sources.remote import remote_facts
    from variet.errors import VarietError
    from variet.tiers import TIERS

    config = config_file.load(chosen_config(config_path))
    machine = hardware.describe(config.hardware) if described else hardware.detect(config.hardware)
    if machine.origin == "described" and not described:
        click.echo("this machine has no GPU that can be asked: planning for the described one", err=True)
        machine = hardware.describe(config.hardware)
    facts = {}
    for name in missing_models(config.all_models(), paths.models_dir()):
        try:
            read = remote_facts(config.model(name))
        except VarietError as error:
            click.echo(f"{name}: {error}", err=True)
            continue
        if read is not None:
            facts[name] = read
    made = make_plan(config, machine, paths.models_dir(), facts)
    tiers = {tier: config.tiers[tier].model for tier in TIERS}
    if as_json:
        print_json(
            {
                "capacity_mib": made.capacity_mib,
                "tiers": tiers,
                "models": {
                    name: {
                        "gpus": one.split.gpu_indices, "tensor_split": one.split.tensor_split,
                        "host_expert_layers": one.split.host_expert_layers, "memory_mib": one.demand_mib,
                        "load_s": round(one.load_s, 1), "why": one.why, "problem": one.problem,
                        "context_tokens": config.model(name).context_tokens, "slots": config.model(name).slots,
                    }
                    for name, one in made.models.items()
                },
                "together": made.together,
            }
        )  # fmt: skip
        return
    from rich.console import Console
    from rich.table import Column, Table

    devices = list(made.capacity_mib)
    table = Table(
        Column("tier", no_wrap=True),
        "model",
        *[f"{device}\nof {made.capacity_mib[device]:,} MiB" for device in devices],
        "context",
        "load",
        "why",
    )
    problems: dict[str, str] = {}
    names = [*tiers.items(), *((f"({config.side_models[name].kind})", name) for name in config.side_models)]
    for tier, name in names:
        one, model = made.models[name], config.model(name)
        amounts = [f"{one.demand_mib[device]:,}" if device in one.demand_mib else "-" for device in devices]
        context = f"{model.slots} x {model.context_tokens:,}"
        if one.problem:
            amounts, problems[name] = ["-" for _ in devices], one.problem
        load = "-" if one.problem else f"{one.load_s:.1f} s"
        table.add_row(tier, name, *amounts, context, load, "[red]see below[/]" if one.problem else "; ".join(one.why))
    console = Console()
    console.print(table)
    for name, problem in problems.items():
        console.print(f"[red]{name}[/]: {problem}")
    if problems:
        sys.exit(1)
    sets = [" + ".join(group) for group in made.together]
    console.print("live together: " + ("; ".join(sets) if sets else "one model at a time"))
