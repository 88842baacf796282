"""Header-only GGUFs of the owner's five models, written by the `gguf` package from facts in tests/fixtures/headers.

Tensor types follow llama-quantize's plain Q4_K_M recipe (llama-quant.cpp), which reproduces published file sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "headers"
OWNER_MODELS = ("gemma-4-26b-a4b", "qwen3.5-35b-a3b", "gemma-4-31b", "qwen3.5-27b", "qwen3.5-122b-a10b")
_TYPES = gguf.GGMLQuantizationType
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


def write_header(name: str, path: Path, vocabulary: int | None = None) -> Path:
    """A GGUF of this model without its data. A full vocabulary would only cost time: its length is what counts."""
    facts = fixture(name)
    metadata = facts["metadata"]
    arch = metadata["general.architecture"]
    writer = gguf.GGUFWriter(path, arch)
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if key.startswith("tokenizer.ggml.tokens"):
            writer.add_array("tokenizer.ggml.tokens", [""] * (vocabulary or int(value)))
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
