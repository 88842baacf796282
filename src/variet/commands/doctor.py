"""`variet doctor`: what was found, what lacks, and the command that mends it."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from variet import paths
from variet.commands.common import chosen_config, config_option, json_option, print_json
from variet.errors import LaunchFailed, VarietError

if TYPE_CHECKING:
    from variet.engine.config import ModelConfig
    from variet.engine.llama_server import LlamaServer

_DISK_SPARE_MIB = 2048
_TRIAL_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    detail: str
    mend: str = ""
    warning: bool = False  # nothing lacks, but it is good to know


@click.command()
@config_option
@click.option("--assistant", is_flag=True, help="Check web search, mail and calendar instead.")
@json_option
def doctor(config_path: Path | None, assistant: bool, as_json: bool) -> None:
    """Check llama-server, configuration, models, memory and disk on this machine. Exit code 1 if something lacks.

    The smallest model of less than 2 GiB, if one is here, is loaded on the processor for a moment and says a token.
    """
    if assistant:
        from variet.commands.doctor_assistant import findings as of_assistant

        findings = asyncio.run(of_assistant())
    else:
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
    server = None
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
    findings.append(_disk(folder, {name: config.model(name) for name in absent}))
    if server is not None:
        present = {name: one for name, one in config.used_models().items() if name not in absent}
        findings.append(await _trial(server, present, folder))
    plan = make_plan(config, machine, folder)
    for name, one in plan.models.items():
        if name not in absent and one.problem:
            findings.append(Finding(f"placement of {name}", False, one.problem, "variet plan"))
    system = System(sys.platform, platform.release(), hardware.driver_models(), machine.host_mib)
    hungriest = max((one.demand_mib.get("host", 0) for one in plan.models.values()), default=0)
    for caveat in caveats(system, hungriest):
        findings.append(Finding(caveat.what, True, caveat.detail, caveat.mend, warning=True))
    return findings


def _disk(folder: Path, absent: Mapping[str, ModelConfig]) -> Finding:
    """What is free against what is still to be pulled, as far as headers were read."""
    from variet.engine.sources.remote import remote_facts

    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free >> 20
    known = {name: facts for name, one in absent.items() if (facts := remote_facts(one, kept_only=True))}
    needed = sum(facts.file_weight_bytes for facts in known.values()) >> 20
    words = f"{free:,} MiB free at {existing}"
    if known:
        words += f"; {needed:,} MiB are to be pulled for {', '.join(known)}"
    unknown = sorted(set(absent) - set(known))
    if unknown:
        words += f"; how much {', '.join(unknown)} will take is not known yet"
    mend = f"free {max(0, needed + _DISK_SPARE_MIB - free):,} MiB, or set VARIET_MODELS to a larger disk"
    return Finding("disk", free > needed + _DISK_SPARE_MIB, words, mend)


async def _trial(server: LlamaServer, models: Mapping[str, ModelConfig], folder: Path) -> Finding:
    """Run the smallest model there is: a binary for another processor is known by nothing less."""
    from variet.engine.llama_server import install_hint
    from variet.engine.sources.base import model_paths
    from variet.engine.trial import run_once

    shared = {name: one for name, one in models.items() if one.llama_server is None}
    files = {name: model_paths(name, one, folder).model for name, one in shared.items()}
    sizes = {name: sum(file.stat().st_size for file in parts) for name, parts in files.items()}
    smallest = min(sizes, key=lambda name: sizes[name], default=None)
    if smallest is None or sizes[smallest] > _TRIAL_BYTES:
        why = f"no model of less than {_TRIAL_BYTES >> 30} GiB is here to try it on"
        return Finding("llama-server at work", True, f"not tried: {why}")
    try:
        seconds = await run_once(server, files[smallest][0])
    except LaunchFailed as error:
        return Finding("llama-server at work", False, error.what, install_hint())
    return Finding("llama-server at work", True, f"{smallest} was loaded and said a token in {seconds:.1f} s")
