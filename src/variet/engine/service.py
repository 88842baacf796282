"""Variet Engine as a service: a systemd unit on Linux, a scheduled task at start-up on Windows.

Pure texts and command lines; `Manager` carries them out through a runner that is handed in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.sax.saxutils import escape

from variet.errors import VarietError
from variet.system import Runner, must

NAME = "variet-engine"
_KEPT_VARIABLES = ("VARIET_HOME", "VARIET_MODELS", "VARIET_ENGINE_CONFIG")
_MEND = "Mend what it says; `variet service show` prints the definition, to be installed by hand"


@dataclass(frozen=True, slots=True)
class Job:
    """What the service runs: `command` with all paths absolute, as `user`, with these variables."""

    command: tuple[str, ...]
    user: str
    environment: Mapping[str, str]
    shutdown_s: float

    @classmethod
    def of(cls, executable: Path, config: Path | None, user: str, env: Mapping[str, str], shutdown_s: float) -> Job:
        arguments = ("--config", str(config.absolute())) if config else ()
        kept = {name: str(Path(env[name]).expanduser().absolute()) for name in _KEPT_VARIABLES if env.get(name)}
        return cls((str(executable), "up", "--log-format", "json", *arguments), user, kept, shutdown_s)


class Manager(Protocol):
    """A system's way to run services."""

    def text(self, job: Job) -> str:
        """The definition as it will be written."""
        ...

    def install(self, job: Job) -> str:
        """Write it, enable it, start it; returns where it went. Raises VarietError with the system's own words."""
        ...

    def uninstall(self) -> str: ...

    def state(self) -> str:
        """One word or line: active, inactive, not installed, ..."""
        ...


class Systemd:
    """A unit of the whole system for root, else of the user alone, which then must be allowed to linger."""

    def __init__(self, folder: Path, run: Runner, *, for_user: bool) -> None:
        self.path = folder / f"{NAME}.service"
        self._run = run
        self._for_user = for_user
        self._systemctl = ("systemctl", "--user") if for_user else ("systemctl",)

    def text(self, job: Job) -> str:
        user = [] if self._for_user else [f"User={job.user}"]
        variables = [f"Environment={_quoted(f'{name}={value}')}" for name, value in job.environment.items()]
        lines = [
            "[Unit]",
            "Description=Variet Engine: five model tiers on one port",
            *([] if self._for_user else ["Wants=network-online.target", "After=network-online.target"]),
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={' '.join(_quoted(part) for part in job.command)}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            *user,
            *variables,
            "Restart=on-failure",
            "RestartSec=5",
            "# The engine alone is told to stop: it drains its answers and ends its model servers itself.",
            "KillMode=mixed",
            f"TimeoutStopSec={job.shutdown_s + 15:g}",
            "TimeoutStartSec=120",
            "# When memory runs out a model server ends, not the engine with all of them: it starts that one again.",
            "OOMPolicy=continue",
            "NoNewPrivileges=yes",
            *([] if self._for_user else ["ProtectSystem=full", "PrivateTmp=yes", "RestrictSUIDSGID=yes"]),
            "",
            "[Install]",
            f"WantedBy={'default.target' if self._for_user else 'multi-user.target'}",
        ]
        return "\n".join(lines) + "\n"

    def install(self, job: Job) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text(job), encoding="utf-8")
        try:
            must(self._run, (*self._systemctl, "daemon-reload"), _MEND)
            must(self._run, (*self._systemctl, "enable", "--now", NAME), _MEND)
            if self._for_user:
                must(self._run, ("loginctl", "enable-linger", job.user), _MEND)
        except VarietError:
            self.path.unlink()  # half installed is worse than not
            raise
        return str(self.path)

    def uninstall(self) -> str:
        if not self.path.exists():
            raise VarietError("no such service", where=str(self.path), next_step="`variet service install` makes one")
        self._run((*self._systemctl, "disable", "--now", NAME))  # it may be stopped already
        self.path.unlink()
        self._run((*self._systemctl, "daemon-reload"))
        return str(self.path)

    def state(self) -> str:
        if not self.path.exists():
            return "not installed"
        code, output = self._run((*self._systemctl, "is-active", NAME))
        word = output.strip()
        return word if code in (0, 3) and word else f"unknown: {word or 'systemctl says nothing'}"


class TaskScheduler:
    """A task that starts with Windows, needs no log-in, stores no password (S4U), and starts again if it fails."""

    def __init__(self, folder: Path, run: Runner) -> None:
        self._path = folder / f"{NAME}.xml"
        self._run = run

    def text(self, job: Job) -> str:
        # A task has no environment of its own: cmd sets what is needed, then gives way to the engine.
        sets = "".join(f'set "{name}={value}" && ' for name, value in job.environment.items())
        call = subprocess.list2cmdline(job.command)
        return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.3" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Variet Engine: five model tiers on one port</Description></RegistrationInfo>
  <Triggers><BootTrigger><Enabled>true</Enabled></BootTrigger></Triggers>
  <Principals><Principal id="owner"><UserId>{escape(job.user)}</UserId><LogonType>S4U</LogonType>
    <RunLevel>LeastPrivilege</RunLevel></Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>10</Count></RestartOnFailure>
    <Priority>5</Priority>
  </Settings>
  <Actions Context="owner"><Exec><Command>cmd.exe</Command>
    <Arguments>{escape(f'/d /s /c "{sets}{call}"')}</Arguments></Exec></Actions>
</Task>
"""

    def install(self, job: Job) -> str:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self.text(job), encoding="utf-16")
        must(self._run, ("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(self._path)), _MEND)
        must(self._run, ("schtasks", "/Run", "/TN", NAME), _MEND)
        return f"task {NAME}, from {self._path}"

    def uninstall(self) -> str:
        self._run(("schtasks", "/End", "/TN", NAME))
        must(self._run, ("schtasks", "/Delete", "/F", "/TN", NAME), _MEND)
        self._path.unlink(missing_ok=True)
        return f"task {NAME}"

    def state(self) -> str:
        code, output = self._run(("schtasks", "/Query", "/TN", NAME, "/FO", "CSV", "/NH"))
        return output.strip().rpartition(",")[2].strip('"').lower() if code == 0 else "not installed"


def manager_for(platform: str, run: Runner, *, root: bool, home: Path, state: Path) -> Manager:
    """The service manager of a platform (`sys.platform`). Raises VarietError where there is none that we know."""
    if platform.startswith("linux"):
        folder = Path("/etc/systemd/system") if root else home / ".config/systemd/user"
        return Systemd(folder, run, for_user=not root)
    if platform == "win32":
        return TaskScheduler(state, run)
    raise VarietError(
        f"no service manager is known for {platform}", next_step="Start `variet up` by what your system offers"
    )


def _quoted(text: str) -> str:
    """systemd.syntax(7), Quoting; `%` begins a specifier and `$` a variable there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(letter in text for letter in " \t\"'") else escaped
