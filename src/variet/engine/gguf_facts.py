"""A GGUF header -> the sizes that a plan needs: weights by class and layer, KV per token, window, recurrent state.

Reads metadata and tensor infos only, so the first few megabytes are enough, from disk or from a hub. The `gguf`
package is not used here: it maps whole files and decodes every token string, which takes seconds; tests hold this
reader to what that package writes. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from variet.engine.facts import Facts, Layer
from variet.errors import ModelFileError
from variet.paths import write_whole

# ggml type -> (elements per block, bytes per block); a test holds it equal to gguf.GGML_QUANT_SIZES.
TYPE_SIZES: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_KEEP_ARRAY = 4096  # longer ones (vocabulary, merges) are counted, not kept


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    shape: tuple[int, ...]
    type_id: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        block, size = TYPE_SIZES[self.type_id]
        return self.elements // block * size


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata (long arrays as their length) and tensor infos of one file."""

    metadata: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    data_start: int  # header's length in bytes


def read_header(stream: _Stream, where: str) -> Header:
    """Parse a header. Raises ModelFileError for what is no GGUF, is cut off, or is of an unknown version."""
    reader = _Reader(stream, where)
    if reader.take(4) != b"GGUF":
        raise ModelFileError("not a GGUF file", where=where, next_step="Name another file")
    version = reader.number("<I")
    if version not in (2, 3):
        raise ModelFileError(f"GGUF version {version} is not supported", where=where, next_step="Convert it again")
    tensor_count, key_count = reader.number("<Q"), reader.number("<Q")
    if tensor_count > 1_000_000 or key_count > 1_000_000:
        raise ModelFileError("its header is damaged", where=where, next_step="Pull it again")
    metadata = {}
    for _ in range(key_count):
        key = reader.string()
        metadata[key] = reader.value(reader.number("<I"))
    tensors = []
    for _ in range(tensor_count):
        name = reader.string()
        dimensions = reader.number("<I")
        if dimensions > 8:
            raise ModelFileError("its header is damaged", where=where, next_step="Pull it again")
        shape = tuple(reader.number("<Q") for _ in range(dimensions))
        type_id = reader.number("<I")
        reader.number("<Q")  # offset
        if type_id not in TYPE_SIZES:
            raise ModelFileError(
                f"tensor {name} has the unknown type {type_id}",
                where=where,
                next_step="Update Variet, or use another file",
            )
        tensors.append(TensorInfo(name, shape, type_id))
    return Header(metadata, tuple(tensors), reader.position)


def read_files(files: Iterable[Path], cache: Path | None = None) -> Facts:
    """Facts of a model on disk, all its parts. Raises ModelFileError.

    `cache` is a folder that keeps what was read, since walking a large vocabulary takes a tenth of a second; a file
    that changed is read again.
    """
    paths, stamps = list(files), []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            raise ModelFileError(
                "no such file", where=str(path), next_step="Run `variet pull --all`, or correct its path"
            ) from None
        stamps.append((str(path.absolute()), status.st_size, status.st_mtime_ns))
    shape = [field.name for kind in (Facts, Layer) for field in fields(kind)]
    key = hashlib.sha256(json.dumps([stamps, shape, _READING]).encode()).hexdigest()[:32]
    kept = cache / f"{key}.json" if cache is not None else None
    remembered = _recall(kept) if kept is not None else None
    if remembered is not None:
        return remembered
    facts = _read_files(paths)
    if kept is not None:
        write_whole(kept, json.dumps(asdict(facts)))
    return facts


