"""What an agent tells its surfaces, and what they answer: the contract between rooms, as types.

JSON Schema is generated from here (contract.py). A session's log is made of the
same events, without deltas. Nothing here decides anything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from variet.approval import Approval
from variet.policy.action import Mode

VERSION: Literal[1] = 1
ToolKind = Literal["read", "search", "edit", "execute", "fetch", "think", "delegate", "other"]
ToolStatus = Literal["ok", "error", "denied", "interrupted"]


class _Model(BaseModel):
    # Written whole: whoever reads it finds every field, hence the schema requires them all.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_serialization_defaults_required=True)


class Usage(_Model):
    """Tokens of one request, or summed over a turn. `cached`: of the prompt, what the model had read before."""

    prompt: int = 0
    cached: int = 0
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt=self.prompt + other.prompt, cached=self.cached + other.cached, output=self.output + other.output
        )


class TextPart(_Model):
    type: Literal["text"] = "text"
    text: str


class ReasoningPart(_Model):
    type: Literal["reasoning"] = "reasoning"
    text: str


class CallPart(_Model):
    """A tool call. `written`, `written_name`: as the model wrote them, for a replay byte by byte; `broken`: there was
    no telling which arguments were meant."""

    type: Literal["call"] = "call"
    call_id: str
    tool: str
    args: dict[str, Any]
    written: str = ""
    written_name: str = ""
    broken: bool = False


Part = Annotated[TextPart | ReasoningPart | CallPart, Field(discriminator="type")]


class Diff(_Model):
    """One changed file. Hashes are of its bytes, None where there was or is no file; `patch` is a unified diff."""

    path: str
    before_sha256: str | None
    after_sha256: str | None
    patch: str


class PlanEntry(_Model):
    text: str
    state: Literal["pending", "active", "done"] = "pending"


class EventBase(_Model):
    """The envelope. `seq` grows by one an event of a session; the loop fills it in when it emits."""

    v: Literal[1] = VERSION
    seq: int = 0
    ts_ms: int = 0
    session_id: str = ""
    turn_id: str = ""
    agent_id: str = "main"
    parent_id: str | None = None


class PromptQueued(EventBase):
    """A person's words that wait for the end of the work under way. `attached`: what their surface sent along."""

    type: Literal["prompt_queued"] = "prompt_queued"
    prompt_id: str
    text: str
    attached: str = ""
    surface: str = ""


class PromptDropped(EventBase):
    """A prompt that will not be worked on: it was cancelled before its turn began, its session was closed, a crash
    ended Variet, or its turn could not begin."""

    type: Literal["prompt_dropped"] = "prompt_dropped"
    prompt_id: str
    reason: Literal["cancelled", "closed", "crash", "error"]


class TurnStarted(EventBase):
    """`context`: what was told to the model before the person's words: instructions, files, state of the repository.
    `prompt_id`: of the prompt that is worked on; `surface`: where it was entered."""

    type: Literal["turn_started"] = "turn_started"
    input: str
    context: str = ""
    prompt_id: str = ""
    surface: str = ""


class TurnEnded(EventBase):
    """`detail`: of reason `limit`, which one; of `error`, its code."""

    type: Literal["turn_ended"] = "turn_ended"
    reason: Literal["done", "cancelled", "limit", "error"]
    detail: str = ""
    usage: Usage = Usage()


class InputAdded(EventBase):
    """Words to the model in the middle of a turn: a person's (`steer`), or the loop's own (`nudge`, `summarise`)."""

    type: Literal["input_added"] = "input_added"
    origin: Literal["steer", "nudge", "summarise"]
    code: str = ""
    text: str


class TextDelta(EventBase):
    type: Literal["text_delta"] = "text_delta"
    message_id: str
    text: str


class ReasoningDelta(EventBase):
    type: Literal["reasoning_delta"] = "reasoning_delta"
    message_id: str
    text: str


class MessageDone(EventBase):
    """A whole answer. `raw`: the text as the model wrote it, where calls were found in it."""

    type: Literal["message_done"] = "message_done"
    message_id: str
    content: tuple[Part, ...]
    raw: str | None = None
    finish: str = "stop"


class MessageDropped(EventBase):
    """An answer that broke off; its deltas do not count, the model is asked again."""

    type: Literal["message_dropped"] = "message_dropped"
    message_id: str
    reason: str


