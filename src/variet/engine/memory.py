"""Pure: how much memory a model's parts take, from its facts. MiB are rounded up; formulas name their source.

Constants were measured with llama.cpp b10434 and checked with b10068 (docs/decisions/004-memory-estimates.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from variet.engine.facts import Facts, Layer

MIB = 1 << 20
# Bytes per element of a KV cache type: block bytes / block elements (ggml-common.h).
KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0,
    "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
}  # fmt: skip
CELL_PADDING = 256
PROCESS_MIB = 32  # libraries, allocator, HTTP workers of a llama-server without GPU
VOCABULARY_BYTES = 284  # per token: the tokenizer's tables
# On each device in use, measured with Vulkan on an H100: 56 of its context, and what it takes when it first reads a
# prompt, up to 410; products of experts take more.
GPU_CONTEXT_MIB = 480
EXPERT_SCRATCH_MIB = 180
HOST_GPU_PROCESS_MIB = 450  # what a GPU process takes on the host beside weights


@dataclass(frozen=True, slots=True)
class Shape:
    """How a model is to run: the part of its configuration that memory depends on."""

    context_tokens: int
    slots: int
    kv_type: str
    swa_full: bool
    micro_batch_tokens: int
    checkpoints: int


def mib(size: float) -> int:
    return -(-int(size) // MIB)


def cells(layer: Layer, shape: Shape) -> int:
    """KV cells of one layer, all slots. A sliding layer keeps its window and a micro-batch (llama-kv-cache-iswa)."""
    context = _padded(shape.context_tokens)
    if layer.window and not shape.swa_full:
        context = min(context, _padded(layer.window + shape.micro_batch_tokens))
    return context * shape.slots


def kv_bytes(layer: Layer, shape: Shape) -> int:
    """KV cache and recurrent state of one layer, all slots."""
    per_cell = (layer.key_elements + layer.value_elements) * KV_BYTES[shape.kv_type]
    return int(cells(layer, shape) * per_cell) + layer.recurrent_bytes * shape.slots


def full_window_bytes(facts: Facts, shape: Shape) -> int:
    """What `--swa-full` costs: sliding layers then keep every token."""
    full = replace(shape, swa_full=True)
    return sum(kv_bytes(layer, full) - kv_bytes(layer, shape) for layer in facts.layers)


def compute_bytes(facts: Facts, shape: Shape) -> int:
    """A device's compute buffer with flash attention, one micro-batch. Fits dense models to 0.02 MiB (decision 004);
    experts in use stand side by side (within 3 MiB above the log of two such models)."""
    batch = min(shape.micro_batch_tokens, shape.context_tokens)
    feed_forward = max(facts.feed_forward_length, facts.experts_used * facts.expert_feed_forward_length)
    embedding = (16 + 4 * facts.experts_used) * facts.embedding_length
    return batch * (12 * feed_forward + embedding + 20 + 2 * _padded(shape.context_tokens))


def output_bytes(facts: Facts, shape: Shape) -> int:
    """Logits of one token a slot, on the host."""
    return 4 * facts.vocabulary * shape.slots


def checkpoint_bytes(facts: Facts, shape: Shape) -> int:
    """Host copies that a slot keeps to be able to roll back sliding windows and recurrent state."""
    one_slot = 0
    for layer in facts.layers:
        if layer.window and not shape.swa_full:
            per_cell = (layer.key_elements + layer.value_elements) * KV_BYTES[shape.kv_type]
            one_slot += int(min(_padded(shape.context_tokens), layer.window) * per_cell)
        one_slot += layer.recurrent_bytes
    return one_slot * shape.checkpoints * shape.slots


def _padded(tokens: int) -> int:
    return -(-tokens // CELL_PADDING) * CELL_PADDING
