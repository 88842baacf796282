"""Pure: what keeps a weak model going, and a stuck one from going on for ever. Each says something to the model."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from variet.agent.durations import without_durations
from variet.agent.events import CallPart, ToolEnded
from variet.agent.formats.base import Draft


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one turn. `repeats`: how often the same call may have the same outcome; `nudges`: how often in a row the
    model is told that it did nothing; `tries`: how often an answer that breaks off is asked for; `checks`: how often
    the person's check may fail."""

    steps: int = 100
    output_tokens: int = 200_000
    repeats: int = 3
    nudges: int = 2
    tries: int = 5
    checks: int = 8


@dataclass(frozen=True, slots=True)
class Nudge:
    code: str
    text: str


_MALFORMED = (
    "That looks like a tool call, but it is not valid JSON or it is cut. Nothing was run. "
    "Call the tool again, with valid JSON and nothing after it."
)


def nudge_for(draft: Draft, tool_names: Sequence[str]) -> Nudge | None:
    """For an answer without calls: what to tell the model, if the answer cannot have been meant to be one."""
    text = draft.text.strip()
    if draft.finish == "length":
        return Nudge("cut", "Your answer was cut at its length limit. Go on, in smaller steps.")
    if not text:
        return Nudge("empty", "You said nothing. Call a tool, or answer the user.")
    if _begun(text, tool_names):
        return Nudge("malformed", _MALFORMED)
    shown = _SHOWN.search(text)
    if shown is not None and shown[1] in tool_names:
        return Nudge("shown", _ONLY_SHOWN.format(tool=shown[1]))
    return None


# A call as JSON in a fence, with words before and behind it.
_SHOWN = re.compile(
    r'^[ \t]*```(?:json)?[ \t]*\n\s*\{\s*"name"\s*:\s*"(\w+)"\s*,\s*"(?:arguments|parameters)"', re.MULTILINE
)
_ONLY_SHOWN = (
    "You showed a call of {tool}, but made none: nothing was run. If you mean it, call the tool: valid JSON, line ends "
    "in strings as \\n, and nothing around it."
)


_DONE = (
    "added|adjusted|applied|changed|corrected|created|deleted|edited|fixed|implemented|mended|modified|moved|refactored|"
    "removed|renamed|replaced|rewrote|rewritten|updated|wrote|written"
)
_DO = (
    "add|adjust|apply|change|correct|create|delete|edit|fix|implement|mend|modify|move|refactor|remove|rename|replace|"
    "rewrite|update|write"
)
_CLAIM = re.compile(rf"(?:\bI\b|\b(?:has|have)(?: \w+)? been ).*?\b(?:{_DONE})\b", re.IGNORECASE)
_NO_CLAIM = re.compile(
    r"\b(?:would|could|can|cannot|should|might|may|will|shall|if|not|never|no|nothing|none)\b|n't\b|'(?:d|ll)\b|\?",
    re.IGNORECASE,
)
_PROMISE = re.compile(rf"\b(?:I'll|I will|I am going to|I'm going to|let me)\b.*?\b(?:{_DO})\b", re.IGNORECASE)
_NO_PROMISE = re.compile(r"\b(?:if|not|never|no|nothing|once|when|after|unless)\b|n't\b|\?", re.IGNORECASE)
_SHOWS = re.compile(
    r"\b(?:changed|complete|corrected|fixed|modified|new|revised|updated)"
    r" (?:\S+ )?(?:class|code|content|file|function|implementation|method|module|version)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n")


def only_says(text: str) -> bool:
    """Whether an answer says that something was changed, or is about to be, or shows how a file is to be: weak models
    believe that saying so is doing so. Words in fences are not its own."""
    said = _FENCES.sub("", text)
    sentences = [one for one in _SENTENCE_END.split(said) if one.strip()]
    if any(_CLAIM.search(one) and not _NO_CLAIM.search(one) for one in sentences):
        return True
    if any(_PROMISE.search(one) and not _NO_PROMISE.search(one) for one in sentences[-2:]):
        return True
    return said != text and any(_SHOWS.search(one) for one in sentences)


_FENCES = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


_MARKS = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|tool_call>")


def _begun(text: str, tool_names: Sequence[str]) -> bool:
    """Whether an answer begins like a call, or breaks off in one. One that quotes a call in the middle does not."""
    bare = text.removeprefix("```json").removeprefix("```").lstrip()
    if bare.startswith(_MARKS):
        return True
    last = max(text.rfind(mark) for mark in _MARKS)
    if last >= 0 and "</" not in text[last:] and "\n\n" not in text[last:]:
        return True
    return bare.startswith("{") and any(f'"name": "{one}"' in bare or f'"name":"{one}"' in bare for one in tool_names)


@dataclass
class LoopGuard:
    """Sees the calls of a turn and what came of them."""

    limits: Limits
    _seen: Counter[str] = field(default_factory=Counter)

    def after(self, results: Sequence[tuple[CallPart, ToolEnded]]) -> Nudge | None:
        """A nudge once the same call had the same outcome often; `stuck` is its last word."""
        worst: tuple[int, CallPart] | None = None
        if any(end.diffs for _, end in results):
            self._seen.clear()  # it got on: the same command may well be run again
        for call, end in results:
            told = json.dumps([call.tool, call.args, end.status, without_durations(end.content)], sort_keys=True)
            key = hashlib.sha256(told.encode()).hexdigest()
            self._seen[key] += 1
            if worst is None or self._seen[key] > worst[0]:
                worst = (self._seen[key], call)
        if worst is None or worst[0] < self.limits.repeats - 1:
            return None
        count, call = worst
        if count > self.limits.repeats:
            return Nudge("stuck", f"{call.tool} was called {count} times with the same outcome")
        return Nudge("repeat", f"You have called {call.tool} {count} times like this, with the same result. "
                     "Do not repeat it: try something else, or tell the user what is in the way.")  # fmt: skip
