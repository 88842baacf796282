"""`python -m bench.agent_tasks [TASK ...] [--seeds 1,2,3] [--tier deep-coder] [--escalation TIER] [--out FOLDER]`:
`variet code` and a real model on the embedded engine, in repositories whose tests fail (bench/tasks). Appends a line
per run to runs.jsonl in the folder, with the transcript beside it; a run that is there already is not repeated.
`--page FILE` writes what they show: a table of all runs, and the first of each task that passed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.support.engine import EngineProcess, embedded_config
from tests.support.small_tasks import NAMES, TASKS, attempt

from variet import paths


async def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else an engine would stay behind
    parser = argparse.ArgumentParser(prog="python -m bench.agent_tasks", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=NAMES)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tier", default="deep-coder")
    parser.add_argument("--escalation", default="", help="the tier that takes over where the first does not get on")
    parser.add_argument("--out", type=Path, default=Path("bench-agent"))
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    lines = options.out / "runs.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["task"], row["seed"], row["tier"]) for row in rows}
    tiers = ", then ".join(filter(None, (options.tier, options.escalation)))
    wanted = [(task, int(seed), tiers) for task in options.tasks for seed in options.seeds.split(",")]
    await _run([one for one in wanted if one not in done], options.out)
    if options.page:
        options.page.write_text(page(options.out), encoding="utf-8")


async def _run(wanted: Sequence[tuple[str, int, str]], out: Path) -> None:
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="variet-bench-") as name:
        folder = Path(name)
        engine = EngineProcess(folder / "home", paths.models_dir())
        try:
            await engine.start(embedded_config())
            for task, seed, tiers in wanted:
                row = {"task": task, "seed": seed, "tier": tiers}
                tier, _, escalation = tiers.partition(", then ")
                row |= asdict(await attempt(engine, task, seed, folder, tier, escalation))
                said = str(row.pop("said")).replace(f"{folder}/", "")
                _transcript(out, row).write_text(said)
                with (out / "runs.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
        finally:
            engine.kill()
            await engine.wait()


def _transcript(out: Path, row: Mapping[str, Any]) -> Path:
    return out / f"{row['task']}-{row['seed']}-{row['tier'].replace(', then ', '-')}.txt"


def page(folder: Path) -> str:
    """What the runs in a folder show, in Markdown."""
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    lines = [
        "# What a model of 1.5 billion parameters does with a check", "",
        "By `python -m bench.agent_tasks --page docs/small-model.md`: `variet code --check`, Qwen2.5-Coder-1.5B",
        "(Q4_K_M, two cores, no GPU), the repositories of `bench/tasks`. [How it is led](agent.md#small-models).",
        "Its tier is `deep-coder`; `balanced` is the 0.5B; `then` names who takes over where it does not get on.", "",
        "| tier | task | seed | tests pass | checks run | seconds |", "|---|---|---:|---|---:|---:|",
    ]  # fmt: skip
    for one in rows:
        told = "yes" if one["passed"] else "no"
        lines.append(
            f"| {one['tier']} | `{one['task']}` | {one['seed']} | {told} | {one['checks']} | {one['seconds']} |"
        )
    for task, tier in dict.fromkeys((one["task"], one["tier"]) for one in rows):
        these = [one for one in rows if one["task"] == task and one["tier"] == tier]
        shown = next((one for one in these if one["passed"]), None)
        if shown is None:
            continue
        asked = json.loads((TASKS / task / "task.json").read_text())
        said = _transcript(folder, shown).read_text().rstrip()
        lines += [
            "", f"## `{task}`, {tier}, seed {shown['seed']}", "", f"> {asked['prompt']}", "",
            f"`--check \"{asked['check']}\"`", "", "````text", said, "````",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asyncio.run(main())
