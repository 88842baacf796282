"""Find a Chromium for the dashboard's tests, and have Debian's installed where there is none: `make browser`.

Prints the path of the one that the tests will take. Needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """`VARIET_CHROMIUM`, else the first on PATH."""
    return os.environ.get("VARIET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> None:
    found = find()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("browser: installing Debian's chromium", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
        found = find()
    if found is None:
        sys.exit("browser: the dashboard's tests need Chromium: install it, or set VARIET_CHROMIUM to its path")
    print(f"browser: {found}")


if __name__ == "__main__":
    main()
