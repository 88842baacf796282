"""The three small repositories of bench/tasks: `variet code` and a real model are to make their tests pass."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine import ROOT, EngineProcess

TASKS = ROOT / "bench" / "tasks"
NAMES = sorted(one.parent.name for one in TASKS.glob("*/task.json"))
_MOST_S = 600


@dataclass(frozen=True, slots=True)
class Run:
    """`passed`: the check passes and no test was touched; `checks`: how often it was run; `changed`: which files."""

    passed: bool
    exit: int
    seconds: int
    checks: int
    changed: tuple[str, ...]
    said: str


async def attempt(
    engine: EngineProcess, task: str, seed: int, folder: Path, tier: str = "deep-coder", escalation: str = ""
) -> Run:
    """One task with one seed, in a repository of its own below `folder`. `escalation`: the tier that takes over."""
    work, asked = folder / f"{task}-{seed}", json.loads((TASKS / task / "task.json").read_text())
    shutil.copytree(TASKS / task, work, ignore=shutil.ignore_patterns("task.json"))
    if escalation:
        settings = folder / "workstation" / "config" / "agent.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"escalation": [escalation]}))
    before = _contents(work)
    began = time.monotonic()
    code, said = await _python(
        work, "-m", "variet", "code", "--tier", tier, "--mode", "auto-edit", "--check", asked["check"], "--seed",
        str(seed), "--steps", "14", asked["prompt"],
        VARIET_ENGINE_URL=engine.url, VARIET_HOME=str(folder / "workstation"),
    )  # fmt: skip
    seconds = round(time.monotonic() - began)
    passes = (await _python(work, *asked["check"].split()[1:]))[0] == 0
    after = _contents(work)
    changed = tuple(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))
    kept = not any(Path(name).name.startswith("test_") for name in changed)
    return Run(passes and kept, code, seconds, said.count(f"→ $ {asked['check']}"), changed, said)


def _contents(work: Path) -> dict[str, bytes]:
    return {path.relative_to(work).as_posix(): path.read_bytes() for path in work.rglob("*.py")}


async def _python(work: Path, *words: str, **env: str) -> tuple[int, str]:
    """(exit code, output)"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VARIET_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=work, env={**clean, **env}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _MOST_S)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, said.decode()
