"""Memory estimates against what a real llama-server takes: within 10% for each embedded model at 2k, 8k and 32k."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import psutil
import pytest

from variet.engine import command_line, gguf_facts, llama_server
from variet.engine.backends.base import LaunchSpec
from variet.engine.backends.local import socket_dir
from variet.engine.config import ModelConfig
from variet.engine.instance import LocalChild, child_environment
from variet.engine.memory import MIB
from variet.engine.placement import Split, host_process_mib
from variet.engine.plan import shape_of
from variet.engine.sources.base import ModelPaths
from variet.processes import leash_for

pytestmark = pytest.mark.models
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


IN_THE_GATE = {(MODELS[0], 2048), (MODELS[0], 32768), (MODELS[1], 8192)}  # the others take half a minute each
CASES = [
    pytest.param(name, context, marks=[] if (name, context) in IN_THE_GATE else [pytest.mark.long])
    for name in MODELS for context in (2048, 8192, 32768)
]  # fmt: skip


@pytest.mark.parametrize(("name", "context"), CASES)
async def test_estimate_is_within_a_tenth(name: str, context: int, models: Path, tmp_path: Path) -> None:
    file = next((models / name).glob("*.gguf"))
    config = ModelConfig.model_validate({"files": {"model": f"path:{file}"}, "context_tokens": context, "gpus": "none"})
    facts = gguf_facts.read_files([file])
    server = await llama_server.discover()
    files = ModelPaths((file,), None, None, ())
    spec = LaunchSpec(
        model=name,
        binary=server.path,
        args=command_line.flags(name, config, files, Split(), None),
        env=server.environment(child_environment({})),
        child_protocol=server.child_protocol,
        load_timeout_s=60,
    )
    child = await LocalChild.spawn(spec, socket_dir(), tmp_path / "log", leash_for(), lambda *_: None)
    try:
        await child.ready
        connector = aiohttp.UnixConnector(child.address.socket_path or "")
        async with aiohttp.ClientSession(child.address.base_url, connector=connector) as session:
            # One full micro-batch touches the whole compute buffer.
            body = {"prompt": [100 + index % 900 for index in range(520)], "n_predict": 1}
            async with session.post("/completion", json=body) as answer:
                assert answer.status == 200, await answer.text()
        assert child.pid is not None
        taken = psutil.Process(child.pid).memory_info().rss / MIB
    finally:
        await child.stop()
    planned = host_process_mib(facts, shape_of(config, facts))
    print(f"{name} at {context}: planned {planned} MiB, taken {taken:.0f} MiB")
    assert planned == pytest.approx(taken, rel=0.10)
