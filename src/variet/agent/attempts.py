"""Pure: what comes after each answer of a turn: ask again, check, begin again, or done. Knows no model and no tools.

Most models are asked until they call nothing more; a person's check, where there is one, then says whether that is so.
The smallest ones are checked after each change, since they rarely see for themselves; whatever leads nowhere lets them
begin again, a little warmer and with another seed: behind its own failure such a model says the same again. Without a
check they are done once they write again what they wrote. Whoever only says that something was changed hears so
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from variet.agent.events import CallPart, ToolEnded
from variet.agent.guards import Limits, LoopGuard, Nudge

_COOLEST, _WARMER, _WARMEST = 0.2, 0.2, 1.0  # temperatures of the first try, of each further one, and at most


class LimitMet(Exception):
    """A turn that ends at one of its limits. `weak`: of those that a stronger model may not meet."""

    @property
    def weak(self) -> bool:
        return str(self) not in ("steps", "output_tokens")


@dataclass(frozen=True, slots=True)
class Next:
    """`nudge`: what the model is told before it is asked, or with what it begins again."""

    do: Literal["ask", "check", "begin_again", "done"]
    nudge: Nudge | None = None


@dataclass
class Attempts:
    """Of one turn. `checked`: a person's check says when it is done; `small`: of the smallest models; `unwritten`: what
    those are told who only talked; `held`: a person's mode lets nothing be changed."""

    limits: Limits
    checked: bool
    small: bool
    unwritten: str = ""
    held: bool = False
    failed: int = 0  # checks that failed, and attempts that led to none
    _nudges: int = 0  # in a row
    _changed: bool = False  # something may have, since the last check
    _acted: bool = False  # something was changed, run or refused in this turn
    _reminded: bool = False  # that nothing was
    _guard: LoopGuard = field(init=False)

    def __post_init__(self) -> None:
        self._guard = LoopGuard(self.limits)

    def after_calls(self, results: Sequence[tuple[CallPart, ToolEnded]]) -> Next:
        """Raises LimitMet."""
        self._nudges = 0
        moved = any(end.diffs or call.tool == "shell" for call, end in results)
        self._changed = self._changed or moved
        # Whoever was refused something did try: reminded, it would try again what its person does not want.
        self._acted = self._acted or moved or any(end.status == "denied" for _, end in results)
        nudge = self._guard.after(results)
        if self._persistent and any(call.tool == "write" for call, _ in results):
            said = "\n".join(end.content for call, end in results if call.tool == "write")
            return Next("check") if self._changed else self._again(Nudge("unchanged", said))
        if self.small and not self.checked and not moved and _as_they_are(results):
            return Next("done") if self._acted else self._remind()
        if nudge is not None and nudge.code == "stuck":
            if self._persistent:
                return self._again(None)
            raise LimitMet("repeats")
        return Next("ask", nudge)

    def after_words(self, nudge: Nudge | None, *, steered: bool, idle: bool = False) -> Next:
        """After an answer without calls. `nudge`: where it cannot have been meant to be one; `steered`: the person said
        something meanwhile; `idle`: it only says that something was changed. Raises LimitMet."""
        if nudge is None and steered:
            return Next("ask")
        if self._persistent and (nudge is not None or not self._changed):
            return self._again(nudge or Nudge("unwritten", self.unwritten))
        if nudge is not None:
            self._nudges += 1
            if self._nudges > self.limits.nudges:
                raise LimitMet(nudge.code)
            return Next("ask", nudge)
        if idle and not self._acted and not self.checked and not self.held:
            return self._remind()
        return Next("check" if self.checked else "done")

    def check_failed(self) -> None:
        """Raises LimitMet."""
        self.failed += 1
        self._changed = False
        if self.small:
            self._nudges, self._guard = 0, LoopGuard(self.limits)
        if self.failed > self.limits.checks:
            raise LimitMet("check")

    def sampling(self, seed: int | None) -> dict[str, Any]:
        """What the next answer is asked with instead of the session's own."""
        if not self._persistent or not self.failed:
            return {}
        warmer = min(_WARMEST, round(_COOLEST + _WARMER * self.failed, 1))
        return {"temperature": warmer, **({} if seed is None else {"seed": seed + 1000 * self.failed})}

    @property
    def _persistent(self) -> bool:
        return self.checked and self.small

    def _remind(self) -> Next:
        """That nothing was changed: once, since it may well be right that nothing is to be."""
        if self._reminded or not self.limits.nudges:
            return Next("done")
        self._reminded = True
        return Next("ask", Nudge("unwritten", self.unwritten))

    def _again(self, nudge: Nudge | None) -> Next:
        self.check_failed()
        return Next("begin_again", nudge)


def _as_they_are(results: Sequence[tuple[CallPart, ToolEnded]]) -> bool:
    """Whether files were written, all of them as they are already."""
    return bool(results) and all(call.tool == "write" and end.status == "ok" for call, end in results)
