"""The broker: what a model wants done waits here until a person says so, and is done once, as it was shown.

It owns the store; every change of an action goes through `Store.move`, compare and set. It knows no socket (server.py)
and no Google (carriers do).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from variet.approval import Approval, Decision, State
from variet.assistant.audit.flood import Flood
from variet.assistant.audit.log import AuditLog
from variet.assistant.broker.carriers import Carrier, Outcome, Uncertain
from variet.assistant.broker.reading import UNNAMED, Asker, Reading, host_of
from variet.assistant.broker.store import Kept, Store
from variet.assistant.problems import ToolProblem
from variet.policy.action import Action, Facts, Rule, Verdict
from variet.policy.assistant import TRAITS, sink
from variet.policy.decide import decide
from variet.visible import one_line

_LOG = logging.getLogger(__name__)
_MINUTE_MS = 60_000
_WORDS_EXPIRE_MS = 15 * _MINUTE_MS  # somebody waits for a search or a page
_ACTS_EXPIRE_MS = 24 * 60 * _MINUTE_MS
_KEPT_MS = 30 * 24 * 60 * _MINUTE_MS
_BEGUN_LATE_MS = 10 * _MINUTE_MS
_CARRY_S = 120.0
_MOST_PENDING = 20  # of one client
_MOST_PENDING_OF_ALL, _MOST_PENDING_BYTES = 100, 3 << 20  # no person looks at more
_ANYBODY_S = ("judged", "denied", "refused", "stranger", "unlock_refused")  # lines that whoever knocks can cause
_MOST_LINES = 120  # of each of them a minute
# How long the same wish gets the same answer: a model that asks twice does nothing twice, nor asks a person twice.
_SAME_MS: dict[State, int] = {"done": 10 * _MINUTE_MS, "rejected": 2 * _MINUTE_MS, "unknown": 24 * 60 * _MINUTE_MS}
_TOLD_MS = 24 * 60 * _MINUTE_MS  # how long a person is told that they approved the same before
_SITE = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?")
_OPEN: tuple[State, ...] = ("pending", "approved", "executing")


@dataclass(frozen=True, slots=True)
class Judged:
    """`approval`: what waits for a person, where the answer is `ask`. `plain`: the words that may go out, of a query
    that is allowed for its words alone."""

    verdict: Verdict
    approval: Approval | None = None
    plain: str = ""


class Broker:
    def __init__(
        self, store: Store, audit: AuditLog, carriers: Mapping[str, Carrier], now_ms: Callable[[], int]
    ) -> None:
        self.store = store
        self.reading = Reading(store)
        self._audit = audit
        self._carriers = carriers
        self._now_ms = now_ms
        self._flood = Flood(_MOST_LINES, now_ms)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Picks up what a crash left: what was begun is looked for, never done again."""
        self.store.forget_before(self._now_ms() - _KEPT_MS)
        if not self._audit.knows(self.store.fact("audit_head")):
            self.store.put_fact("audit_cut", str(self._now_ms()))
            self.note("log_cut")
        for kept in self.store.find(("executing",)):
            self._run(self._reconciled(kept))
        for kept in self.store.find(("approved",)):
            if kept.approval.tool not in self._carriers:
                continue  # a server may still use it
            if self._now_ms() - (kept.decided_ms or 0) > _BEGUN_LATE_MS:
                late = "it was approved, but not begun before the broker stopped"
                self._move(kept.approval, "approved", "failed", result=late)
            else:
                self._run(self._carried(kept))

    async def close(self) -> None:
        """What is being done is waited for."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def acts(self) -> tuple[str, ...]:
        """The tools that it carries out."""
        return tuple(self._carriers)

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    # --- what servers of tools ask ---

    def judge(self, asker: Asker, tool: str, target: str) -> Judged:
        """Of a search or a page; where a person is to be asked, that waits from now on."""
        kind = sink(tool).kind
        shown = host_of(target) if kind == "page" else ""
        verdict = self._decided(asker, tool, kind, (shown,) if shown else (), target)
        if verdict.answer != "ask":
            self.note(
                "judged", client=asker.name, tool=tool, answer=verdict.answer, rule=verdict.rule_id,
                **({"host": shown} if shown else {}), target_sha256=_sha256(target.encode()),
            )  # fmt: skip
            if verdict.rule_id == "hit":
                self.reading.visited(asker, target)
            plain = self.reading.plain(asker, target) if verdict.rule_id == "known-words" else ""
            return Judged(verdict, plain=plain)
        reason = verdict.reason
        if self.reading.private_elsewhere(asker):
            reason += f" ({UNNAMED} did that, and may be this one)"
        payload = _canonical({"tool": tool, "target": target})
        what = "Read the page" if kind == "page" else "Search the web for"
        foreign = self.reading.foreign(asker, target) if verdict.rule_id == "foreign-words" else []
        marked = f"\n\nnot typed by you, and in no public text from before: {', '.join(foreign)}" if foreign else ""
        approval = self._waits(
            asker, tool, kind, payload, payload, summary=f"{what} {target}", preview=f"{target}{marked}",
            reason=reason,
            expires_ms=_WORDS_EXPIRE_MS, targets=(shown,) if shown else (),
        )  # fmt: skip
        return Judged(verdict, approval)

    async def propose(self, asker: Asker, tool: str, asked: dict[str, Any]) -> Approval:
        """An action, as far as it came: it waits for a person, or a standing rule has it done. Raises ToolProblem."""
        carrier = self._carriers.get(tool)
        if carrier is None:
            raise ToolProblem("bad_request", f"there is nothing that does {tool!r}")
        wish = _canonical({"tool": tool, "asked": asked})
        same = self._same(asker, _sha256(wish))
        if same:
            return same
        prepared = await carrier.prepare(asked)
        same = self._same(asker, _sha256(wish))  # another call may have been faster
        if same:
            return same
        verdict = self._decided(asker, tool, "act", prepared.targets, "")
        if verdict.answer == "deny":
            self.note("denied", client=asker.name, tool=tool, rule=verdict.rule_id, targets=prepared.targets)
            raise ToolProblem("denied", verdict.reason)
        approval = self._waits(
            asker, tool, "act", wish, prepared.payload, summary=prepared.summary, preview=prepared.preview,
            reason=verdict.reason, expires_ms=_ACTS_EXPIRE_MS, targets=prepared.targets, account=prepared.account,
            etag=prepared.etag,
        )  # fmt: skip
        if verdict.answer == "allow" and approval.state == "pending":
            approval = self._approved(approval, by=f"rule {verdict.rule_id}", surface="rules")
        return approval

    async def wait(self, asker: Asker, approval_id: str, most_s: float) -> Approval:
        """Until it is decided and done, or so long; then as it is. Raises ToolProblem: not this client's."""
        deadline = asyncio.get_running_loop().time() + most_s
        while True:
            changed = self._changed
            approval = self._own(asker, approval_id).approval
            waits = approval.state in ("pending", "executing") or (
                approval.state == "approved" and approval.tool in self._carriers
            )
            left_s = deadline - asyncio.get_running_loop().time()
            if not waits or left_s <= 0:
                return approval
            if approval.state == "pending":
                left_s = min(left_s, max(0.0, ((approval.expires_ms or 0) - self._now_ms()) / 1000) + 0.01)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()

    def use(self, asker: Asker, approval_id: str) -> None:
        """Takes an approval of a search or a page, which its server carries out itself: once. Raises ToolProblem."""
        kept = self._own(asker, approval_id)
        if kept.approval.tool in self._carriers:
            raise ToolProblem("bad_request", "what acts is done by the broker alone")
        if kept.approval.state == "approved" and kept.approval.expires_ms and kept.approval.expires_ms < self._now_ms():
            self._move(kept.approval, "approved", "expired")
        if self._move(kept.approval, "approved", "done") is None:
            raise ToolProblem("already_decided", "this approval was used, refused or is too old")

    # --- what surfaces ask, for a person ---

    def listed(self, states: Iterable[State] = ()) -> list[Approval]:
        self.expire()
        return [kept.approval for kept in self.store.find(tuple(states))]

    def get(self, approval_id: str) -> Approval:
        """Raises ToolProblem."""
        self.expire()
        kept = self.store.get(approval_id)
        if kept is None:
            raise ToolProblem("not_found", f"there is no action {approval_id!r}")
        return kept.approval

    def decide(self, decision: Decision, by: str) -> Approval:
        """The first one counts, of exactly this payload. Raises ToolProblem."""
        approval = self.get(decision.approval_id)
        if decision.payload_sha256 != approval.payload_sha256:
            self.note("payload_changed", id=approval.id, by=by)
            raise ToolProblem("payload_changed", "that is not what was shown", "Look at it again")
        if decision.scope != "once":
            raise ToolProblem("bad_request", "an approval is for one action, once", "A standing rule says more")
        if decision.choice == "approve":
            return self._approved(approval, by=by, surface=decision.surface, feedback=decision.feedback)
        rejected = self._move(approval, "pending", "rejected", **self._by(by, decision.surface, decision.feedback))
        return rejected or self._too_late(approval.id)

    async def changes(self, after: int) -> list[tuple[int, Approval]]:
        """What changed since, as it is now; waits for the next change where nothing did."""
        while True:
            changed = self._changed
            self.expire()
            found = self.store.changes(after)
            if found:
                return found
            await changed.wait()

    async def changes_of(self, asker: Asker, after: int) -> list[tuple[int, Approval]]:
        """As `changes`, of one conversation alone. Raises ToolProblem for whoever has none."""
        if not asker.conversation:
            raise ToolProblem("bad_request", "only a surface of Variet, with its handle, follows a conversation")
        while True:
            found = await self.changes(after)
            own = [(seq, one) for seq, one in found if one.session_id == asker.conversation]
            if own:
                return own
            after = found[-1][0]

    def expire(self) -> None:
        for kept in self.store.due(self._now_ms()):
            if kept.approval.state == "pending" or kept.approval.tool not in self._carriers:
                self._move(kept.approval, kept.approval.state, "expired")

    def add_rule(self, tool: str, pattern: str, answer: Literal["allow", "ask", "deny"]) -> Rule:
        """A person's standing rule. Raises ToolProblem where it would say nothing, or more than a rule may."""
        rule = standing(tool, pattern, answer)
        if rule not in self.store.rules():
            self.store.add_rule(rule)
        self.note("rule_added", rule=rule.id)
        return rule

    # --- how an action goes on ---

    def _decided(self, asker: Asker, tool: str, kind: str, targets: tuple[str, ...], target: str) -> Verdict:
        taint = self.reading.taint(asker, kind, target) if kind in ("search", "page") else Facts().taint
        action = Action(tool, sink(tool, *map(str.lower, targets)), "ask", asker.client)
        return decide(action, Facts(self.store.rules(), taint=taint))

    def _same(self, asker: Asker, asked_sha256: str) -> Approval | None:
        """The same wish of the same conversation, where it waits or was answered a moment ago."""
        self.expire()
        for kept in self.store.find(client=asker.name, asked_sha256=asked_sha256, most=5):
            state = kept.approval.state
            if kept.approval.session_id != (asker.conversation or None):
                continue  # another conversation's person would not see it
            since_ms = self._now_ms() - (kept.decided_ms or kept.approval.created_ms)
            trait = TRAITS.get(kept.approval.tool)
            if state == "done" and not (trait and trait.twice):
                continue  # what it did may have been undone since, and doing it again is doing it once
            if state in _OPEN or since_ms < _SAME_MS.get(state, 0):
                return kept.approval
        return None

    def _before(self, asker: Asker, asked_sha256: str) -> str:
        """What a person should know who is asked for the same again."""
        for kept in self.store.find(("done",), asker.name, asked_sha256, most=1):
            at_ms = kept.decided_ms or kept.approval.created_ms
            if self._now_ms() - at_ms < _TOLD_MS:
                minutes = (self._now_ms() - at_ms) // _MINUTE_MS
                return f"; you approved the very same {minutes} minutes ago, and it was done"
        return ""

    def _waits(
        self, asker: Asker, tool: str, kind: str, wish: bytes, payload: bytes, *,
        summary: str, preview: str, reason: str, expires_ms: int, targets: tuple[str, ...], account: str = "",
        etag: str | None = None,
    ) -> Approval:  # fmt: skip
        asked_sha256 = _sha256(wish)
        kept = None if kind == "act" else self._same(asker, asked_sha256)
        if kept is not None and kept.state in ("pending", "approved", "rejected"):
            return kept
        if len(self.store.find(("pending",), asker.name)) >= _MOST_PENDING:
            raise ToolProblem("rate_limited", f"{_MOST_PENDING} actions wait for a decision already")
        count, held_bytes = self.store.waiting()
        if count >= _MOST_PENDING_OF_ALL or held_bytes + len(preview.encode()) > _MOST_PENDING_BYTES:
            raise ToolProblem("rate_limited", "more waits for a decision than a person looks at", "Decide some of it")
        now_ms = self._now_ms()
        approval = Approval(
            id=f"act-{secrets.token_hex(6)}", origin="broker", session_id=asker.conversation or None,
            client=asker.name, tool=tool, sink=kind, account=account or None, summary=one_line(summary),
            preview=preview,
            payload_sha256=_sha256(_whole(tool, account, payload)), etag=etag,
            reason=reason + (self._before(asker, asked_sha256) if kind == "act" else ""),
            created_ms=now_ms, expires_ms=now_ms + expires_ms,
        )  # fmt: skip
        self.store.add(approval, asked_sha256, payload)
        self.note(
            "asked", id=approval.id, client=asker.name, tool=tool, targets=targets, account=account,
            payload_sha256=approval.payload_sha256,
        )  # fmt: skip
        self._tell()
        return approval

    def _own(self, asker: Asker, approval_id: str) -> Kept:
        self.expire()
        kept = self.store.get(approval_id)
        of_others = kept is not None and kept.approval.session_id != (asker.conversation or None)
        if kept is None or kept.approval.client != asker.name or of_others:
            raise ToolProblem("not_found", f"there is no action {approval_id!r}")
        return kept

    def _approved(self, approval: Approval, *, by: str, surface: str, feedback: str | None = None) -> Approval:
        moved = self._move(approval, "pending", "approved", **self._by(by, surface, feedback))
        if moved is None:
            return self._too_late(approval.id)
        kept = self.store.get(approval.id)
        if moved.tool in self._carriers and kept is not None:
            self._run(self._carried(kept))
        return moved

    async def _carried(self, kept: Kept) -> None:
        approval = self._move(kept.approval, "approved", "executing")
        if approval is None:
            return
        carrier = self._carriers[approval.tool]
        if _payload_sha256(approval, kept.payload) != approval.payload_sha256:
            self.note("payload_changed", id=approval.id, by="the store")
            self._move(approval, "executing", "failed", result="what is stored is not what was shown: nothing was done")
            return
        try:
            async with asyncio.timeout(_CARRY_S):
                result = await carrier.carry_out(kept.payload, lambda notes: self.store.note(approval.id, notes))
            self._move(approval, "executing", "done", result=result)
        except ToolProblem as problem:
            self._move(approval, "executing", "failed", result=f"{problem.code}: {problem}")
        except (Uncertain, TimeoutError) as broke:
            _LOG.warning("%s broke off (%s); looking whether it was done", approval.id, type(broke).__name__)
            await self._reconciled(kept)
        except Exception:  # noqa: BLE001 - a mistake in a carrier leaves no action without an end
            _LOG.exception("%s failed in a way that nobody thought of", approval.id)
            await self._reconciled(kept)

    async def _reconciled(self, kept: Kept) -> None:
        """Looks whether what broke off was done. It is never done again."""
        approval = kept.approval
        carrier = self._carriers.get(approval.tool)
        now = self.store.get(approval.id) or kept
        outcome = Outcome("unknown", "nothing here can look whether it was done")
        if carrier is not None:
            try:
                async with asyncio.timeout(_CARRY_S):
                    outcome = await carrier.reconcile(kept.payload, now.notes)
            except Exception as error:  # noqa: BLE001 - as above
                _LOG.warning("%s: nobody can tell whether it was done (%s)", approval.id, type(error).__name__)
                outcome = Outcome("unknown", "it broke off, and looking whether it was done failed; look yourself")
        self._move(approval, "executing", outcome.state, result=outcome.result)

    def _move(self, approval: Approval, come_from: State, to: State, **changes: Any) -> Approval | None:
        moved = self.store.move(approval.id, come_from, to, **changes)
        if moved is not None:
            told = {key: moved.model_dump()[key] for key in ("decided_by", "surface") if changes.get(key)}
            self.note(to, id=moved.id, client=moved.client, tool=moved.tool, **told)
            self._tell()
        return moved

    def _by(self, by: str, surface: str, feedback: str | None) -> dict[str, Any]:
        return {"decided_by": by, "surface": surface, "feedback": feedback, "decided_ms": self._now_ms()}

    def _too_late(self, approval_id: str) -> Approval:
        state = self.get(approval_id).state
        if state == "expired":
            raise ToolProblem("expired", "it waited too long", "Let it be asked for again")
        raise ToolProblem("already_decided", f"somebody was faster: it is {state}")

    def note(self, event: str, **what: Any) -> None:
        """Into the audit log; of what anybody can cause, so much a minute."""
        if event in _ANYBODY_S:
            lets, left_out = self._flood.lets(event)
            if left_out:
                self._written("left_out", of=event, count=left_out)
            if not lets:
                return
        self._written(event, **what)

    def _written(self, event: str, **what: Any) -> None:
        self.store.put_fact("audit_head", self._audit.add(self._now_ms(), event, **what))

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def standing(tool: str, pattern: str, answer: Literal["allow", "ask", "deny"]) -> Rule:
    """A standing rule. Raises ToolProblem where it would say nothing, or allow what is never allowed without asking."""
    trait, pattern = TRAITS.get(tool), pattern.strip().lower()
    if trait is None and not (tool in ("*", "mail.*", "calendar.*", "search.*") and answer == "deny" and not pattern):
        raise ToolProblem("bad_request", f"there is no tool {tool!r}", f"Known: {', '.join(TRAITS)}")
    rule = Rule(f"{answer} {tool}" + (f" {pattern}" if pattern else ""), tool, pattern, answer)
    if trait is None:
        return rule
    if trait.kind == "look":
        raise ToolProblem(
            "bad_request", f"{tool} only looks, which is not asked for", "variet auth revoke takes it away"
        )
    if pattern and not trait.targets:
        raise ToolProblem("bad_request", f"{tool} reaches nobody of whom a rule could speak", "Leave the pattern out")
    if answer == "allow" and trait.kind == "act" and not trait.standing:
        raise ToolProblem("bad_request", f"{tool} always asks: it tells somebody something, or cannot be taken back")
    if answer == "allow" and trait.kind == "page" and not _SITE.fullmatch(pattern):
        raise ToolProblem("bad_request", "name the site whose pages may always be read, as docs.python.org")
    return rule


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _whole(tool: str, account: str, payload: bytes) -> bytes:
    return b"\0".join((tool.encode(), account.encode(), payload))


def _payload_sha256(approval: Approval, payload: bytes) -> str:
    return _sha256(_whole(approval.tool, approval.account or "", payload))
