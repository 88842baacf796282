"""Where commands run so that they can do no harm outside the workspace: bubblewrap, once a probe showed that it holds.

Inside: the system read-only, the workspace writable but for `.git` (git alone writes there, and no hooks or settings),
an empty home, no capabilities, its own user, process, IPC and network namespaces, a cleared environment. Not there at
all: the person's home, sockets of D-Bus, SSH agents, containers and Variet's own, secrets in /etc. Facts behind it: run
by root, bubblewrap keeps every capability unless told otherwise, and a read-only bind can then be remounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from variet.agent import programs as on_path
from variet.agent.survey import Survey

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/snap")
_SETTINGS = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "default",
    "environment", "fonts", "gai.conf", "group", "host.conf", "hosts", "java*", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "magic", "mime.types", "nsswitch.conf",
    "os-release", "passwd", "pki", "profile", "profile.d", "protocols", "python3*", "resolv.conf", "services", "shells",
    "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
# Of a home: tools alone. Whatever of it may hold a secret is left out.
_TOOLS = (
    ".pyenv", ".cargo/bin", ".cargo/registry", ".rustup", ".nvm", ".volta/bin", ".volta/tools", ".local/bin",
    ".local/share/uv/python", ".local/share/uv/tools",
    ".local/share/mise", ".local/share/pnpm", ".local/lib", ".asdf", ".sdkman", ".bun/bin",
    ".deno/bin", "go/bin", "go/pkg", ".dotnet", ".ghcup/bin", ".opam", ".rbenv", "miniconda3", "anaconda3",
    "mambaforge", "miniforge3",
)  # fmt: skip
# Root needs no capability to write or read these: the kernel asks for its user id alone. Docker's lists.
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "fs")
_PROC_HIDDEN = ("acpi", "asound", "kcore", "keys", "kmsg", "latency_stats", "timer_list", "sched_debug", "scsi", "mtrr")
# Of a repository that git may write: what git obeys, and must not be changed by it either.
_OBEYED_IN_GIT = ("hooks", "config", "config.worktree", "commondir", "info", "modules", "worktrees")
_PROBE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Of one session. `scratch`: its /tmp, kept between commands."""

    bubblewrap: str
    root: Path
    home: Path
    scratch: Path

    def words(
        self, environment: Mapping[str, str], survey: Survey | None, *, network: bool = False, git: bool = False
    ) -> list[str]:
        """What stands before a command that is to run in it. `survey`: what it may not change in the workspace; None:
        all of it. `git`: the command is nothing but git's own."""
        shown = programs(environment.get("PATH", ""), self.root, self.home)
        return command_line(
            self.bubblewrap, self.root, self.home, {**environment, "HOME": str(self.home), "TMPDIR": "/tmp"}, survey,
            network=network, scratch=self.scratch, programs=shown, git=git,
        )  # fmt: skip

    def close(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


async def open_sandbox(root: Path) -> tuple[Sandbox | None, str]:
    """(a sandbox around this folder, "") or (None, why there is none)."""
    home = Path.home().resolve()
    if root == home or root in home.parents:
        return None, f"{root} is a home folder or holds one"
    bubblewrap, why = await probe(root)
    if why:
        return None, why
    return Sandbox(bubblewrap, root, home, Path(tempfile.mkdtemp(prefix="variet-"))), ""


def programs(path: str, root: Path, home: Path) -> list[Path]:
    """Folders of the search path that are not part of the system, with what belongs to them: virtual environments and
    their interpreter, what shims lead to. Nothing that holds a home or the workspace."""
    found: list[Path] = []
    for name in path.split(os.pathsep):
        folder = Path(name)
        if not folder.is_absolute() or not folder.is_dir() or any(name.startswith(f"{one}/") for one in _SYSTEM):
            continue
        venv = (folder.parent / "pyvenv.cfg").is_file()
        found.append(folder.parent if venv or folder.name == "shims" else folder)
        python = (folder / "python").resolve() if venv else None
        if python is not None and python.is_file():
            found.append(python.parent.parent)
    around = {root, home, *root.parents, *home.parents}
    return [one for one in dict.fromkeys(found) if one not in around and root not in one.parents]


def command_line(
    bubblewrap: str,
    root: Path,
    home: Path,
    environment: Mapping[str, str],
    survey: Survey | None,
    *,
    network: bool = False,
    git: bool = False,
    scratch: Path | None = None,
    programs: Iterable[Path] = (),
) -> list[str]:
    """What to put before a command so that it runs in the sandbox, in `root`. `survey`: None where it writes nothing.

    `git`: the command is nothing but git's own, which may write its repository. Others may not: of what lies in `.git`,
    git obeys more than hooks and configuration (`commondir` alone makes it take both from elsewhere).
    """
    # Its first process is bubblewrap itself, whose own environment can be read there: it gets none.
    words = [
        "/usr/bin/env", "-i", bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv",
    ]  # fmt: skip
    words += [] if network else ["--unshare-net"]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]  # noqa: PTH115 - as it is written
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for pattern in _SETTINGS:
        for path in sorted(Path("/etc").glob(pattern)):
            words += ["--ro-bind-try", str(path.resolve()), str(path)]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/var", "--dir", "/var/tmp"]
    for name in _PROC_READ_ONLY:
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    for name in _PROC_HIDDEN:
        if Path("/proc", name).exists():
            words += ["--tmpfs" if Path("/proc", name).is_dir() else "--ro-bind", *_nothing(Path("/proc", name))]
    words += ["--bind", str(scratch), "/tmp"] if scratch else ["--tmpfs", "/tmp"]
    words += ["--tmpfs", str(home)]
    for name in _TOOLS:
        path = home / name
        if path.exists() and root != path and root not in path.parents:
            words += ["--ro-bind", str(path.resolve()), str(path)]
    for path in programs:
        words += ["--ro-bind-try", str(path), str(path)]
    words += ["--bind" if survey else "--ro-bind", str(root), str(root)]
    for path in survey.repositories if survey else ():
        if path.is_symlink():  # what it leads to stands in the survey, too; the link itself is compared afterwards
            continue
        own = git and path == root / ".git" and path.is_dir()
        words += ["--bind" if own else "--ro-bind", str(path), str(path)]
        for name in _OBEYED_IN_GIT if own else ():
            words += ["--ro-bind-try", str(path / name), str(path / name)]
    for path in (*survey.guarded, *survey.kept) if survey else ():
        words += ["--ro-bind-try", str(path), str(path)]
    words += ["--remount-ro", "/"]
    for name, value in environment.items():
        words += ["--setenv", name, value]
    return [*words, "--chdir", str(root), "--"]


