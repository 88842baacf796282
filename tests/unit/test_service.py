"""The service definitions, through injected platforms and runners."""

from __future__ import annotations

import os
import socket
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from variet.commands.service import service
from variet.engine.service import Job, Systemd, TaskScheduler, manager_for
from variet.errors import VarietError
from variet.system import tell_supervisor


class Recorder:
    """A runner that notes what it was asked to run, and fails for commands that begin as told."""

    def __init__(self, failing: str = "") -> None:
        self.ran: list[str] = []
        self._failing = failing

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.ran.append(" ".join(command))
        return (1, "it does not like that") if self._failing and self.ran[-1].startswith(self._failing) else (0, "ok")


def job(user: str = "ada") -> Job:
    executable = Path("/opt/my variet/.venv/bin/variet")
    return Job.of(executable, Path("/etc/variet/50%.json"), user, {"VARIET_MODELS": "/big/disk", "HOME": "/x"}, 20)


def section(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_a_system_unit_runs_as_its_user_and_drains(tmp_path: Path) -> None:
    text = Systemd(tmp_path, Recorder(), for_user=False).text(job())
    assert section(text, "User") == ["ada"] and section(text, "TimeoutStopSec") == ["35"]
    assert section(text, "ExecStart") == [
        '"/opt/my variet/.venv/bin/variet" up --log-format json --config /etc/variet/50%%.json'
    ]
    assert section(text, "Environment") == ["VARIET_MODELS=/big/disk"]
    assert section(text, "WantedBy") == ["multi-user.target"] and section(text, "KillMode") == ["mixed"]


def test_a_user_unit_lingers(tmp_path: Path) -> None:
    run = Recorder()
    manager = manager_for("linux", run, root=False, home=tmp_path, state=tmp_path)
    assert manager.state() == "not installed"
    place = Path(manager.install(job()))
    assert place == tmp_path / ".config/systemd/user/variet-engine.service" and "User=" not in place.read_text()
    assert run.ran == [
        "systemctl --user daemon-reload", "systemctl --user enable --now variet-engine", "loginctl enable-linger ada",
    ]  # fmt: skip
    assert manager.state() == "ok"
    manager.uninstall()
    assert not place.exists() and run.ran[-1] == "systemctl --user daemon-reload"
    with pytest.raises(VarietError, match="no such service"):
        manager.uninstall()


def test_the_system_s_own_words_are_told(tmp_path: Path) -> None:
    manager = Systemd(tmp_path, Recorder("systemctl enable"), for_user=False)
    with pytest.raises(VarietError, match="it does not like that"):
        manager.install(job())
    assert not manager.path.exists(), "nothing is left half installed"
    manager.path.write_text("")
    assert Systemd(tmp_path, lambda _: (1, "no bus"), for_user=False).state() == "unknown: no bus"


def test_a_windows_task_starts_with_the_machine_and_holds_no_password(tmp_path: Path) -> None:
    run = Recorder()
    manager = manager_for("win32", run, root=False, home=tmp_path, state=tmp_path)
    manager.install(job("BRAIN\\ada & co"))
    written = (tmp_path / "variet-engine.xml").read_text(encoding="utf-16")
    tree = ElementTree.fromstring(written.partition("?>")[2])
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    found = {name: tree.find(f".//t:{name}", space) for name in ("LogonType", "BootTrigger", "UserId", "Arguments")}
    assert all(one is not None for one in found.values())
    texts = {name: one.text for name, one in found.items() if one is not None}
    assert (texts["LogonType"], texts["UserId"]) == ("S4U", "BRAIN\\ada & co")
    assert texts["Arguments"] == (
        '/d /s /c "set "VARIET_MODELS=/big/disk" && "/opt/my variet/.venv/bin/variet" up --log-format json '
        '--config /etc/variet/50%.json"'
    )
    assert run.ran[0].startswith("schtasks /Create /F /TN variet-engine /XML ")
    assert TaskScheduler(tmp_path, lambda _: (0, '"variet-engine","N/A","Running"\n')).state() == "running"
    assert TaskScheduler(tmp_path, lambda _: (1, "ERROR")).state() == "not installed"


def test_an_unknown_system_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(VarietError, match="no service manager"):
        manager_for("plan9", Recorder(), root=False, home=tmp_path, state=tmp_path)


def test_systemd_is_told_when_the_port_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        tell_supervisor("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(100) == b"READY=1"
    tell_supervisor("READY=1", {})
    tell_supervisor("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})  # told in the log, and no reason to fail


@pytest.mark.skipif(sys.platform == "win32", reason="accounts of Windows are its own")
def test_a_user_without_a_home_cannot_keep_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pwd

    own = pwd.getpwuid(os.getuid())
    homeless = pwd.struct_passwd((*own[:5], str(tmp_path / "none"), own[6]))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: homeless)
    answer = CliRunner().invoke(service, ["show", "--user", "ghost"])
    assert answer.exit_code == 2 and "no home of its own" in answer.output
