"""Pure: the line under the prompt: who answers, what it may do, how full its context is, and what is waited for."""

from __future__ import annotations

from dataclasses import dataclass

from variet.agent.events import Progress
from variet.agent.state import State

STAGES = {"queue": "waits", "pull": "is fetched", "load": "loads", "restore": "is brought back", "prefill": "reads"}


@dataclass
class Gauge:
    """`command`: that runs, as `/undo`; empty while none does. `asks`: a question waits for the person."""

    session: State
    command: str = ""
    asks: bool = False

    def state(self) -> str:
        """Who answers, what it may do, how full its context is."""
        session = self.session
        parts = [session.tier, f"mode {session.mode}"]
        if session.context_tokens:
            share = session.used_tokens / session.context_tokens
            parts.append(f"context {share:.0%} of {session.context_tokens:,}")
        elif session.used_tokens:
            parts.append(f"context {session.used_tokens:,} tokens")
        if session.cached_share is not None:
            parts.append(f"{session.cached_share:.0%} read before")
        return " · ".join(parts)

    def line(self) -> str:
        """What goes on stands first: a narrow screen shows no more."""
        if self.session.progress is not None:
            return f"{waiting(self.session.progress)} · {self.state()}"
        works = "works" if self.session.working else self.command
        now = "waits for you" if self.asks else works
        return f"{now} (Ctrl-C stops) · {self.state()}" if now else self.state()


def waiting(event: Progress) -> str:
    """As `balanced loads 40%, 3 s left`."""
    share = f" {event.percent:.0f}%" if event.percent is not None else ""
    place = f", place {event.position}" if event.position else ""
    left = f", {event.left_ms / 1000:.0f} s left" if event.left_ms else ""
    return f"{event.tier} {STAGES[event.stage]}{share}{place}{left}"
