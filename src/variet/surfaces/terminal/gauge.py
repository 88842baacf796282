"""Pure: the line under the prompt: who answers, what it may do, how full its context is, and what is waited for."""

from __future__ import annotations

from dataclasses import dataclass

from variet.agent.events import Progress, UsageTold
from variet.policy.action import Mode

STAGES = {"queue": "waits", "pull": "is fetched", "load": "loads", "restore": "is brought back", "prefill": "reads"}


@dataclass
class Gauge:
    tier: str
    mode: Mode
    limit_tokens: int
    used_tokens: int = 0
    cached_share: float | None = None
    working_on: str = ""  # a word for what goes on; empty while nothing does
    command: str = ""  # that runs, as `/undo`; empty while none does
    progress: Progress | None = None

    def told(self, event: UsageTold) -> None:
        self.used_tokens = event.prompt + event.output
        self.limit_tokens = event.limit or self.limit_tokens
        self.cached_share = event.cached / event.prompt if event.prompt else None

    def state(self) -> str:
        """Who answers, what it may do, how full its context is."""
        parts = [self.tier, f"mode {self.mode}"]
        if self.limit_tokens:
            share = self.used_tokens / self.limit_tokens
            parts.append(f"context {share:.0%} of {self.limit_tokens:,}")
        elif self.used_tokens:
            parts.append(f"context {self.used_tokens:,} tokens")
        if self.cached_share is not None:
            parts.append(f"{self.cached_share:.0%} read before")
        return " · ".join(parts)

    def line(self) -> str:
        """What goes on stands first: a narrow screen shows no more."""
        if self.progress is not None:
            return f"{waiting(self.progress)} · {self.state()}"
        now = self.working_on or self.command
        return f"{now} (Ctrl-C stops) · {self.state()}" if now else self.state()


def waiting(event: Progress) -> str:
    """As `balanced loads 40%, 3 s left`."""
    share = f" {event.percent:.0f}%" if event.percent is not None else ""
    place = f", place {event.position}" if event.position else ""
    left = f", {event.left_ms / 1000:.0f} s left" if event.left_ms else ""
    return f"{event.tier} {STAGES[event.stage]}{share}{place}{left}"
