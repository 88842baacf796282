"""`python -m bench.agent_tasks [TASK ...] [--seeds 1,2,3] [--tier deep-coder] [--out FOLDER]`: `variet code` and a real
model on the embedded engine, in repositories whose tests fail (bench/tasks). Appends a line per run to runs.jsonl in
the folder, with the transcript beside it; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.support.engine import EngineProcess, embedded_config

from variet import paths

TASKS = Path(__file__).parent / "tasks"
_MOST_S = 900


async def python(work: Path, *words: str, **env: str) -> tuple[int, str]:
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


async def run(engine: EngineProcess, task: str, seed: int, tier: str, folder: Path) -> dict[str, object]:
    """One task with one seed. The tests must be the same afterwards."""
    work, asked = folder / f"{task}-{seed}", json.loads((TASKS / task / "task.json").read_text())
    shutil.copytree(TASKS / task, work, ignore=shutil.ignore_patterns("task.json"))
    tests = {path.name: path.read_bytes() for path in work.glob("test_*.py")}
    began = time.monotonic()
    code, said = await python(
        work, "-m", "variet", "code", "--tier", tier, "--mode", "auto-edit", "--check", asked["check"], "--seed",
        str(seed), "--steps", "14", asked["prompt"],
        VARIET_ENGINE_URL=engine.url, VARIET_HOME=str(folder / "workstation"),
    )  # fmt: skip
    took_s = round(time.monotonic() - began)
    passes = (await python(work, "-m", "pytest", "-q"))[0] == 0
    same = {path.name: path.read_bytes() for path in work.glob("test_*.py")} == tests
    return {
        "task": task, "seed": seed, "tier": tier, "passed": passes and same, "exit": code, "seconds": took_s,
        "said": said,
    }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.agent_tasks", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=sorted(one.parent.name for one in TASKS.glob("*/task.json")))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tier", default="deep-coder")
    parser.add_argument("--out", type=Path, default=Path("bench-agent"))
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    lines = options.out / "runs.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["task"], row["seed"], row["tier"]) for row in rows}
    with tempfile.TemporaryDirectory(prefix="variet-bench-") as name:
        folder = Path(name)
        engine = EngineProcess(folder / "home", paths.models_dir())
        try:
            await engine.start(embedded_config())
            for task in options.tasks:
                for seed in map(int, options.seeds.split(",")):
                    if (task, seed, options.tier) in done:
                        continue
                    row = await run(engine, task, seed, options.tier, folder)
                    (options.out / f"{task}-{seed}-{options.tier}.txt").write_text(str(row.pop("said")))
                    with lines.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
        finally:
            engine.kill()


if __name__ == "__main__":
    asyncio.run(main())
