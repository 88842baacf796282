"""Minutes of everything going wrong (`python -m bench chaos` is the long one): nothing lost, nothing crossed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chaos import Soak, soak_config
from tests.support.engine import running

pytestmark = [pytest.mark.models, pytest.mark.timeout(900)]
_MORE_MIB = 80  # a Python process with its caches filled; what leaks grows with the number of requests
_MORE_DESCRIPTORS = 12


@pytest.mark.parametrize("seconds", [5, pytest.param(120, marks=pytest.mark.long)])
async def test_chaos(tmp_path: Path, models: Path, seconds: int) -> None:
    async with running(tmp_path / "home", models, soak_config(models)) as engine:
        report = await Soak(engine, models, seed=1).run(seconds)
        print(report.text())
        assert not report.wrong, "\n".join(report.wrong)
        assert report.outcomes["whole"] > seconds / 4 and sum(report.injected.values()) > seconds / 6
        assert report.before is not None and report.after is not None
        assert report.after.rss_mib < report.before.rss_mib + _MORE_MIB
        assert report.after.descriptors <= report.before.descriptors + _MORE_DESCRIPTORS