def _nothing(path: Path) -> list[str]:
    return [str(path)] if path.is_dir() else ["/dev/null", str(path)]


_TRIAL = """
import os, sys
facts = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
wrong = []
if int(facts["CapEff"], 16) or int(facts["CapPrm"], 16) or int(facts["CapBnd"], 16):
    wrong.append("capabilities remain")
if os.access("/proc/sys/kernel/core_pattern", os.W_OK) or os.access("/proc/sysrq-trigger", os.W_OK):
    wrong.append("the kernel can be set")
if b"VARIET_TRIAL" in open("/proc/1/environ", "rb").read() or "VARIET_TRIAL" in os.environ:
    wrong.append("the environment remains")
if os.path.exists(sys.argv[1]):
    wrong.append("the home is seen")
for place in ("/usr", "/etc", "/"):
    try:
        path = os.path.join(place, ".variet-trial")
        open(path, "w").close()
        os.unlink(path)
        wrong.append(place + " can be written")
    except OSError:
        pass
if len([one for one in os.listdir("/proc") if one.isdigit()]) > 8:
    wrong.append("other processes are seen")
if [one for one in os.listdir("/sys/class/net") if one != "lo"] if os.path.isdir("/sys/class/net") else False:
    wrong.append("the network is seen")
open("inside", "w").write("yes")
print("; ".join(wrong) or "holds")
"""


async def probe(workspace: Path) -> tuple[str, str]:
    """(bubblewrap's path, "") where a sandbox holds on this machine, else ("", why not)."""
    if not sys.platform.startswith("linux"):
        return "", "a sandbox is to be had on Linux alone"
    bubblewrap = on_path.find("bwrap", workspace)
    if bubblewrap is None:
        return "", "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    with tempfile.TemporaryDirectory(prefix="variet-trial-") as folder:
        base = Path(folder).resolve()
        root, home = base / "work", base / "home"
        for path in (root, home):
            path.mkdir()
        secret = home / "secret"
        secret.write_text("x")
        python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or sys.executable
        words = command_line(bubblewrap, root, home, {"PATH": "/usr/bin:/bin"}, Survey())
        process = await asyncio.create_subprocess_exec(
            *words, python, "-c", _TRIAL, str(secret), env={**os.environ, "VARIET_TRIAL": "1"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, wrong = await asyncio.wait_for(process.communicate(), _PROBE_S)
        except TimeoutError:
            return "", "bubblewrap does not end"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        told = said.decode(errors="replace").strip()
        if told == "holds" and (root / "inside").is_file():
            return bubblewrap, ""
        last = (wrong.decode(errors="replace").strip().splitlines() or [""])[-1]
        return "", f"bubblewrap does not hold here: {told or last or 'no answer'}"
