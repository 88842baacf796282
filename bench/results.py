"""What a bench found: one line a case in a .jsonl file, so that a long run can be cut and go on where it was."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


class Results:
    """`add` writes a case at once; `have` says whether an earlier run did already."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        self.cases: list[dict[str, Any]] = []
        if path.is_file():
            self.cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def have(self, bench: str, case: str) -> bool:
        return any(one["bench"] == bench and one["case"] == case for one in self.cases)

    def add(self, bench: str, case: str, unit: str, **figures: Any) -> None:
        row = {"bench": bench, "case": case, "unit": unit, **figures}
        self.cases.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"  {case}: " + ", ".join(f"{key} {_short(value)}" for key, value in figures.items()), flush=True)

    def of(self, bench: str) -> list[dict[str, Any]]:
        return [one for one in self.cases if one["bench"] == bench]


def machine() -> dict[str, Any]:
    """What the numbers came from."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor, "cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}", "python": platform.python_version(),
    }  # fmt: skip


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_short(each)}" for key, each in value.items()) + "}"
    return str(value)
