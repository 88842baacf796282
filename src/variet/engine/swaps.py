"""What each swap cost, phase by phase: drain, stop, memory, load, first token. Only remembers; decides nothing.

pull     somebody asked for the model, until its files were there
drain    from then until the last model that had to go was told to (linger, gate, running answers)
save     until what was worth keeping of its conversations was saved
stop     until that one's process was gone
memory   until its memory was back
load     the new process, from spawn to ready
restore  bringing back the conversation of its first answer
first    from ready to the first byte of that answer, without the restore
Times are milliseconds of one steady clock, handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Swap:
    """One model's way in. `gave_way`: the models that made room; none for a load beside others."""

    model: str
    asked_ms: float
    started_ms: float
    gave_way: tuple[str, ...] = ()
    phases_ms: dict[str, float] = field(default_factory=dict)
    at: float = 0.0  # Unix seconds, when it was loaded

    @property
    def waited_for(self) -> bool:
        """Whether somebody did, until its first answer."""
        return "first" in self.phases_ms

    @property
    def total_ms(self) -> float:
        return sum(self.phases_ms.values())


@dataclass(slots=True)
class _Leaving:
    model: str
    made_room_for: str
    told_ms: float
    kept_ms: float | None = None
    gone_ms: float | None = None
    back_ms: float | None = None


class SwapBook:
    """Fed by the fleet as things happen; `recent` has the newest last."""

    def __init__(self, keep: int = 100) -> None:
        self.recent: deque[Swap] = deque(maxlen=keep)
        self._leaving: dict[int, _Leaving] = {}
        self._coming: dict[int, Swap] = {}
        self._pulled_ms: dict[str, float] = {}

    def pulled(self, model: str, now_ms: float) -> None:
        self._pulled_ms[model] = now_ms

    def told_to_go(self, instance_id: int, model: str, made_room_for: str, now_ms: float) -> None:
        self._leaving[instance_id] = _Leaving(model, made_room_for, now_ms)

    def kept(self, instance_id: int, now_ms: float) -> None:
        leaving = self._leaving.get(instance_id)
        if leaving is not None:
            leaving.kept_ms = now_ms

    def gone(self, instance_id: int, now_ms: float) -> None:
        leaving = self._leaving.get(instance_id)
        if leaving is not None and leaving.gone_ms is None:
            leaving.gone_ms = now_ms

    def memory_back(self, instance_id: int, now_ms: float) -> None:
        self.gone(instance_id, now_ms)
        leaving = self._leaving.get(instance_id)
        if leaving is not None:
            leaving.back_ms = now_ms
        self._coming.pop(instance_id, None)  # it failed or ended before it answered

    def starting(self, instance_id: int, model: str, asked_ms: float, now_ms: float) -> None:
        left = [one for one in self._leaving.values() if one.made_room_for == model and one.back_ms is not None]
        self._leaving = {key: one for key, one in self._leaving.items() if one not in left}
        left = [one for one in left if one.back_ms is not None and one.back_ms >= asked_ms]  # else for one who gave up
        swap = Swap(model, asked_ms, now_ms, tuple(one.model for one in left))
        there_ms = max(asked_ms, self._pulled_ms.pop(model, asked_ms))
        told = max((one.told_ms for one in left), default=now_ms)
        kept = max((one.kept_ms or one.told_ms for one in left), default=told)
        gone = max((one.gone_ms or one.told_ms for one in left), default=told)
        swap.phases_ms = {
            "pull": there_ms - asked_ms,
            "drain": max(0.0, told - there_ms),
            "save": max(0.0, kept - told),
            "stop": max(0.0, gone - kept),
            "memory": max(0.0, now_ms - gone),
        }
        self._coming[instance_id] = swap

    def ready(self, instance_id: int, now_ms: float) -> Swap | None:
        swap = self._coming.get(instance_id)
        if swap is not None:
            swap.phases_ms["load"] = now_ms - swap.started_ms
            self.recent.append(swap)
        return swap

    def restored(self, instance_id: int, ms: float) -> None:
        swap = self._coming.get(instance_id)
        if swap is not None and "load" in swap.phases_ms:
            swap.phases_ms["restore"] = swap.phases_ms.get("restore", 0.0) + ms

    def first_byte(self, instance_id: int, asked_ms: float, now_ms: float) -> Swap | None:
        """The swap that this byte completes, None for later answers. Where nobody waited for the model it has no
        `first`: what came after the load was no part of it."""
        swap = self._coming.pop(instance_id, None)
        if swap is None or "load" not in swap.phases_ms:
            return None
        ready_ms = swap.started_ms + swap.phases_ms["load"]
        if asked_ms > ready_ms:
            swap.phases_ms.pop("restore", None)
            return swap
        restore_ms = swap.phases_ms.setdefault("restore", 0.0)
        swap.phases_ms["first"] = now_ms - ready_ms - restore_ms
        return swap
