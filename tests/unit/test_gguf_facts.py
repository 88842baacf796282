"""The header reader agrees with the `gguf` package and with published figures, and names what is wrong with a file."""

from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import headers
from variet.engine import gguf_facts
from variet.engine.facts import Facts
from variet.errors import ModelFileError

_F32 = gguf.GGMLQuantizationType.F32


def facts_for(name: str, folder: Path) -> Facts:
    path = headers.write_header(name, folder / "h.gguf", vocabulary=8)
    with path.open("rb") as stream:
        return gguf_facts.facts_of([gguf_facts.read_header(stream, name)])


def test_type_sizes_are_those_of_the_gguf_package() -> None:
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()} == gguf_facts.TYPE_SIZES


@pytest.mark.parametrize("name", headers.OWNER_MODELS)
def test_header_of_an_owner_model_has_the_published_parameters(name: str, tmp_path: Path) -> None:
    path = headers.write_header(name, tmp_path / "h.gguf", vocabulary=8)
    fixture = headers.fixture(name)
    with path.open("rb") as stream:
        header = gguf_facts.read_header(stream, name)
    elements = 0
    for tensor in header.tensors:
        count = 1
        for length in tensor.shape:
            count *= length
        elements += count
    assert elements == fixture["param_count"]
    assert len(header.tensors) == fixture["tensor_count"]


# bytes per token at f16 over the layers that see everything, state of one sequence: own arithmetic from the public
# configurations; the Qwen figures equal those of ggml-org's model catalogue.
@pytest.mark.parametrize(
    ("name", "global_bytes", "sliding_bytes", "state_bytes"),
    [
        ("gemma-4-26b-a4b", 5 * 2 * 512 * 4, 25 * 8 * 256 * 4, 0),
        ("gemma-4-31b", 10 * 4 * 512 * 4, 50 * 16 * 256 * 4, 0),
        ("qwen3.5-35b-a3b", 20_480, 0, 65_863_680),
        ("qwen3.5-27b", 65_536, 0, 156_893_184),
        ("qwen3.5-122b-a10b", 24_576, 0, 156_303_360),
    ],
)
def test_cache_sizes_of_the_owner_models(
    name: str, global_bytes: int, sliding_bytes: int, state_bytes: int, tmp_path: Path
) -> None:
    facts = facts_for(name, tmp_path)
    per_cell = [(layer.window, 2 * (layer.key_elements + layer.value_elements)) for layer in facts.layers]
    assert sum(size for window, size in per_cell if window == 0) == global_bytes
    assert sum(size for window, size in per_cell if window == 1024) == sliding_bytes
    assert sum(layer.recurrent_bytes for layer in facts.layers) == state_bytes


@pytest.mark.parametrize(("name", "file_bytes"), [("gemma-4-31b", 18_687_061_792), ("gemma-4-26b-a4b", 16_796_015_136)])
def test_weights_agree_with_published_files(name: str, file_bytes: int, tmp_path: Path) -> None:
    facts = facts_for(name, tmp_path)
    assert facts.tied
    assert facts.file_weight_bytes == pytest.approx(file_bytes, rel=0.002)


def test_a_prediction_block_is_not_part_of_the_main_pass(tmp_path: Path) -> None:
    path = tmp_path / "mtp.gguf"
    writer = gguf.GGUFWriter(path, "qwen35")
    for key, value in {"block_count": 3, "nextn_predict_layers": 1, "embedding_length": 32}.items():
        writer.add_uint32(f"qwen35.{key}", value)
    for index in range(3):
        writer.add_tensor_info(f"blk.{index}.ffn_up.weight", [32, 32 * 4], np.dtype(np.uint8), 4096, raw_dtype=_F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("rb") as stream:
        facts = gguf_facts.facts_of([gguf_facts.read_header(stream, "mtp")])
    assert len(facts.layers) == 2
    assert facts.unused_bytes == 4096


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"GG", "truncated"),
        (b"PK\x03\x04 a zip file", "not a GGUF"),
        (b"GGUF\x09\x00\x00\x00" + b"\0" * 16, "version 9"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "damaged"),
        (b"GGUF\x03\x00\x00\x00" + b"\x01" + b"\0" * 7 + b"\x01" + b"\0" * 7, "truncated"),
    ],
)
def test_what_is_no_whole_header_is_named(content: bytes, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        gguf_facts.read_header(io.BytesIO(content), "file")


@given(st.binary(max_size=400))
def test_random_bytes_are_never_more_than_an_error(content: bytes) -> None:
    try:
        header = gguf_facts.read_header(io.BytesIO(b"GGUF\x03\x00\x00\x00" + content), "file")
    except ModelFileError:
        return
    assert header.data_start <= 8 + len(content)  # it was whole, and nothing beyond it was read


def test_a_header_that_makes_no_sense_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.x.foo", np.zeros((32,), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match="makes no sense"):
        gguf_facts.read_files([path])


def test_facts_are_kept_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "m.gguf", tmp_path / "cache"

    def write(blocks: int) -> None:
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint32("llama.block_count", blocks)
        writer.add_tensor("blk.0.ffn_up.weight", np.zeros((32, 32 * blocks), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write(1)
    first = gguf_facts.read_files([path], cache)
    assert gguf_facts.read_files([path], cache) == first and len(list(cache.iterdir())) == 1
    kept = next(cache.iterdir())
    kept.write_text("{")
    assert gguf_facts.read_files([path], cache) == first, "a damaged memory is no harm"
    write(2)
    assert len(gguf_facts.read_files([path], cache).layers) == 2


def test_a_file_that_ends_before_its_weights_is_truncated(tmp_path: Path) -> None:
    path = headers.write_header("qwen3.5-27b", tmp_path / "h.gguf", vocabulary=8)
    with pytest.raises(ModelFileError, match="truncated"):
        gguf_facts.read_files([path])
