"""The long soak: half an hour of tests/support/chaos.py, with a report of what was injected and survived."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.support.chaos import Soak, soak_config
from tests.support.engine import running

from bench.results import Results
from variet import paths


async def run(results: Results, rounds: int) -> None:
    """`rounds`: minutes."""
    seed = int(time.time())
    models = paths.models_dir()
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder) / "home", models, soak_config(models)) as engine:
            report = await Soak(engine, models, seed).run(rounds * 60)
    print(report.text())
    assert report.before is not None and report.after is not None
    results.add(
        "chaos", f"{rounds} minutes, seed {seed}", "count",
        injected=sum(report.injected.values()), **{name: report.outcomes[name] for name in ("whole", "told", "left")},
        lost=report.outcomes["lost"], crossed=report.outcomes["crossed"], wrong=len(report.wrong),
        rss_mib={"before": report.before.rss_mib, "after": report.after.rss_mib},
        descriptors={"before": report.before.descriptors, "after": report.after.descriptors},
    )  # fmt: skip
