"""Create .venv from the locked, hashed requirements: `python scripts/setup.py engine|client|dev`.

engine: Machine A. client: Machine B, the commands alone. dev: all that tests and benches need, too.

Works with the standard library alone, on every operating system; the Makefile and the Windows quick start call it.
It refuses nothing silently: a command that fails ends the set-up with its own exit code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], cwd=ROOT)
    if done.returncode != 0:
        words = " ".join(str(part) for part in command)
        sys.exit(f"setup: `{words}` failed (exit {done.returncode}); its own message is above")


def build_dashboard(*, needed: bool) -> None:
    """The engine runs without it; its page then says how to get it. `needed`: for tests, a failure ends the set-up."""
    npm = shutil.which("npm")
    print("setup: building the dashboard", flush=True)
    quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--no-update-notifier", "--prefix", "web")
    install = ("ci", "--ignore-scripts", *quiet)
    try:
        for words in (install, ("run", "--silent", "build", "--prefix", "web")):
            if npm is None or subprocess.run([npm, *words], cwd=ROOT).returncode != 0:
                raise OSError("no npm here" if npm is None else f"`npm {words[0]}` failed")
    except OSError as error:
        told = f"setup: the dashboard is left out: {error} (it needs Node 20 or newer; `make web` tries again)"
        if needed:
            sys.exit(told)
        print(told, flush=True)


def main() -> None:
    kinds = {"client": "requirements/client.txt", "engine": "requirements/engine.txt", "dev": "requirements/dev.txt"}
    if len(sys.argv) != 2 or sys.argv[1] not in kinds:
        sys.exit("usage: python scripts/setup.py engine|client|dev")
    if sys.version_info < (3, 11):  # noqa: UP036 - said before pip says it less kindly
        sys.exit(f"setup: Variet needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    kind = sys.argv[1]
    if not PYTHON.exists():
        print("setup: creating .venv", flush=True)
        try:
            venv.create(VENV, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit(
                "setup: this Python cannot make a virtual environment with pip (Debian: apt-get install python3-venv)"
            )
    print(f"setup: installing {kinds[kind]} (pinned and hashed)", flush=True)
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "install", "--require-hashes", "-r", "requirements/bootstrap.txt")
    uv = (PYTHON, "-m", "uv", "-q", "pip", "install", "--python", PYTHON)
    run(*uv, "--require-hashes", "-r", kinds[kind])
    run(*uv, "--no-deps", "--no-build-isolation", "--editable", ".")
    if kind != "client":
        build_dashboard(needed=kind == "dev")
        (VENV / ".engine-ready").touch()
    if kind == "dev":
        (VENV / ".dev-ready").touch()
    print("setup: done", flush=True)


if __name__ == "__main__":
    main()
