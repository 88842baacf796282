"""`python -m bench.agent_tasks [TASK ...] [--seeds 1,2,3] [--tier deep-coder] [--out FOLDER]`: `variet code` and a real
model on the embedded engine, in repositories whose tests fail (bench/tasks). Appends a line per run to runs.jsonl in
the folder, with the transcript beside it; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.support.engine import EngineProcess, embedded_config
from tests.support.small_tasks import NAMES, attempt

from variet import paths


async def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else an engine would stay behind
    parser = argparse.ArgumentParser(prog="python -m bench.agent_tasks", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=NAMES)
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
                    row = {"task": task, "seed": seed, "tier": options.tier}
                    row |= asdict(await attempt(engine, task, seed, folder, options.tier))
                    said = str(row.pop("said")).replace(f"{folder}/", "")
                    (options.out / f"{task}-{seed}-{options.tier}.txt").write_text(said)
                    with lines.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
        finally:
            engine.kill()


if __name__ == "__main__":
    asyncio.run(main())
