"""Machine B has the commands without the engine: nothing of the engine's extra is imported on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
WITHOUT = """
import sys
absent = set(sys.argv[1].split(","))
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
sys.argv = ["variet", *sys.argv[2:]]
from variet.cli import main
main()
"""
MODULES = {"nvidia-ml-py": "pynvml", "prometheus-client": "prometheus_client"}


def engine_modules() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["engine"]
    names = [requirement.split(">")[0].split(";")[0].strip() for requirement in extras]
    assert "aiohttp" in names
    return ",".join(MODULES.get(name, name.replace("-", "_")) for name in names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status",), "no engine answers"),
        (("swap", "fast"), "no engine answers"),
        (("bench",), "no engine answers"),
        (("logs",), "no engine runs"),
        (("pair", "https://127.0.0.1:1", "K7QD-M2XF"), "no engine answers"),
        (("pair", "--forget"), "nothing was stored"),
        (("up",), "no engine installed"),
    ],
)
def test_commands_of_machine_b_need_nothing_of_the_engine(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    env = {**os.environ, "VARIET_HOME": str(tmp_path), "VARIET_ENGINE_URL": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, engine_modules(), *arguments], env=env, capture_output=True, text=True
    )
    assert words in done.stdout + done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_part_that_is_not_installed_is_named_with_what_installs_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "mcp,lxml", "mcp", "search"], env={**os.environ, "VARIET_HOME": str(tmp_path)},
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and "is missing). `make setup-client` installs" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
