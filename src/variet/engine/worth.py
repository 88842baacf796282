"""Pure: whether keeping a conversation's KV state costs less than reading it again, by measured speeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

_EWMA = 0.3
_FEWEST_TOKENS = 64  # below, nothing is worth a file
_FEWEST_WRITTEN = 8
_UNMEASURED_READ_MS = 2.0  # a token, until the model has read some: 500 tokens a second
_UNMEASURED_MS_PER_BYTE = 1 / 300e3  # a slow SSD


@dataclass(frozen=True, slots=True)
class Speeds:
    """Of one model on this machine; None until measured. A state has a fixed part and one that grows by token."""

    read_ms_per_token: float | None = None  # prefill
    save_ms_per_byte: float | None = None
    restore_ms_per_byte: float | None = None
    bytes_per_token: float | None = None
    write_ms_per_token: float | None = None  # of answers, alone or beside others

    def read(self, tokens: int, ms: float) -> Speeds:
        """With a prefill of so many tokens counted in."""
        return (
            self
            if tokens < _FEWEST_TOKENS
            else replace(self, read_ms_per_token=_mean(self.read_ms_per_token, ms / tokens))
        )

    def written(self, tokens: int, ms: float) -> Speeds:
        """With an answer of so many tokens counted in."""
        if tokens < _FEWEST_WRITTEN:
            return self
        return replace(self, write_ms_per_token=_mean(self.write_ms_per_token, ms / tokens))

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return 1000 / self.read_ms_per_token if self.read_ms_per_token else None

    @property
    def tokens_per_s(self) -> float | None:
        return 1000 / self.write_ms_per_token if self.write_ms_per_token else None

    def saved(self, tokens: int, size: int, ms: float) -> Speeds:
        return replace(
            self,
            save_ms_per_byte=_mean(self.save_ms_per_byte, ms / max(size, 1)),
            bytes_per_token=_mean(self.bytes_per_token, size / max(tokens, 1)),
        )

    def restored(self, size: int, ms: float) -> Speeds:
        return replace(self, restore_ms_per_byte=_mean(self.restore_ms_per_byte, ms / max(size, 1)))

    def reading_ms(self, tokens: float) -> float:
        return tokens * (_UNMEASURED_READ_MS if self.read_ms_per_token is None else self.read_ms_per_token)

    def size(self, tokens: float) -> float:
        """Bytes that the state of so many tokens takes; 0 while unknown."""
        return tokens * (self.bytes_per_token or 0.0)

    def save_ms(self, tokens: float) -> float:
        return self.size(tokens) * (self.save_ms_per_byte or _UNMEASURED_MS_PER_BYTE)

    def restore_ms(self, size: float) -> float:
        return size * (self.restore_ms_per_byte or _UNMEASURED_MS_PER_BYTE)


def worth_saving(speeds: Speeds, tokens: float) -> bool:
    """Whether to keep a state of `tokens` that is about to be lost."""
    if tokens < _FEWEST_TOKENS:
        return False
    return speeds.save_ms(tokens) + speeds.restore_ms(speeds.size(tokens)) < speeds.reading_ms(tokens)


def worth_restoring(speeds: Speeds, spared_tokens: float, size: int) -> bool:
    """Whether to bring back a state of `size` bytes that spares reading `spared_tokens`."""
    return spared_tokens >= _FEWEST_TOKENS and speeds.restore_ms(size) < speeds.reading_ms(spared_tokens)


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + _EWMA * (now - before)
