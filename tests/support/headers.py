"""Header-only GGUFs of the owner's five models, written by the `gguf` package from facts in tests/fixtures/headers.

Tensor types follow llama-quantize's plain Q4_K_M recipe (llama-quant.cpp), which reproduces published file sizes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "headers"
OWNER_MODELS = ("gemma-4-26b-a4b", "qwen3.5-35b-a3b", "gemma-4-31b", "qwen3.5-27b", "qwen3.5-122b-a10b")
_TYPES = gguf.GGMLQuantizationType
_ALIGNMENT = 32
_WHERE_NOT_DIVISIBLE = {_TYPES.Q4_K: _TYPES.Q5_0, _TYPES.Q5_K: _TYPES.Q5_1, _TYPES.Q6_K: _TYPES.Q8_0}


def fixture(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def tensors(facts: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """(name, shape, type) of every tensor."""
    kinds: list[str] = facts["layer_kinds"]
    per_layer = facts["tensors"]["per_layer"]
    values = [
        kind for kind in kinds for one in per_layer if "attn_v." in one["name"] and one["layers"] in ("all", kind)
    ]
    value_layers = len(kinds) if facts["arch"].startswith("qwen") else len(values)
    seen_values = 0
    for one in facts["tensors"]["non_layer"]:
        yield one["name"], tuple(one["shape"]), _fitting(_plain_type(one, facts["tied_embeddings"]), one["shape"])
    for index, kind in enumerate(kinds):
        for one in per_layer:
            if one["layers"] not in ("all", kind):
                continue
            chosen = _plain_type(one, facts["tied_embeddings"])
            if "attn_v." in one["name"]:
                chosen = _TYPES.Q6_K if _more_bits(seen_values, value_layers) else _TYPES.Q4_K
                seen_values += 1
            elif "ffn_down" in one["name"] and chosen is not _TYPES.F32:
                chosen = _TYPES.Q6_K if _more_bits(index, len(kinds)) else _TYPES.Q4_K
            yield one["name"].replace("{i}", str(index)), tuple(one["shape"]), _fitting(chosen, one["shape"])


def write_header(name: str, path: Path, vocabulary: int | None = None, *, words: bool = False) -> Path:
    """A GGUF of this model without its data. A full vocabulary would only cost time: its length is what counts.

    `words`: with a tokenizer that llama-server takes; its words mean nothing.
    """
    facts = fixture(name)
    metadata = facts["metadata"]
    arch = metadata["general.architecture"]
    writer = gguf.GGUFWriter(path, arch)
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if key.startswith("tokenizer.ggml.tokens"):
            count = vocabulary or int(value)
            writer.add_array("tokenizer.ggml.tokens", _words(count) if words else [""] * count)
        elif words and key.startswith("tokenizer."):
            continue  # of the real words
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
    if words:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")
    for tensor, shape, kind in tensors(facts):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        elements = int(np.prod(shape))
        row_bytes = [*reversed(shape[1:]), shape[0] // block * size]
        writer.add_tensor_info(tensor, row_bytes, np.dtype(np.uint8), elements // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def write_hollow(name: str, path: Path) -> Path:
    """A model as large as the real one whose weights are all zero: a hole in the file, it takes no disk.

    llama-server loads and runs it, and takes the memory that the real one takes; what it says is noise.
    """
    write_header(name, path, words=True)
    size = -(-path.stat().st_size // _ALIGNMENT) * _ALIGNMENT
    for _, shape, kind in tensors(fixture(name)):
        block, bytes_per_block = gguf.GGML_QUANT_SIZES[kind]
        size += -(-(int(np.prod(shape)) // block * bytes_per_block) // _ALIGNMENT) * _ALIGNMENT
    os.truncate(path, size)
    return path


def _words(count: int) -> list[str]:
    """Every byte, as BPE writes it, and other words, no two alike."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [chr(256 + order) for order in range(256 - len(kept))]
    return ["<end>", *map(chr, kept), *others, *(f"w{number}" for number in range(257, count))][:count]


def _plain_type(tensor: dict[str, Any], tied: bool) -> Any:
    name, shape = tensor["name"], tensor["shape"]
    single = len(shape) == 1 or "ffn_gate_inp" in name or "ssm_conv1d" in name or tensor.get("type_hint") == "F32"
    if single:
        return _TYPES.F32
    if name == "output.weight" or (name == "token_embd.weight" and tied):
        return _TYPES.Q6_K
    return _TYPES.Q5_K if "attn_qkv" in name else _TYPES.Q4_K


def _more_bits(index: int, count: int) -> bool:
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def _fitting(kind: Any, shape: list[int]) -> Any:
    return _WHERE_NOT_DIVISIBLE[kind] if kind in _WHERE_NOT_DIVISIBLE and shape[0] % 256 else kind
