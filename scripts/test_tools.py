"""Find what the tests need of the system (Chromium for the dashboard's, bubblewrap for the sandbox's), and have
Debian's installed where it lacks: `make test-tools`. Needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# what it is for -> (names on PATH, a variable that names one, Debian's package)
TOOLS = {
    "the dashboard's tests": (
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "VARIET_CHROMIUM", "chromium",
    ),
    "the sandbox's tests": (("bwrap",), "", "bubblewrap"),
}  # fmt: skip


def find(names: tuple[str, ...], variable: str) -> str | None:
    """What the variable says, else the first on PATH."""
    return os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)


def main() -> None:
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
