"""The engine's log: structured, private, bounded."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from variet.engine import logs


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root, ours = logging.getLogger(), logging.getLogger("variet")
    before = root.handlers, root.level, ours.level
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    yield tmp_path
    root.handlers, root.level, ours.level = before


def lines() -> list[dict[str, object]]:
    return [json.loads(line) for line in logs.engine_log().read_text(encoding="utf-8").splitlines()]


def test_every_line_is_an_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    listener = logs.start(verbose=False, as_json=False)
    log = logging.getLogger("variet.engine")
    log.warning("%s and %s", "one argument too few")  # somebody else's mistake must not end the log
    log.info("quiet %s", "ü", extra={"fields": {"model": "fast", "total_ms": 1.5}})
    try:
        raise ValueError("deep")
    except ValueError:
        log.exception("loud")
    listener.stop()
    quiet, loud = lines()[-2:]
    assert (quiet["message"], quiet["model"], quiet["total_ms"], quiet["level"]) == ("quiet ü", "fast", 1.5, "info")
    assert str(quiet["ts"]).endswith("+00:00") and "ValueError: deep" in str(loud["exception"])
    shown = capsys.readouterr().err
    assert "loud" in shown and "quiet" not in shown
    assert stat.S_IMODE(logs.engine_log().stat().st_mode) == 0o600


def test_the_file_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LIMIT_BYTES", 2_000)
    listener = logs.start(verbose=False, as_json=True)
    for number in range(200):
        logging.getLogger("variet").info("line %s", number)
    listener.stop()
    kept = sorted(logs.engine_log().parent.iterdir())
    assert len(kept) == 2 and all(path.stat().st_size <= 2_000 for path in kept)
    assert lines()[-1]["message"] == "line 199"
