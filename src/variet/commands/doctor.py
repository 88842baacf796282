"""`variet doctor`: what was found, what lacks, and the command that mends it."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from variet import paths
from variet.commands.common import chosen_config, config_option, json_option, print_json
from variet.errors import VarietError


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    detail: str
    mend: str = ""
    warning: bool = False  # nothing lacks, but it is good to know


@click.command()
@config_option
@json_option
def doctor(config_path: Path | None, as_json: bool) -> None:
    """Check llama-server, configuration, models, memory and disk on this machine. Exit code 1 if something lacks."""
    findings = asyncio.run(_examine(chosen_config(config_path)))
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        for one in findings:
            word, colour = ("note", "yellow") if one.warning else ("ok", "green") if one.ok else ("lack", "red")
            click.echo(f"{click.style(f'{word:<4}', fg=colour)}  {one.what}: {one.detail}")
            if (one.warning or not one.ok) and one.mend:
                click.echo(f"      mend: {one.mend}")
    sys.exit(0 if all(one.ok for one in findings) else 1)


async def _examine(config_path: Path) -> list[Finding]:
    from variet.engine import config_file, hardware, llama_server
    from variet.engine.caveats import System, caveats
    from variet.engine.plan import make_plan
    from variet.engine.pulls import missing_models

    findings: list[Finding] = []
    try:
        config = config_file.load(config_path)
    except VarietError as error:
        return [Finding("configuration", False, str(error), "correct the file, then `variet config check`")]
    findings.append(Finding("configuration", True, str(config_path)))
    try:
        server = await llama_server.discover(config.llama_server.path)
        findings.append(Finding("llama-server", True, f"{server.path} ({server.version}, from {server.origin})"))
        progress = (
            "tells load progress" if server.child_protocol else "tells no load progress; /health is polled instead"
        )
        findings.append(Finding("llama-server features", True, progress))
    except VarietError as error:
        findings.append(Finding("llama-server", False, error.what, error.next_step))
    machine = hardware.detect(config.hardware)
    gpus = ", ".join(
        f"{g.index}: {g.name} {g.vram_mib:,} MiB PCIe {g.pcie_generation} x{g.pcie_lanes}" for g in machine.gpus
    )
    if machine.origin == "described":
        gpus = f"{len(machine.gpus)} are described in the configuration, none can be asked here"
        findings.append(Finding("GPUs", False, gpus, "install the NVIDIA driver, or remove $.hardware.gpus"))
    else:
        findings.append(Finding("GPUs", True, gpus or "none that can be asked; models run on the processor"))
    memory = f"{machine.host_mib:,} MiB, {machine.host_available_mib:,} available"
    findings.append(Finding("host memory", True, memory))
    folder = paths.models_dir()
    absent = missing_models(config.used_models(), folder)
    there = "all there and verified" if not absent else f"not there yet: {', '.join(absent)}"
    findings.append(Finding("model files", not absent, f"{folder}: {there}", "variet pull --all"))
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free >> 20
    findings.append(
        Finding("disk", free > 2048, f"{free:,} MiB free at {existing}", "set VARIET_MODELS to a larger disk")
    )
    plan = make_plan(config, machine, folder)
    for name, one in plan.models.items():
        if name not in absent and one.problem:
            findings.append(Finding(f"placement of {name}", False, one.problem, "variet plan"))
    system = System(sys.platform, platform.release(), hardware.driver_models(), machine.host_mib)
    hungriest = max((one.demand_mib.get("host", 0) for one in plan.models.values()), default=0)
    for caveat in caveats(system, hungriest):
        findings.append(Finding(caveat.what, True, caveat.detail, caveat.mend, warning=True))
    return findings