class ToolStarted(EventBase):
    type: Literal["tool_started"] = "tool_started"
    call_id: str
    tool: str
    kind: ToolKind
    args: dict[str, Any]
    paths: tuple[str, ...] = ()
    summary: str = ""


class ToolRunning(EventBase):
    """It was allowed, and runs from here on."""

    type: Literal["tool_running"] = "tool_running"
    call_id: str


class ToolOutput(EventBase):
    type: Literal["tool_output"] = "tool_output"
    call_id: str
    chunk: str


class ToolEnded(EventBase):
    """`content` is what the model reads."""

    type: Literal["tool_ended"] = "tool_ended"
    call_id: str
    status: ToolStatus
    content: str
    diffs: tuple[Diff, ...] = ()


class ApprovalRequested(EventBase):
    type: Literal["approval_requested"] = "approval_requested"
    approval: Approval


class ApprovalResolved(EventBase):
    type: Literal["approval_resolved"] = "approval_resolved"
    approval_id: str
    state: str
    by: str


class Progress(EventBase):
    """Where a request stands that waits. `percent` of the stage; `position` in the queue, 1 is next."""

    type: Literal["progress"] = "progress"
    stage: Literal["queue", "pull", "load", "restore", "prefill"]
    tier: str
    percent: float | None = None
    position: int | None = None
    left_ms: int | None = None
    reason: str | None = None


class UsageTold(EventBase):
    """After each answer: how full the context is (`prompt` + `output` of `limit` tokens)."""

    type: Literal["usage"] = "usage"
    prompt: int
    cached: int
    output: int
    limit: int
    tier: str
    model: str = ""


class TierChanged(EventBase):
    """From here on another model answers; it reads the whole log, in the format of its profile. `reason`: a person's
    wish, or what the tier before could not do. `tried`: it is the same model, spoken to as suits what it did when it
    was tried. `context_tokens`: what it can read at once, 0 where nobody knows."""

    type: Literal["tier_changed"] = "tier_changed"
    tier: str
    model: str
    profile: str
    reason: str = ""
    tried: bool = False
    context_tokens: int = 0

    @property
    def words(self) -> str:
        """For people."""
        if self.tried:
            return f"{self.model} is spoken to as `{self.profile}` from here on"
        return f"{self.tier} ({self.model}) answers from here on"


class ModeChanged(EventBase):
    """The agent works in this mode from here on. A session without this event is in mode `ask`."""

    type: Literal["mode_changed"] = "mode_changed"
    mode: Mode


class TitleChanged(EventBase):
    """A person named the session."""

    type: Literal["title_changed"] = "title_changed"
    title: str


class ChangesUndone(EventBase):
    """A person took changes back. `restored`: files that stand as before; `left`: files that stay, with the reason."""

    type: Literal["changes_undone"] = "changes_undone"
    restored: tuple[str, ...]
    left: dict[str, str] = {}


class PlanChanged(EventBase):
    type: Literal["plan"] = "plan"
    entries: tuple[PlanEntry, ...]


class CheckpointMade(EventBase):
    type: Literal["checkpoint"] = "checkpoint"
    id: str


class Compacted(EventBase):
    """From here on the model reads `summary` (with the person's words) instead of what came before `through_seq`."""

    type: Literal["compacted"] = "compacted"
    summary: str
    through_seq: int


class Notice(EventBase):
    """For people: what happened (`text`) and what to do (`next`). `code` is stable, for programs."""

    type: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"] = "info"
    code: str
    text: str
    next: str = ""


Event = Annotated[
    PromptQueued | PromptDropped | TurnStarted | TurnEnded | InputAdded | TextDelta | ReasoningDelta | MessageDone
    | MessageDropped | ToolStarted | ToolRunning | ToolOutput | ToolEnded | ApprovalRequested | ApprovalResolved
    | Progress | UsageTold | TierChanged | ModeChanged | TitleChanged | ChangesUndone | PlanChanged | CheckpointMade
    | Compacted | Notice,
    Field(discriminator="type"),
]  # fmt: skip

EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
BESIDE_TURNS = (ModeChanged, TitleChanged, ChangesUndone, PromptQueued, PromptDropped)  # they come at any time
DELTAS = (TextDelta, ReasoningDelta, ToolRunning, ToolOutput, Progress)  # not kept in a session's log
