"""What loads teach: only about GPUs, only by their own fault, remembered by configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from variet.engine.config import ModelConfig
from variet.engine.learned import Learned

CUDA = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 700.00 MiB on device 0: cudaMalloc failed: out of memory"
MODEL = ModelConfig.model_validate({"files": {"model": "path:/m.gguf"}})


def test_a_failed_allocation_is_counted_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "state" / "learned.json"
    learned = Learned(path)
    assert learned.failed("one", MODEL, ["loading", CUDA])
    assert learned.of("one", MODEL).gpu_mib == 700
    assert Learned(path).of("one", MODEL).gpu_mib == 700
    changed = MODEL.model_copy(update={"slots": 2})
    assert Learned(path).of("one", changed).gpu_mib == 0, "another configuration is learnt anew"


def test_it_gives_up_after_a_few_tries(tmp_path: Path) -> None:
    learned = Learned(tmp_path / "learned.json")
    tries = 0
    while learned.failed("one", MODEL, ["ErrorOutOfDeviceMemory"]):
        tries += 1
    assert 3 <= tries <= 6


@pytest.mark.parametrize(
    "line",
    [
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 4096",
        "llama_model_load: error loading model: unable to allocate CPU buffer",
        "CUDA_Host: cudaMallocHost failed: out of memory",
        "error: unknown model architecture",
    ],
)
def test_other_failures_teach_nothing(line: str, tmp_path: Path) -> None:
    learned = Learned(tmp_path / "learned.json")
    assert not learned.failed("one", MODEL, [line]) and learned.of("one", MODEL).gpu_mib == 0


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    path.write_text("[1]")
    learned = Learned(path)
    learned.loaded("one", MODEL, 1234.56)
    assert Learned(path).of("one", MODEL).load_ms == 1234.6
