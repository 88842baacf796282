"""`variet doctor` on this very machine: what is right is said to be, and what lacks is named with its mending."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import EngineProcess, embedded_config
from tests.support.headers import write_header
from variet.commands.doctor import _disk
from variet.engine.config import ModelConfig
from variet.engine.sources import remote

pytestmark = pytest.mark.models


async def examine(home: Path, models: Path, config: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    one = EngineProcess(home, models)
    one.write_config(config)
    code, text = await one.variet("doctor", "--config", str(one.config_path), "--json", VARIET_MODELS=str(models))
    return code, {finding["what"]: finding for finding in json.loads(text)}


async def test_all_is_well_where_models_run(tmp_path: Path, models: Path) -> None:
    code, found = await examine(tmp_path / "home", models, embedded_config())
    assert code == 0 and all(one["ok"] for one in found.values())
    assert "said a token" in found["llama-server at work"]["detail"]


async def test_a_binary_for_another_processor_is_found_before_anybody_asks(tmp_path: Path, models: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo "version: 1 (abc)";; *--help*) echo "--slot-save-path PATH";;\n'
        "*) kill -ILL $$;; esac\n"
    )
    binary.chmod(0o755)
    config = embedded_config(llama_server={"path": str(binary)})
    code, found = await examine(tmp_path / "home", models, config)
    work = found["llama-server at work"]
    assert code == 1 and found["llama-server"]["ok"] and not work["ok"]
    assert "an instruction that this processor lacks" in work["detail"] and "llama.cpp" in work["mend"]


async def test_without_a_model_nothing_is_tried(tmp_path: Path) -> None:
    code, found = await examine(tmp_path / "home", tmp_path / "none", embedded_config())
    assert code == 1 and found["model files"]["mend"] == "variet pull --all"
    assert "not tried" in found["llama-server at work"]["detail"]
    assert "is not known yet" in found["disk"]["detail"]


def test_the_disk_is_compared_with_what_is_to_be_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    url = "http://127.0.0.1:1/deep-coder.gguf"
    kept = remote._kept(url)
    kept.parent.mkdir(parents=True)
    write_header("qwen3.5-27b", kept)  # as an earlier `variet plan` left it
    model = ModelConfig.model_validate({"files": {"model": url}})
    (tmp_path / "models").mkdir()
    finding = _disk(tmp_path / "models", {"coder": model})
    assert "MiB are to be pulled for coder" in finding.detail
    facts = remote.remote_facts(model, kept_only=True)
    assert facts is not None and f"{facts.file_weight_bytes >> 20:,} MiB" in finding.detail
    usage = shutil.disk_usage(tmp_path)._replace(free=facts.file_weight_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    full = _disk(tmp_path / "models", {"coder": model})
    assert not full.ok and "free 2,048 MiB" in full.mend, "some are to be left for everything else"
