"""Writes models of a few MB with random weights, for what no small published model shows: a running state.

`mamba` has nothing else, `lfm2` mixes short convolutions with attention (a hybrid, as Qwen3.5 is). Tensor names and
shapes are those that llama.cpp reads (src/llama-model.cpp). The tokenizer with its chat template comes from another
file. They say words at random and never end by themselves: bound their answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

WIDTH, LAYERS, FEED_FORWARD = 32, 4, 64
_HEADS, _KV_HEADS = 4, 2
_PLAIN_WORD = re.compile("\u0120[a-z]{3,}")  # with the sign that BPE has for a blank


class _Weights:
    """Tensors of a file in the making; the same seed always gives the same."""

    def __init__(self, writer: gguf.GGUFWriter) -> None:
        self._writer = writer
        self._random = np.random.default_rng(1)

    def matrix(self, name: str, rows: int, columns: int, scale: float | None = None, kind: Any = np.float16) -> None:
        values = self._random.standard_normal((rows, columns)) * (columns**-0.5 if scale is None else scale)
        self._writer.add_tensor(name, values.astype(kind))

    def constant(self, name: str, length: int, value: float = 1.0) -> None:
        self._writer.add_tensor(name, np.full(length, value, np.float32))

    def words_alone(self, tokens: list[str]) -> None:
        """An output head that only plain words come out of: they are read again as the tokens that were written."""
        head = self._random.standard_normal((len(tokens), WIDTH)) * WIDTH**-0.5
        plain = np.array([bool(_PLAIN_WORD.fullmatch(token)) for token in tokens])
        self._writer.add_tensor("output.weight", (head * plain[:, None]).astype(np.float16))


def write(architecture: Literal["mamba", "lfm2"], tokenizer: Path, path: Path) -> Path:
    """A model at `path`, with the tokenizer of the GGUF file `tokenizer`. Takes some seconds: a large vocabulary."""
    writer = gguf.GGUFWriter(path, architecture)
    tokens = _copy_tokenizer(tokenizer, writer)
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    weights = _Weights(writer)
    weights.matrix("token_embd.weight", len(tokens), WIDTH, scale=1.0)
    weights.words_alone(tokens)
    (_mamba if architecture == "mamba" else _lfm2)(writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _copy_tokenizer(source: Path, writer: gguf.GGUFWriter) -> list[str]:
    tokens: list[str] = []
    for key, field in gguf.GGUFReader(source).fields.items():
        if key.startswith("tokenizer."):
            inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
            if key == "tokenizer.ggml.tokens":
                tokens = field.contents()
    return tokens


def _mamba(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    inner, state, rank, kernel = 2 * WIDTH, 16, 4, 4
    writer.add_head_count(0)
    writer.add_feed_forward_length(0)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    weights.constant("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights.constant(f"{block}attn_norm.weight", WIDTH)
        weights.matrix(f"{block}ssm_in.weight", 2 * inner, WIDTH)
        weights.matrix(f"{block}ssm_conv1d.weight", inner, kernel, kind=np.float32)
        weights.constant(f"{block}ssm_conv1d.bias", inner, 0.0)
        weights.matrix(f"{block}ssm_x.weight", rank + 2 * state, inner)
        weights.matrix(f"{block}ssm_dt.weight", inner, rank)
        weights.constant(f"{block}ssm_dt.bias", inner, -2.0)
        decay = -np.tile(np.arange(1, state + 1, dtype=np.float32), (inner, 1))
        writer.add_tensor(f"{block}ssm_a", decay)
        weights.constant(f"{block}ssm_d", inner)
        weights.matrix(f"{block}ssm_out.weight", WIDTH, inner)


def _lfm2(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    kernel, head_width = 3, WIDTH // _HEADS
    attends = [layer % 2 == 1 for layer in range(LAYERS)]
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv([_KV_HEADS if one else 0 for one in attends])  # 0: a convolution
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_rope_freq_base(1e6)
    writer.add_uint32("lfm2.shortconv.l_cache", kernel)
    weights.constant("token_embd_norm.weight", WIDTH)
    for layer, attention in enumerate(attends):
        block = f"blk.{layer}."
        weights.constant(f"{block}attn_norm.weight", WIDTH)
        weights.constant(f"{block}ffn_norm.weight", WIDTH)
        weights.matrix(f"{block}ffn_gate.weight", FEED_FORWARD, WIDTH)
        weights.matrix(f"{block}ffn_up.weight", FEED_FORWARD, WIDTH)
        weights.matrix(f"{block}ffn_down.weight", WIDTH, FEED_FORWARD)
        if attention:
            weights.matrix(f"{block}attn_q.weight", _HEADS * head_width, WIDTH)
            for name in ("attn_k", "attn_v"):
                weights.matrix(f"{block}{name}.weight", _KV_HEADS * head_width, WIDTH)
            weights.matrix(f"{block}attn_output.weight", WIDTH, _HEADS * head_width)
            for name in ("attn_q_norm", "attn_k_norm"):
                weights.constant(f"{block}{name}.weight", head_width)
        else:
            weights.matrix(f"{block}shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
            weights.matrix(f"{block}shortconv.conv.weight", WIDTH, kernel, kind=np.float32)
            weights.matrix(f"{block}shortconv.out_proj.weight", WIDTH, WIDTH)
