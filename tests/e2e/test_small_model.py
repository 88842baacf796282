"""The way from a person's words to tests that pass, with nothing scripted: `variet code`, the engine, and a real model
of 1.5 billion parameters. Three seeds a task, of which two must pass; a third is not run where two did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.engine import EngineProcess, embedded_config
from tests.support.small_tasks import NAMES, Run, attempt
from variet import paths

pytestmark = [pytest.mark.models, pytest.mark.timeout(1800), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineProcess]:
    made = EngineProcess(tmp_path_factory.mktemp("engine"), paths.models_dir())
    try:
        await made.start(embedded_config())
        yield made
    finally:
        made.kill()
        await made.wait()


@pytest.mark.long
@pytest.mark.parametrize("task", NAMES)
async def test_a_model_of_1_5_billion_makes_failing_tests_pass(
    engine: EngineProcess, tmp_path: Path, task: str
) -> None:
    runs: list[Run] = []
    for seed in (1, 2, 3):
        runs.append(await attempt(engine, task, seed, tmp_path))
        passed = [run for run in runs if run.passed]
        if len(passed) == 2 or len(runs) - len(passed) == 2:
            break
    assert len(passed) == 2, "\n\n".join(run.said for run in runs)
    assert all(run.exit == 0 for run in passed), "what it says is what is so"
    if task == "badge":
        assert all(run.changed == ("badge.py", "names.py") for run in passed), "it spans two files"
    if task == "average":
        assert all(run.checks >= 3 for run in passed), "before, after a first attempt that failed, after the second"
