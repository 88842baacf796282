"""Pure: what a plan needs to know of a model, as numbers. gguf_facts.py reads them from a header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# plain: every token of the past, which can be cut anywhere; window: some layers only the newest tokens; recurrent: some
# layers a running state, which cannot be cut at all.
Memory = Literal["plain", "window", "recurrent"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. KV in elements per cell, keys and values apart; `window` 0 sees everything."""

    dense_bytes: int
    expert_bytes: int
    largest_expert_bytes: int
    key_elements: int
    value_elements: int
    window: int
    recurrent_bytes: int  # state of one sequence, f32


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan needs to know of a model."""

    architecture: str
    name: str  # what its makers call it; empty: they do not say
    layers: tuple[Layer, ...]
    embedding_bytes: int  # token embeddings: always on the host
    output_bytes: int  # output head and its norm, on the last device; a tied head is a second copy of the embeddings
    embedding_length: int
    feed_forward_length: int
    heads: int
    vocabulary: int
    trained_context: int
    experts: int
    experts_used: int
    expert_feed_forward_length: int
    repacked_bytes: int  # weights of which llama.cpp keeps a second, rearranged copy when the processor runs them
    unused_bytes: int  # multi-token-prediction blocks that the main pass does not load
    parameters: int = 0  # weights that it has, a tied head counted once

    @property
    def memory(self) -> Memory:
        """How its layers remember what was read."""
        if any(layer.recurrent_bytes for layer in self.layers):
            return "recurrent"
        return "window" if any(layer.window for layer in self.layers) else "plain"

    @property
    def weight_bytes(self) -> int:
        return self.embedding_bytes + self.output_bytes + sum(one.dense_bytes + one.expert_bytes for one in self.layers)

    @property
    def file_weight_bytes(self) -> int:
        """Bytes of distinct tensors, a tied head counted once."""
        return self.weight_bytes - (self.embedding_bytes if self.tied else 0)

    @property
    def tied(self) -> bool:
        return self.output_bytes >= self.embedding_bytes > 0 and self.output_bytes - self.embedding_bytes < 1 << 20