def _recall(kept: Path) -> Facts | None:
    try:
        raw = json.loads(kept.read_text(encoding="utf-8"))
        return Facts(**{**raw, "layers": tuple(Layer(**layer) for layer in raw["layers"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not read yet, or damaged: read the file itself


def _read_files(paths: list[Path]) -> Facts:
    headers = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                header = read_header(stream, str(path))
        except OSError as error:
            raise ModelFileError(
                f"cannot be read: {error}", where=str(path), next_step="Run `variet pull --all`, or correct its path"
            ) from None
        _check_length(path, header)
        headers.append(header)
    try:
        return facts_of(headers)
    except (ValueError, TypeError, IndexError, OverflowError, KeyError) as error:
        where = str(next(iter(paths), "model"))
        raise ModelFileError(
            f"its header makes no sense ({error})", where=where, next_step="Use another file"
        ) from None


def _check_length(path: Path, header: Header) -> None:
    needed = header.data_start + sum(tensor.bytes for tensor in header.tensors)
    if path.stat().st_size < needed and header.tensors:
        raise ModelFileError(
            f"truncated: {path.stat().st_size:,} bytes of at least {needed:,}",
            where=str(path),
            next_step="Run `variet pull --all`, or correct its path",
        )


def facts_of(headers: Iterable[Header]) -> Facts:
    """Merge the headers of a model's parts; metadata comes from the first. Raises ModelFileError."""
    parts = list(headers)
    metadata = parts[0].metadata
    tensors = [tensor for part in parts for tensor in part.tensors]
    arch = str(metadata.get("general.architecture", ""))
    keys = _Keys(metadata, arch)
    blocks = keys.integer("block_count")
    if not arch or blocks <= 0:
        raise ModelFileError(
            "the header names no architecture or layers", where="GGUF metadata", next_step="Use another file"
        )
    unused = keys.integer("nextn_predict_layers")
    layers = blocks - unused
    dense, expert, largest = [0] * blocks, [0] * blocks, [0] * blocks
    embedding = output = 0
    attention_layers, recurrent_layers = set(), set()
    for tensor in tensors:
        if tensor.name.startswith("blk."):
            index = int(tensor.name.split(".", 2)[1])
            if index >= blocks:
                continue
            if "_exps" in tensor.name:
                expert[index] += tensor.bytes
                largest[index] = max(largest[index], tensor.bytes)
            else:
                dense[index] += tensor.bytes
            if ".attn_k." in tensor.name or (".attn_qkv." in tensor.name and not keys.has("ssm.state_size")):
                attention_layers.add(index)
            if any(part in tensor.name for part in _RECURRENT):
                recurrent_layers.add(index)
        elif tensor.name.startswith("token_embd"):
            embedding += tensor.bytes
        else:
            output += tensor.bytes
    has_head = any(tensor.name == "output.weight" for tensor in tensors)
    if not has_head:
        output += embedding
    built = tuple(
        _layer(
            keys,
            index,
            dense[index],
            expert[index],
            largest[index],
            index in attention_layers,
            index in recurrent_layers,
            blocks,
        )
        for index in range(layers)
    )
    vocabulary = metadata.get("tokenizer.ggml.tokens", 0)
    shape = next((tensor.shape for tensor in tensors if tensor.name == "token_embd.weight"), (0, 0))
    return Facts(
        architecture=arch,
        name=str(metadata.get("general.name", "")),
        layers=built,
        embedding_bytes=embedding,
        output_bytes=output,
        embedding_length=keys.integer("embedding_length"),
        feed_forward_length=max(keys.many("feed_forward_length", blocks)),
        heads=max(keys.many("attention.head_count", blocks)),
        vocabulary=vocabulary if isinstance(vocabulary, int) and vocabulary else shape[-1],
        trained_context=keys.integer("context_length"),
        experts=keys.integer("expert_count"),
        experts_used=keys.integer("expert_used_count"),
        expert_feed_forward_length=keys.integer("expert_feed_forward_length"),
        repacked_bytes=sum(tensor.bytes for tensor in tensors if _repacks(tensor)),
        unused_bytes=sum(dense[layers:]) + sum(expert[layers:]),
        parameters=sum(tensor.elements for tensor in tensors),
    )


_READING = 3  # changes whenever a header is read to other facts
# What a layer with a running state has: Mamba and gated delta nets, short convolutions, RWKV.
_RECURRENT = (".ssm_", ".shortconv.", ".time_mix_")
# ggml-cpu/repack.cpp: Q4_0, Q4_K, IQ4_NL matrices whose rows come in eights (AVX2; other processors take fewer).
_REPACKED_TYPES = frozenset({2, 12, 20})


def _repacks(tensor: TensorInfo) -> bool:
    matrix = len(tensor.shape) >= 2 and tensor.shape[1] % 8 == 0
    return matrix and tensor.type_id in _REPACKED_TYPES and tensor.name.startswith(("blk.", "output."))


def _layer(
    keys: _Keys, index: int, dense: int, expert: int, largest: int, attends: bool, recurs: bool, blocks: int
) -> Layer:
    key_elements = value_elements = window = recurrent = 0
    if attends:
        heads = keys.many("attention.head_count", blocks)[index]
        kv_heads = keys.many("attention.head_count_kv", blocks, default=heads)[index]
        default_length = keys.integer("embedding_length") // max(1, heads)
        sliding = keys.slides(index, blocks)
        suffix = "_swa" if sliding and keys.has("attention.key_length_swa") else ""
        key_elements = kv_heads * keys.integer(f"attention.key_length{suffix}", default_length)
        value_elements = kv_heads * keys.integer(f"attention.value_length{suffix}", default_length)
        window = keys.integer("attention.sliding_window") if sliding else 0
    # llama.cpp keeps a tail of what came and a state a sequence, both f32 (llama-hparams.cpp n_embd_r, n_embd_s).
    if recurs and keys.has("ssm.state_size"):
        state, inner = keys.integer("ssm.state_size"), keys.integer("ssm.inner_size")
        tail = keys.integer("ssm.conv_kernel") - 1
        channels = inner + 2 * keys.integer("ssm.group_count") * state
        recurrent = 4 * (max(0, tail) * channels + state * inner)
    elif recurs and keys.has("shortconv.l_cache"):
        recurrent = 4 * keys.integer("embedding_length") * (keys.integer("shortconv.l_cache") - 1)
    elif recurs:
        shifts, head = keys.integer("token_shift_count", 2), keys.integer("wkv.head_size")
        recurrent = 4 * keys.integer("embedding_length") * (shifts + head)
    return Layer(dense, expert, largest, key_elements, value_elements, window, recurrent)


class _Keys:
    """Metadata of one architecture; per-layer values may be one number or an array."""

    def __init__(self, metadata: Mapping[str, Any], arch: str) -> None:
        self._metadata, self._arch = metadata, arch

    def has(self, key: str) -> bool:
        return f"{self._arch}.{key}" in self._metadata

    def integer(self, key: str, default: int = 0) -> int:
        value = self._metadata.get(f"{self._arch}.{key}", default)
        return int(value) if isinstance(value, int | float) else default

    def many(self, key: str, count: int, default: int = 0) -> list[int]:
        value = self._metadata.get(f"{self._arch}.{key}", default)
        if isinstance(value, list | tuple):
            return [int(one) for one in value][:count] + [default] * max(0, count - len(value))
        return [int(value)] * count

    def slides(self, index: int, count: int) -> bool:
        """Whether a layer sees only a window: a per-layer array says it, else every n-th layer sees all."""
        if not self.has("attention.sliding_window") or self.integer("attention.sliding_window") == 0:
            return False
        pattern = self._metadata.get(f"{self._arch}.attention.sliding_window_pattern")
        if isinstance(pattern, list | tuple):
            return bool(pattern[index]) if index < len(pattern) else False
        # Where the header has no pattern llama.cpp has one by architecture (llama-model.cpp, set_swa_pattern).
        every = (
            int(pattern)
            if isinstance(pattern, int) and pattern
            else {"gemma3": 6, "gemma2": 2, "cohere2": 4}.get(self._arch, 1)
        )
        return every > 1 and index % every != every - 1


class _Reader:
    def __init__(self, stream: _Stream, where: str) -> None:
        self._stream, self._where = stream, where
        self.position = 0

    def take(self, size: int) -> bytes:
        if size > 1 << 30:
            raise ModelFileError("its header is damaged", where=self._where, next_step="Pull it again")
        data = self._stream.read(size)
        if len(data) != size:
            raise ModelFileError(
                "truncated in its header", where=self._where, next_step="Run `variet pull --all`, or correct its path"
            )
        self.position += size
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        length = self.number("<Q")
        if length > 1 << 26:
            raise ModelFileError("its header is damaged", where=self._where, next_step="Pull it again")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ModelFileError(f"metadata of unknown type {kind}", where=self._where, next_step="Update Variet")
        inner, count = self.number("<I"), self.number("<Q")
        if count > 1 << 28:
            raise ModelFileError("its header is damaged", where=self._where, next_step="Pull it again")
        if inner in _SCALARS:
            data = self.take(struct.calcsize(_SCALARS[inner]) * count)
            if count > _KEEP_ARRAY:
                return count
            return [one[0] for one in struct.iter_unpack(_SCALARS[inner], data)]
        if count > _KEEP_ARRAY and inner == _STRING:
            for _ in range(count):
                self.take(self.number("<Q"))
            return count
        return [self.value(inner) for _ in range(count)]
