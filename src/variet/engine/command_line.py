"""Pure: a model's configuration, files and placement -> llama-server's flags. The owner's own come last and win."""

from __future__ import annotations

from variet.engine.config import ModelConfig
from variet.engine.placement import Split
from variet.engine.sources.base import ModelPaths


def flags(
    name: str, config: ModelConfig, files: ModelPaths, split: Split, snapshots: str | None, *, swa_full: bool = False
) -> tuple[str, ...]:
    """Everything but the address. `swa_full`: sliding-window layers keep every token.

    Explicit slots, each with a context of its own, and no prompt cache in the child: the engine, not the child, knows
    which conversation sits where. No memory fitting and no warm-up: the engine planned the memory, and the first
    request warms the model up just as well.
    """
    out = ["--model", str(files.model[0]), "--alias", name]
    out += [
        "--ctx-size",
        str(config.context_tokens * config.slots),
        "--parallel",
        str(config.slots),
        "--no-kv-unified",
    ]
    out += ["--cache-ram", "0", "-fit", "off", "--no-warmup", "--no-ui", "--sse-ping-interval", "-1"]
    batch = config.batch_tokens or (2048 if len(split.gpu_indices) > 1 else 512)
    out += ["--batch-size", str(max(batch, config.micro_batch_tokens)), "--ubatch-size", str(config.micro_batch_tokens)]
    if config.kv_type != "f16":
        out += ["--cache-type-k", config.kv_type, "--cache-type-v", config.kv_type]
    out += ["--ctx-checkpoints", str(config.context_checkpoints)]
    if swa_full:
        out += ["--swa-full"]
    if snapshots is not None:
        out += [
            "--slot-save-path",
            snapshots.rstrip("/") + "/",
        ]  # without the slash it becomes part of the file names
    if files.mmproj:
        out += ["--mmproj", str(files.mmproj)]
    if files.draft:
        out += ["--model-draft", str(files.draft)]
    for adapter in files.lora:
        out += ["--lora", str(adapter)]
    kind = getattr(config, "kind", None)
    if kind == "embedding":
        out += ["--embeddings"]
    elif kind == "rerank":
        out += ["--reranking"]
    if split.gpu_indices:
        layers = 999 if split.gpu_layers is None else split.gpu_layers
        out += ["--n-gpu-layers", str(layers), "--split-mode", "layer" if len(split.gpu_indices) > 1 else "none"]
        if len(split.gpu_indices) > 1:
            out += ["--tensor-split", ",".join(f"{share:g}" for share in split.tensor_split)]
        if split.host_expert_layers:
            out += ["--n-cpu-moe", str(split.host_expert_layers)]
    else:
        out += ["--n-gpu-layers", "0", "--device", "none"]
    return (*out, *config.args)


def visible_gpus(split: Split) -> dict[str, str]:
    """Environment that shows a child its GPUs only, so that the first of them is its main one."""
    if not split.gpu_indices:
        return {}
    indices = ",".join(str(index) for index in split.gpu_indices)
    return {"CUDA_VISIBLE_DEVICES": indices, "GGML_VK_VISIBLE_DEVICES": indices, "HIP_VISIBLE_DEVICES": indices}
