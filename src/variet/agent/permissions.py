"""From a call to a verdict: what the tool would do, judged by policy, and where that says so, by a person.

It adapts `policy` and keeps a person's answers; it makes no judgement of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from variet.approval import Approval, Decision, Scope
from variet.policy.action import Action, Facts, Mode, Rule, Sink, Verdict
from variet.policy.decide import decide, refuses_writing
from variet.visible import visible

# The smallest models are quick to make a test say what their code does.
_TESTS_STAY = tuple(
    Rule(
        "tests-stay", tool, pattern, "deny", "tests say what is wanted, they stay as they are: change the code instead"
    )
    for tool in ("write", "edit")
    for pattern in ("test_*", "*/test_*", "*_test.*", "tests", "*/tests/*", "conftest.py")
)


class Permissions:
    """Of one session. Rules that a person gives with `session` last as long as this object; those with `always` are
    handed to `keep`, too."""

    def __init__(self, mode: Mode, facts: Facts, keep: Callable[[Sequence[Rule]], None] | None = None) -> None:
        self.mode = mode
        self.facts = facts
        self._keep = keep
        self._pending: dict[str, tuple[Approval, asyncio.Future[Decision]]] = {}

    def add(self, *rules: Rule) -> None:
        self.facts = replace(self.facts, rules=(*self.facts.rules, *rules))

    def keep_tests(self, keep: bool) -> None:
        """Whether tests stay as they are, as for the model that sits now."""
        others = tuple(rule for rule in self.facts.rules if rule not in _TESTS_STAY)
        self.facts = replace(self.facts, rules=(*others, *_TESTS_STAY) if keep else others)

    @property
    def refused_paths(self) -> Callable[[str], bool] | None:
        """Whether a person's rules refuse that a path is written; None where none says anything of the kind."""
        rules = [one for one in self.facts.rules if one.answer == "deny" and one not in _TESTS_STAY]
        if not any(fnmatchcase(name, one.tool) for one in rules for name in ("write", "edit")):
            return None
        return lambda target: refuses_writing(target, rules)

    def judge(self, tool: str, sink: Sink) -> Verdict:
        return decide(Action(tool, sink, self.mode), self.facts)

    def ask(
        self, session_id: str, call_id: str, tool: str, sink: Sink, args: dict[str, Any], verdict: Verdict,
        summary: str, preview: str = "",
    ) -> Approval:  # fmt: skip
        """An approval that waits for `answer`. `preview`: what would change; else the arguments are shown."""
        payload = json.dumps({"tool": tool, "args": args}, sort_keys=True, ensure_ascii=False)
        approval = Approval(
            id=f"approval-{call_id}", session_id=session_id, tool=tool, sink=sink.kind, summary=visible(summary),
            preview=visible(preview or _shown(args)), payload_sha256=hashlib.sha256(payload.encode()).hexdigest(),
            reason=verdict.reason, scopes=self._scopes(sink), created_ms=time.time_ns() // 1_000_000,
        )  # fmt: skip
        self._pending[approval.id] = (approval, asyncio.get_running_loop().create_future())
        return approval

    async def decision(self, approval: Approval) -> Decision:
        try:
            return await self._pending[approval.id][1]
        finally:
            self._pending.pop(approval.id, None)

    def answer(self, decision: Decision) -> str:
        """`ok`, `already_decided` or `payload_changed`: the first decision of exactly this payload counts."""
        approval, waiting = self._pending.get(decision.approval_id, (None, None))
        if approval is None or waiting is None or waiting.done():
            return "already_decided"
        if decision.payload_sha256 != approval.payload_sha256:
            return "payload_changed"
        waiting.set_result(decision)
        return "ok"

    def _scopes(self, sink: Sink) -> tuple[Scope, ...]:
        """What is outside, or runs code by itself later, is never allowed for good by a key."""
        for_good = (
            self._keep is not None and not sink.guarded and not sink.protected and (sink.inside or sink.kind == "tool")
        )
        return ("once", "session", "always") if for_good else ("once", "session")

    def learn(self, tool: str, sink: Sink, *, always: bool = False) -> None:
        """A person's yes for the rest of the session, or for good: of this very command, these files, this tool."""
        rules = tuple(
            Rule(f"session-{tool}", tool, target, "allow", exact=True, network=sink.network) for target in sink.targets
        )
        self.add(*rules)
        if always and self._keep is not None and "always" in self._scopes(sink):
            self._keep(rules)


def _shown(args: dict[str, Any]) -> str:
    """All that a call is given, nothing cut: by this a person decides."""
    if len(args) == 1 and isinstance(only := next(iter(args.values())), str):
        return only
    return "\n".join(f"{name}: {_value(value)}" for name, value in args.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
