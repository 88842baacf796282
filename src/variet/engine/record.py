"""One request as status, log and metrics see it: names, times and counts, never what it says."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(slots=True)
class Record:
    """One request as status and metrics see it."""

    request_id: int
    path: str
    tier: str
    model: str
    name: str = ""  # what its client calls it
    stream: bool = False
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)  # Unix seconds
    stage: Literal["queue", "restore", "prefill", "answer"] = "queue"
    queue_ms: float = 0.0
    swap_ms: float = 0.0  # of that, until the model was loaded
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    outcome: str = "running"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    read_tokens: int = 0  # of the prompt so far, with those that were cached
    told_at: float = 0.0  # when the child said so
    output_tokens: int = 0
    pieces: int = 0  # of the answer so far: events of its stream, a token each, nearly
    write_ms: float | None = None  # writing the answer, by the child's clock
    prefill_ms: float | None = None  # reading the part of the prompt that was not cached, by the child's clock
    restored_tokens: int = 0  # of a conversation that was brought back from disk
    restore_ms: float = 0.0
    attributed: bool = False  # a billing line was taken from its prompt
    reason: str = ""  # why this tier answers, where the engine chose it

    @property
    def tokens_per_s(self) -> float | None:
        """How quickly the answer is written, or was."""
        if self.write_ms:
            return round(self.output_tokens / self.write_ms * 1000, 1)
        if self.stage != "answer" or self.first_byte_ms is None or self.pieces < 2:
            return None
        writing_s = time.monotonic() - self.began - self.first_byte_ms / 1000
        return round(self.pieces / writing_s, 1) if writing_s > 0 else None

    def reading(self, prompt: int, cached: int, read: int) -> None:
        """The child told how far it is with the prompt, in tokens."""
        self.prompt_tokens, self.cached_tokens, self.read_tokens = prompt, cached, read
        self.told_at = time.monotonic()

    def again(self) -> None:
        """Another child is asked: what the first one said of the prompt holds no more."""
        self.first_byte_ms, self.pieces = None, 0
        self.reading(0, 0, 0)


def read_usage(record: Record, head: bytes, tail: bytes) -> None:
    """Tokens of an answer, for metrics: llama-server's own `timings` at its end, else its API's `usage`. A stream of
    `/v1/messages` tells the prompt's in its first event and the answer's in its last. Off the hot path."""
    timings = _last_object(tail, b'"timings":')
    if timings:
        record.cached_tokens = _count(timings, "cache_n")
        record.prompt_tokens = _count(timings, "prompt_n") + record.cached_tokens
        record.output_tokens = _count(timings, "predicted_n")
        record.prefill_ms, record.write_ms = _ms(timings, "prompt_ms"), _ms(timings, "predicted_ms")
        return
    usage = {**_last_object(head, b'"usage":'), **_last_object(tail, b'"usage":')}
    details = usage.get("input_tokens_details")
    cached = _count(usage, "cache_read_input_tokens") or _count(details, "cached_tokens")
    record.cached_tokens = cached or record.cached_tokens
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    if "cache_read_input_tokens" in usage:
        prompt += record.cached_tokens  # Anthropic counts them apart
    record.prompt_tokens = prompt or record.prompt_tokens
    record.output_tokens = _count(usage, "completion_tokens") or _count(usage, "output_tokens")


def _last_object(text: bytes, key: bytes) -> dict[str, Any]:
    """The JSON object that follows the last `key` in a text; empty where there is none."""
    start = text.rfind(key)
    if start < 0:
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start + len(key) :].decode("utf-8", "replace").lstrip())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _ms(timings: dict[str, Any], name: str) -> float | None:
    value = timings.get(name)
    return float(value) if isinstance(value, int | float) else None


def _count(of: Any, name: str) -> int:
    value = of.get(name) if isinstance(of, dict) else None
    return value if isinstance(value, int) else 0
