"""The audit log: every line that is changed, taken out, put in or cut off is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from variet.assistant.audit import log
from variet.assistant.audit.flood import Flood
from variet.assistant.audit.log import AuditLog


def written(file: Path, count: int = 6) -> str:
    made = AuditLog(file)
    for number in range(count):
        made.add(1_800_000_000_000 + number, "asked", tool="mail.send", targets=["zoë@example.org"], number=number)
    made.close()
    return made.head


def test_an_honest_log_holds_over_restarts(tmp_path: Path) -> None:
    file = tmp_path / "audit" / "audit.jsonl"
    assert log.wrong_with(file, "") == []
    written(file)
    head = written(file)
    assert log.wrong_with(file, head) == [] and len(list(log.lines(file))) == 12
    assert file.stat().st_mode & 0o077 == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["change", "drop", "swap", "repeat", "cut", "forge"]), st.integers(0, 5))
def test_whatever_is_done_to_it_is_told(what: str, at: int) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder) / "audit.jsonl"
        head = written(file)
        lines = file.read_text(encoding="utf-8").splitlines()
        if what == "change":
            lines[at] = lines[at].replace("mail.send", "mail.read")
        elif what == "drop":
            del lines[at]
        elif what == "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        elif what == "repeat":
            lines.insert(at, lines[at])
        elif what == "cut":
            lines = lines[:at]
        else:
            one = json.loads(lines[at])
            one["number"] = 99
            one["sha256"] = log._hash({key: value for key, value in one.items() if key != "sha256"})
            lines[at] = json.dumps(one, ensure_ascii=False)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        assert log.wrong_with(file, head)


def test_a_line_that_a_crash_cut_is_told_and_the_log_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    written(file)
    with file.open("ab") as torn:
        torn.write(b'{"ts_ms": 1, "event": "as')
    head = written(file, 2)
    assert log.wrong_with(file, head) == ["line 7 cannot be read: it was cut or changed"]


def test_a_long_log_is_begun_again_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "audit.jsonl"
    head = written(file, 50)
    monkeypatch.setattr(log, "_END_BYTES", 2_000)
    monkeypatch.setattr(log, "lines", lambda _: pytest.fail("it need not be read whole"))
    again = AuditLog(file)
    assert again.head == head and again.knows(head)
    again.close()
    monkeypatch.undo()
    monkeypatch.setattr(log, "_END_BYTES", 10)
    again = AuditLog(file)
    assert again.head == head, "what cannot be read by its end alone is read whole"
    again.close()


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "audit.jsonl"
    made = AuditLog(file)
    head = made.add(1, "asked", tool="mail.send")
    real = made._out

    class Full:
        """As a disk is that takes half of it."""

        def write(self, data: bytes) -> int:
            return real.write(data[: len(data) // 2])

        def fileno(self) -> int:
            return real.fileno()

    made._out = Full()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        made.add(2, "asked", tool="mail.send")
    made._out = real
    assert log.wrong_with(file, head) == []
    assert log.wrong_with(file, made.add(3, "asked", tool="mail.send")) == []
    made.close()


def test_what_anybody_can_cause_keeps_to_a_measure() -> None:
    now = [0]
    flood = Flood(3, lambda: now[0])
    assert [flood.lets("stranger") for _ in range(5)] == [(True, 0)] * 3 + [(False, 0)] * 2
    assert flood.lets("judged") == (True, 0), "each by itself"
    now[0] = 60_000
    assert flood.lets("stranger") == (True, 2)
    now[0] = 10  # a clock that was set back
    assert flood.lets("stranger") == (True, 0)


@pytest.mark.parametrize("value", ['"mail.send"', '"other"'])
def test_a_line_with_a_key_twice_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "audit" / "audit.jsonl"
    head = written(file)
    lines = file.read_text().splitlines()
    lines[2] = f'{{"tool": {value}, ' + lines[2][1:]
    file.write_text("\n".join(lines) + "\n")
    assert log.wrong_with(file, head)
