"""`variet code` and the real Qwen2.5-Coder-1.5B on the embedded engine: three small repositories whose tests fail.

Of three seeds two must pass; the third is not run where two did. bench/tasks describes the tasks.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.engine import EngineProcess, embedded_config
from variet import paths

pytestmark = [pytest.mark.models, pytest.mark.timeout(1500)]

TASKS = Path(__file__).parents[2] / "bench" / "tasks"
NEEDED, SEEDS = 2, (1, 2, 3)
_MOST_S = 480


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


@pytest.mark.parametrize("name", ["totals", "cart", "slugs"])
async def test_a_small_model_makes_failing_tests_pass(tmp_path: Path, name: str) -> None:
    engine = EngineProcess(tmp_path / "home", paths.models_dir())
    task = json.loads((TASKS / name / "task.json").read_text())
    told: list[str] = []
    passed = failed = 0
    try:
        await engine.start(embedded_config())
        for seed in SEEDS:
            work = tmp_path / f"{name}-{seed}"
            shutil.copytree(TASKS / name, work, ignore=shutil.ignore_patterns("task.json"))
            tests = {path.name: path.read_bytes() for path in work.glob("test_*.py")}
            assert (await python(work, "-m", "pytest", "-q"))[0] == 1, "they fail before"
            code, said = await python(
                work, "-m", "variet", "code", "--tier", "deep-coder", "--mode", "auto-edit", "--check", task["check"],
                "--seed", str(seed), "--steps", "14", task["prompt"],
                VARIET_ENGINE_URL=engine.url, VARIET_HOME=str(tmp_path / "workstation"),
            )  # fmt: skip
            told.append(f"--- seed {seed}: exit {code}\n{said}")
            assert (code == 0) == ((await python(work, "-m", "pytest", "-q"))[0] == 0), "what it says of them is so"
            assert {path.name: path.read_bytes() for path in work.glob("test_*.py")} == tests, "they are the same"
            passed, failed = passed + (code == 0), failed + (code != 0)
            if passed == NEEDED or failed > len(SEEDS) - NEEDED:
                break
        print("\n".join(told))
        assert passed >= NEEDED, "\n".join(told)
    finally:
        engine.kill()
