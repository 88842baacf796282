"""Pure: how a session stands, rebuilt from its header and its events alone.

Whoever holds a conversation and whoever only reads its events find the same state; so does a log on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    ChangesUndone,
    Compacted,
    EventBase,
    ModeChanged,
    PlanChanged,
    PlanEntry,
    Progress,
    PromptDropped,
    PromptQueued,
    TierChanged,
    TitleChanged,
    TurnEnded,
    TurnStarted,
    UsageTold,
)  # fmt: skip
from variet.agent.sessions import Header
from variet.agent.titles import title_of
from variet.approval import Approval
from variet.policy.action import Mode


@dataclass
class State:
    """`seq`: the place of the last event. `turn_id`: of the turn under way, else empty. `context_tokens`: what the
    model can read at once, 0 where nobody knows. `used_tokens`: of these, as of the last answer; `cached_share`: of its
    prompt, what the model had read before. `progress`: where a request stands that waits. `queue`: prompts that wait
    for the end of the turn. `approvals`: those that wait for a person, by id. `undone`: changes that were taken back
    since the model heard last."""

    tier: str
    model: str = ""
    profile: str = ""
    mode: Mode = "ask"
    title: str = ""
    context_tokens: int = 0
    used_tokens: int = 0
    cached_share: float | None = None
    seq: int = 0
    turns: int = 0
    turn_id: str = ""
    progress: Progress | None = None
    queue: tuple[PromptQueued, ...] = ()
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    plan: tuple[PlanEntry, ...] = ()
    undone: tuple[ChangesUndone, ...] = ()

    @classmethod
    def of(cls, header: Header, model: str, events: Iterable[EventBase]) -> State:
        """As a session's log tells it. `model`: that it began with."""
        state = cls(tier=header.tier, model=model, profile=header.profile)
        for event in events:
            state.apply(event)
        return state

    @property
    def working(self) -> bool:
        return bool(self.turn_id)

    def apply(self, event: EventBase) -> None:
        """What an event changes. Events of helpers change the place alone."""
        self.seq = event.seq
        if event.parent_id is not None:
            return
        if not isinstance(event, ModeChanged | TitleChanged | PromptQueued):
            self.progress = event if isinstance(event, Progress) else None
        if isinstance(event, TurnStarted):
            self.turn_id, self.turns, self.undone = event.turn_id, self.turns + 1, ()
            self.title = self.title or title_of(event.input)
            self._leave_queue(event.prompt_id)
        elif isinstance(event, TurnEnded):
            waiting = self.approvals.items()  # those of the broker outlive a turn
            self.turn_id, self.approvals = "", {name: one for name, one in waiting if one.origin == "broker"}
        elif isinstance(event, PromptQueued):
            self.queue = (*self.queue, event)
        elif isinstance(event, PromptDropped):
            self._leave_queue(event.prompt_id)
        elif isinstance(event, ApprovalRequested):
            self.approvals = {**self.approvals, event.approval.id: event.approval}
        elif isinstance(event, ApprovalResolved):
            self.approvals = {name: one for name, one in self.approvals.items() if name != event.approval_id}
        elif isinstance(event, ModeChanged):
            self.mode = event.mode
        elif isinstance(event, TitleChanged):
            self.title = event.title
        elif isinstance(event, TierChanged):
            self.tier, self.model, self.profile = event.tier, event.model, event.profile
            self.context_tokens = event.context_tokens or self.context_tokens
        elif isinstance(event, UsageTold):
            self.used_tokens = event.prompt + event.output
            self.cached_share = event.cached / event.prompt if event.prompt else None
            self.context_tokens = event.limit or self.context_tokens
        elif isinstance(event, Compacted):
            self.used_tokens = 0
        elif isinstance(event, PlanChanged):
            self.plan = event.entries
        elif isinstance(event, ChangesUndone):
            self.undone = (*self.undone, event)

    def _leave_queue(self, prompt_id: str) -> None:
        self.queue = tuple(one for one in self.queue if one.prompt_id != prompt_id)
