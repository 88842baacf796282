"""What the documents say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from variet.agent import contract
from variet.cli import COMMANDS, variet
from variet.engine import reference

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_reference_of_configuration_keys_is_the_generated_one() -> None:
    text = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    _, _, generated = text.partition("-->\n\n")
    assert generated == reference.markdown(), "run `python -m tests.unit.test_docs`"


@pytest.mark.parametrize("room", ["engine", "agent"])
def test_the_architecture_names_every_file_of_a_room(room: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = [path.name for path in (ROOT / "src" / "variet" / room).glob("*.py")]
    assert not [name for name in files if name not in (*text.split("`"), "__init__.py", "reference.py")
                and f"{room}/{name}" not in text]  # fmt: skip


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    there = [path.as_posix() for path in (ROOT / "src" / "variet").rglob("*.py")]
    named = set(re.findall(r"\*\*`([\w/]+\.py)`\*\*", text))
    assert len(named) > 50
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]


def test_every_command_has_help_and_is_documented() -> None:
    text = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        answer = CliRunner().invoke(variet, [name, "--help"])
        assert answer.exit_code == 0 and "Usage:" in answer.output
        assert name in text


def test_the_contract_between_rooms_is_the_generated_one() -> None:
    kept = (ROOT / "docs" / "contract" / "events.schema.json").read_text(encoding="utf-8")
    assert kept == contract.schema(), "run `python -m variet.agent.contract docs/contract/events.schema.json`"


def test_help_imports_no_room() -> None:
    """What keeps `variet --help` quick: neither the engine nor a web framework is loaded."""
    import subprocess
    import sys

    code = "import sys, variet.cli as c; c.variet(['--help'], standalone_mode=False); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"fastapi", "pydantic", "aiohttp", "httpx", "rich", "variet.engine", "asyncio"}
    assert not heavy & set(modules)


if __name__ == "__main__":
    page = ROOT / "docs" / "engine.md"
    head, mark, _ = page.read_text(encoding="utf-8").partition("-->\n\n")
    page.write_text(head + mark + reference.markdown(), encoding="utf-8")
