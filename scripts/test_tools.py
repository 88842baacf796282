"""Find what the tests need of the system (Chromium for the dashboard's, bubblewrap for the sandbox's, a keyring), and
have Debian's installed where it lacks; install programs of others that tests drive: `make test-tools`. Needs Python
and npm.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

# what it is for -> (names on PATH, a variable that names one, Debian's package)
TOOLS = {
    "the dashboard's tests": (
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "VARIET_CHROMIUM", "chromium",
    ),
    "the sandbox's tests": (("bwrap",), "", "bubblewrap"),
    "the keyring's tests": (("gnome-keyring-daemon",), "", "gnome-keyring"),
    "the keyring's session": (("dbus-run-session",), "", "dbus"),
}  # fmt: skip


def find(names: tuple[str, ...], variable: str) -> str | None:
    """What the variable says, else the first on PATH."""
    return os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)


SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"


def install_packages(folder: Path) -> None:
    """What package-lock.json names, once for each of its versions. Nothing of it runs while it is installed."""
    lock, done = folder / "package-lock.json", folder / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if done.is_file() and done.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("test-tools: programs that tests drive need npm: install Node.js 20 or newer")
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--no-update-notifier"]
    subprocess.run([npm, "ci", *quiet, "--prefix", str(folder)], check=True)
    done.write_text(wanted)


def main() -> None:
    for name in ("node", "google_server"):
        install_packages(SUPPORT / name)
    lacking = [package for names, variable, package in TOOLS.values() if find(names, variable) is None]
    if lacking and shutil.which("apt-get") and os.geteuid() == 0:
        print(f"test-tools: installing Debian's {', '.join(lacking)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *lacking]):
            subprocess.run(["apt-get", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    for purpose, (names, variable, package) in TOOLS.items():
        found = find(names, variable)
        if found is None and sys.platform.startswith("linux"):
            hint = f", or set {variable} to its path" if variable else ""
            sys.exit(f"test-tools: {purpose} need {package}: install it{hint}")
        print(f"test-tools: {found or f'no {package} here'}")


if __name__ == "__main__":
    main()
