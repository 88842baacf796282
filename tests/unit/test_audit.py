"""The audit log: every line that is changed, taken out, put in or cut off is told."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from variet.assistant.audit import log
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
