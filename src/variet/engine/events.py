"""Pure: what the scheduler is told (events, terms) and what it answers (effects). Times are milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from variet.engine.ledger import Demand

RESIDENT_COUNT = "resident models"  # the device that stands for `max_resident`


def without_count(demand: Demand) -> dict[str, int]:
    """The memory of a demand, by device."""
    return {device: amount for device, amount in demand.items() if device != RESIDENT_COUNT}


class Priority(IntEnum):
    INTERACTIVE = 0
    BACKGROUND = 1


# --- what the scheduler is told ---


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """What scheduling needs to know of a model."""

    slots: int
    demand: Demand
    queue_limit: int = 64
    idle_unload_ms: float | None = None
    pinned: bool = False
    side: bool = False  # lives beside the tiers, in memory set aside for it
    problem: str | None = None  # why the plan has no place for it, or its file cannot be read


@dataclass(frozen=True, slots=True)
class Terms:
    """All that configuration says about scheduling; times in milliseconds."""

    models: Mapping[str, ModelTerms]
    capacity: Demand
    max_wait_ms: float = 20_000
    background_max_wait_ms: float = 300_000
    min_residency_ms: float = 5_000
    linger_share: float = 0.1
    linger_max_ms: float = 3_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request wants a lease. `since_ms` keeps the place of one that is tried again.

    `anywhere`: whatever tier's model is loaded will do, and nothing is swapped for it; `model` is for an empty machine.
    `conversation`: digests of its growing prefixes, the system prompt's first (see conversation.py).
    """

    request_id: int
    model: str
    priority: Priority = Priority.INTERACTIVE
    needs_slot: bool = True
    conversation: tuple[str, ...] = ()
    since_ms: float | None = None
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A request is over, in whatever way: it leaves the queue or gives its lease back."""

    request_id: int
    served: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    instance_id: int
    load_ms: float


@dataclass(frozen=True, slots=True)
class Exited:
    """A child ended by itself; `Stopped` follows when its memory is back.

    `again`: it found less memory than planned, the plan is smaller now, and the load is to be tried at once.
    """

    instance_id: int
    by_signal: bool
    detail: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    instance_id: int


@dataclass(frozen=True, slots=True)
class Available:
    """A model's files are there (`problem` None), or cannot be had."""

    model: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A person's wish. load: beside the others if it fits; swap: what must go goes; unload: drains, or cuts (`now`)."""

    command_id: int
    kind: Literal["load", "swap", "unload", "preload"]
    model: str
    now: bool = False
    since_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """New terms; instances of `stale` models drain and start again when next asked for. `pulling` None: unchanged."""

    terms: Terms
    stale: frozenset[str] = frozenset()
    pulling: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    pass


@dataclass(frozen=True, slots=True)
class Tick:
    pass


Event = Arrived | Ended | Ready | Exited | Stopped | Available | Command | Reconfigured | ShuttingDown | Tick


# --- what it answers ---


RefusalKind = Literal[
    "queue_full",
    "load_failed",
    "backing_off",
    "unavailable",
    "cannot_run",
    "does_not_fit",
    "unknown_model",
    "shutting_down",
]


@dataclass(frozen=True, slots=True)
class Start:
    """`asked_ms`: since when somebody wants the model."""

    instance_id: int
    model: str
    asked_ms: float


@dataclass(frozen=True, slots=True)
class Stop:
    """`made_room_for`: the model that comes instead, if one does."""

    instance_id: int
    reason: str
    cut: bool = False  # running answers are to end now
    made_room_for: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease. `slot` is None for requests that need none. `displaced`: the conversation that sat there before."""

    request_id: int
    instance_id: int
    slot: int | None
    displaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    request_id: int
    kind: RefusalKind
    detail: str
    retry_after_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A command is done, or why it is not."""

    command_id: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    at_ms: float


Effect = Start | Stop | Grant | Refuse | Answer | Wake
