"""`variet connect` as people run it, against a real engine."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import EngineProcess

pytestmark = pytest.mark.models


async def test_a_client_is_connected_listed_and_put_back(engine: EngineProcess, tmp_path: Path) -> None:
    person = tmp_path / "person"
    settings = person / ".config" / "opencode" / "opencode.json"
    settings.parent.mkdir(parents=True)
    mine = '{\n  "theme": "dark" // mine\n}\n'
    settings.write_text(mine)
    env: dict[str, Any] = {"HOME": str(person), "XDG_CONFIG_HOME": "", "OPENCODE_CONFIG_DIR": ""}
    code, shown = await engine.variet("connect", "opencode", "--print", **env)
    assert code == 0 and '+ model: "variet/balanced"' in shown and settings.read_text() == mine
    code, told = await engine.variet("connect", "opencode", **env)
    assert code == 0 and f"wrote {settings}" in told and engine.url in told and "--undo" in told
    code, told = await engine.variet("connect", "opencode", **env)
    assert code == 0 and "nothing to change" in told
    code, listed = await engine.variet("connect", "--list", "--json", **env)
    found = {one["client"]: one for one in json.loads(listed)["clients"]}
    assert json.loads(listed)["engine"] == engine.url and found["opencode"]["connected"] == ["user"]
    assert found["codex"]["connected"] == []
    held = json.loads(settings.read_text().replace(" // mine", ""))
    limit = held["provider"]["variet"]["models"]["deep-coder"]["limit"]
    assert limit == {"context": 16384, "output": 4096} and held["small_model"] == "variet/resident"
    code, told = await engine.variet("connect", "opencode", "--undo", **env)
    assert code == 0 and settings.read_text() == mine


async def test_what_cannot_be_connected_is_told(engine: EngineProcess, tmp_path: Path) -> None:
    env: dict[str, Any] = {"HOME": str(tmp_path / "person")}
    code, told = await engine.variet("connect", "codex", "--project", **env)
    assert code == 2 and "without --project" in told
    code, told = await engine.variet("connect", "opencode", "--project", HOME=str(Path.cwd()))
    assert code == 2 and "home folder" in told
    code, told = await engine.variet("connect", "opencode", "--check", "--project", **env)
    assert code == 2 and "without --project" in told
    code, told = await engine.variet("connect", "zed", "--check", **env)
    assert code == 1 and "no way to run without a person" in told
    code, told = await engine.variet("connect", "--undo", **env)
    assert code == 2 and "of which client?" in told
    code, told = await engine.variet("connect", "emacs", **env)
    assert code == 2 and "opencode" in told
    settings = tmp_path / "person" / ".codex" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("model =\n")
    code, told = await engine.variet("connect", "codex", **env)
    assert code == 1 and "config.toml: it is not TOML" in told and settings.read_text() == "model =\n"


async def test_without_an_engine_nothing_is_written(engine: EngineProcess, tmp_path: Path) -> None:
    person = tmp_path / "person"
    person.mkdir()
    code, told = await engine.variet("connect", "aider", HOME=str(person), VARIET_ENGINE_URL="http://127.0.0.1:9")
    assert code == 1 and "no engine answers" in told and not any(person.iterdir())
    code, told = await engine.variet("connect", "--list", HOME=str(person), VARIET_ENGINE_URL="http://127.0.0.1:9")
    assert code == 0 and "no engine: " in told and "aider" in told


async def test_a_check_tells_a_refused_key(engine: EngineProcess, tmp_path: Path) -> None:
    """The client is a program of three lines that asks as OpenClaude does, with the key from its settings."""
    person, programs = tmp_path / "person", tmp_path / "programs"
    person.mkdir()
    programs.mkdir()
    asks = (
        "import json, os, pathlib, urllib.request\n"
        "env = json.loads(pathlib.Path('~/.openclaude/settings.json').expanduser().read_text())['env']\n"
        "request = urllib.request.Request(env['OPENAI_BASE_URL'] + '/chat/completions', b'{}', "
        "{'Authorization': 'Bearer ' + env['OPENAI_API_KEY'], 'Content-Type': 'application/json'})\n"
        "urllib.request.urlopen(request)\n"
    )
    client = programs / "openclaude"
    client.write_text(f"#!{sys.executable}\n{asks}")
    client.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env: dict[str, Any] = {"HOME": str(person), "PATH": path, "OPENCLAUDE_CONFIG_DIR": ""}
    code, told = await engine.variet("connect", "openclaude", **env)
    assert code == 0, told
    code, told = await engine.variet("key", "add", "owner", "--admin")
    assert code == 0, told
    key = re.search(r"vk_\S+", told)
    assert key, told
    code, told = await engine.variet("connect", "openclaude", "--check", VARIET_API_KEY=key[0], **env)
    assert code == 1 and "the engine refused its key; run `variet connect openclaude` again" in told
