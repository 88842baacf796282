"""Where tokens lie: a real Secret Service, and a file that a PIN seals where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from variet.assistant.problems import ToolProblem
from variet.assistant.secrets.sealed import SealedFile

_COST = 2**12  # tests open many

_KEEPS = """
import json, sys
from pathlib import Path
from variet.assistant.secrets.keep import keep

held = keep(Path(sys.argv[1]))
before = held.get("google-read")
held.put("google-read", "1//a-refresh-token")
held.unlock("any")
print(json.dumps([held.kind, before, held.get("google-read"), held.get("trial")]))
if sys.argv[2] == "drop":
    held.drop("google-read")
    held.drop("google-read")
    print(json.dumps(held.get("google-read")))
"""


@pytest.mark.skipif(shutil.which("gnome-keyring-daemon") is None, reason="no Secret Service here: `make test-tools`")
def test_a_real_secret_service_keeps_them_and_no_file_does(tmp_path: Path) -> None:
    def ran(*words: str) -> list[str]:
        unlock = "printf pass | gnome-keyring-daemon --unlock --components=secrets >/dev/null"
        script = f'{unlock} && {sys.executable} -c "$KEEPS" {tmp_path} $0'
        done = subprocess.run(
            ["dbus-run-session", "--", "sh", "-c", script, *words], capture_output=True, text=True, timeout=60,
            env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "KEEPS": _KEEPS,
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert json.loads(ran("keep")[0]) == ["keyring", None, "1//a-refresh-token", None]
    again = ran("drop")
    assert json.loads(again[0])[1] == "1//a-refresh-token", "it outlives the session"
    assert json.loads(again[1]) is None
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"a-refresh-token" not in path.read_bytes(), path
    assert not (tmp_path / "secrets.sealed").exists()


def test_a_sealed_file_opens_by_its_pin_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.sealed"
    made = SealedFile(file, _COST)
    assert made.get("a") is None, "nothing is locked where nothing is"
    with pytest.raises(ToolProblem, match="variet auth unlock"):
        made.put("a", "b")
    made.unlock("4711")
    made.put("google-read", "1//token")
    made.put("other", "x")
    made.drop("other")
    assert file.stat().st_mode & 0o077 == 0 and b"token" not in file.read_bytes()
    again = SealedFile(file, _COST)
    with pytest.raises(ToolProblem, match="variet auth unlock"):
        again.get("google-read")
    with pytest.raises(ToolProblem, match="another PIN"):
        again.unlock("4712")
    again.unlock("4711")
    assert again.get("google-read") == "1//token" and again.get("other") is None
    again.reseal("longer than before")
    with pytest.raises(ToolProblem, match="another PIN"):
        SealedFile(file, _COST).unlock("4711")
    last = SealedFile(file, _COST)
    last.unlock("longer than before")
    assert last.get("google-read") == "1//token"


BROKEN = ("", "{}", "[]", '{"cost": 1e99, "salt": "", "nonce": "", "box": ""}', '{"cost": 2, "salt": "!"}')


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_told_and_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secrets.sealed"
    file.write_text(text)
    with pytest.raises(ToolProblem):
        SealedFile(file, _COST).unlock("4711")
    assert file.read_text() == text


def test_every_change_of_the_box_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "secrets.sealed"
    made = SealedFile(file, _COST)
    made.unlock("4711")
    made.put("a", "b")
    sealed = json.loads(file.read_text())
    for name in ("salt", "nonce", "box"):
        changed = {**sealed, name: ("A" if sealed[name][0] != "A" else "B") + sealed[name][1:]}
        file.write_text(json.dumps(changed))
        with pytest.raises(ToolProblem, match="another PIN, or changed"):
            SealedFile(file, _COST).unlock("4711")
