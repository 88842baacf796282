"""A copy of this machine for one test: its files as they are, whatever is written thrown away; users, processes and a
real systemd of its own. The network is this machine's, so that services of the test are in reach.

Root makes it of namespaces and an overlay; where that is not allowed, tests that need it are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = next((path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if Path(path).exists()), "")
REPOSITORY = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STARTS_S = 60.0

# The kernel's settings, its clock and its devices are this machine's, too: what would change them is left out. (A /proc
# of which a part cannot be written would keep ordinary users from making namespaces.)
_MAKE = """
set -e
mount -t tmpfs machine "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cd "$1/root"
for kind in run tmp dev; do mount -t tmpfs -o mode=$([ $kind = tmp ] && echo 1777 || echo 755) machine $kind; done
mkdir dev/shm dev/pts
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
case "$REPOSITORY" in /tmp/*|/run/*|/dev/*)  # it would be hidden
  mkdir -p ".$REPOSITORY"; mount --bind "$REPOSITORY" ".$REPOSITORY"; mount -o remount,ro,bind ".$REPOSITORY";;
esac
mount -t tmpfs -o mode=1777 machine dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 machine dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t proc machine proc
for name in sysctl binfmt modules-load udevd timesyncd; do
  ln -sf /dev/null etc/systemd/system/systemd-$name.service
done
mount --rbind /sys sys
mount --make-rprivate sys
mount -o remount,ro,bind sys
mount -t cgroup2 machine sys/fs/cgroup
: > etc/fstab
mkdir -p mnt/before
pivot_root . mnt/before
umount --lazy /mnt/before
mount --make-rshared /
shift
exec env -i container=variet PATH="$PATH" setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog "$@"
"""


class NoMachine(Exception):
    """None can be made here: what the system says."""


class Machine:
    """Whatever runs in it ends with it; commands are root's unless another user is named."""

    def __init__(self, first: int) -> None:
        self._enter = [
            "nsenter", "--target", str(first), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd",
        ]  # fmt: skip

    def words(self, *command: str, user: str = "root", environment: dict[str, str] | None = None) -> list[str]:
        """What runs a command there."""
        home = "/root" if user == "root" else f"/home/{user}"
        told = {"PATH": _PATH, "HOME": home, "USER": user, "LANG": "C.UTF-8", **(environment or {})}
        change = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*self._enter, "env", "-i", *(f"{name}={value}" for name, value in told.items()), *change, *command]

    def run(
        self, *command: str, user: str = "root", typed: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Whatever its exit code is."""
        return subprocess.run(
            self.words(*command, user=user, environment=environment), input=typed, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def must(self, *command: str, user: str = "root", typed: str = "") -> str:
        """Its standard output; fails the test where it fails."""
        done = self.run(*command, user=user, typed=typed)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def variet(
        self, *words: str, user: str = "root", typed: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As this checkout has it."""
        return self.run(sys.executable, "-m", "variet", *words, user=user, typed=typed, environment=environment)

    def user(self, name: str) -> None:
        """A person with a home, who can run this checkout."""
        self.must("useradd", "--create-home", "--shell", "/bin/bash", name)

    def write(self, path: str, text: str) -> None:
        self.must("mkdir", "-p", str(Path(path).parent))
        self.must("tee", path, typed=text)


def lacking() -> str:
    """Why none is tried here; empty: one is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for users and services of its own"
    return "" if SYSTEMD and shutil.which("unshare") else "needs systemd and unshare"


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """`folder`: empty; the machine's files are mounted there, in a namespace of its own. Raises NoMachine."""
    outer = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", "--propagation",
         "private", "bash", "-c", _MAKE, "make", str(folder), SYSTEMD, "--unit=basic.target", "--show-status=no"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={"PATH": _PATH, "REPOSITORY": str(REPOSITORY)},
    )  # fmt: skip
    try:
        until = time.monotonic() + _STARTS_S
        made = Machine(_first_of(outer, until))
        while made.run("systemctl", "is-system-running", "--wait").stdout.strip() not in ("running", "degraded"):
            _check(outer, until)
            time.sleep(0.05)
        for path in {Path(sys.base_prefix), REPOSITORY, Path(sys.prefix)}:
            shut = [one for one in (path, *path.parents) if one.stat().st_mode & 0o005 != 0o005]
            if shut:
                made.must("chmod", "o+rx", *map(str, shut))  # in the copy alone
        yield made
    finally:
        outer.kill()
        outer.wait()


def _first_of(outer: subprocess.Popen[str], until: float) -> int:
    """The machine's first process, once it is systemd."""
    while True:
        _check(outer, until)
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            for pid in Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split():
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return int(pid)
        time.sleep(0.02)


def _check(outer: subprocess.Popen[str], until: float) -> None:
    if outer.poll() is not None:
        raise NoMachine(outer.stderr.read().strip() if outer.stderr else "it ended")
    if time.monotonic() > until:
        raise NoMachine(f"its systemd does not run after {_STARTS_S:g} s")
