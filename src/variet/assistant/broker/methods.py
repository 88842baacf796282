"""What can be asked of the broker over its socket, by whom, in which shape.

Three kinds of askers: anybody of the right user (servers of tools), an approver (a surface with its secret, or a person
with their PIN), and the person alone (with their PIN).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from variet.approval import Decision, State
from variet.assistant.audit import log
from variet.assistant.broker import unit
from variet.assistant.broker.approvers import Approvers, allow
from variet.assistant.broker.broker import Broker
from variet.assistant.broker.place import Place
from variet.assistant.broker.reading import Asker, Read
from variet.assistant.google.accounts import Accounts
from variet.assistant.google.scopes import Purpose
from variet.assistant.google.sign_in import OAuthClient
from variet.assistant.problems import ToolProblem
from variet.policy.assistant import TRAITS
from variet.rpc import LONGEST_LINE

Rank = Literal["anybody", "approver", "person"]
VERSION = 1
_LONGEST_WAIT_S = 600.0


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Asking(_Params):
    client: str = Field("", max_length=200)
    conversation: str = Field("", max_length=200)


class JudgeParams(_Asking):
    tool: Literal["search.search", "search.fetch"]
    target: str = Field(max_length=20_000)


class ProposeParams(_Asking):
    tool: str
    asked: dict[str, Any]


class WaitParams(_Asking):
    approval_id: str
    most_s: float = Field(0, ge=0, le=_LONGEST_WAIT_S)


class UseParams(_Asking):
    approval_id: str


class ReadParams(_Asking):
    private: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    typed: str = ""
    public: tuple[str, ...] = ()


class OpenParams(_Params):
    client: str = Field(min_length=1, max_length=100)


class PinParams(_Params):
    pin: str


class SecretParams(_Params):
    secret: str


class ListParams(_Params):
    states: tuple[State, ...] = ()


class GetParams(_Params):
    approval_id: str


class ChangesParams(_Params):
    after: int = 0


class FollowParams(_Asking):
    after: int = 0


class NewPinParams(_Params):
    pin: str
    old: str = ""


class RuleParams(_Params):
    tool: str
    pattern: str = ""
    answer: Literal["allow", "ask", "deny"]


class NameParams(_Params):
    name: str


class LastParams(_Params):
    last: int = Field(100, ge=1, le=100_000)


class BeginParams(_Params):
    purpose: Purpose
    client_id: str = Field(min_length=1, max_length=500)
    client_secret: str = Field("", max_length=500)


class FlowParams(_Params):
    flow: str


class PurposeParams(_Params):
    purpose: Purpose


class TokenParams(_Params):
    service: Literal["mail", "calendar"]
    stale: str = ""


class Nothing(_Params):
    pass


@dataclass(slots=True)
class Line:
    """One connection. `approver`: who showed that they may decide; `person`: it was by the PIN."""

    approver: str = ""
    person: bool = False


class Methods:
    """Raises ToolProblem for everything that whoever asks can mend."""

    def __init__(
        self, broker: Broker, approvers: Approvers, accounts: Accounts, place: Place, now_ms: Callable[[], int]
    ) -> None:
        self._broker = broker
        self._approvers = approvers
        self._accounts = accounts
        self._place = place
        self._now_ms = now_ms
        self._table: dict[str, tuple[Rank, type[_Params], Callable[[Line, Any], Awaitable[Any]]]] = {
            "hello": ("anybody", Nothing, self._hello),
            "judge": ("anybody", JudgeParams, self._judge),
            "propose": ("anybody", ProposeParams, self._propose),
            "wait": ("anybody", WaitParams, self._wait),
            "use": ("anybody", UseParams, self._use),
            "taint.add": ("anybody", ReadParams, self._read),
            "taint.get": ("anybody", JudgeParams, self._taint),
            "conversation.open": ("anybody", OpenParams, self._open),
            "conversation.follow": ("anybody", FollowParams, self._follow),
            "token": ("anybody", TokenParams, self._token),
            "auth.status": ("anybody", Nothing, self._auth_status),
            "unlock": ("anybody", PinParams, self._unlock),
            "present": ("anybody", SecretParams, self._present),
            "pin.set": ("anybody", NewPinParams, self._set_pin),
            "list": ("approver", ListParams, self._list),
            "get": ("approver", GetParams, self._get),
            "decide": ("approver", Decision, self._decide),  # type: ignore[dict-item]
            "changes": ("approver", ChangesParams, self._changes),
            "rules.list": ("approver", Nothing, self._rules),
            "rules.add": ("person", RuleParams, self._add_rule),
            "rules.drop": ("person", NameParams, self._drop_rule),
            "surfaces.list": ("person", Nothing, self._surfaces),
            "surfaces.add": ("person", NameParams, self._add_surface),
            "surfaces.drop": ("person", NameParams, self._drop_surface),
            "readers.list": ("person", Nothing, self._readers),
            "readers.forget": ("person", NameParams, self._forget_reader),
            "auth.begin": ("person", BeginParams, self._auth_begin),
            "auth.finish": ("person", FlowParams, self._auth_finish),
            "auth.revoke": ("person", PurposeParams, self._auth_revoke),
            "audit.lines": ("person", LastParams, self._audit_lines),
            "audit.verify": ("person", Nothing, self._audit_verify),
        }

    async def call(self, line: Line, method: str, params: Any) -> Any:
        known = self._table.get(method)
        if known is None:
            newer = (
                "Start it anew"
                if not self._place.own_user
                else "Install it again: sudo .venv/bin/variet broker install"
            )
            raise ToolProblem("bad_request", f"the broker knows no {method!r}; is one of both older?", newer)
        rank, shape, do = known
        if (rank == "approver" and not line.approver) or (rank == "person" and not line.person):
            self._broker.note("refused", method=method, approver=line.approver)
            raise ToolProblem(
                "locked", f"{method} is for a person who showed that they may decide", "By their PIN: variet approvals"
            )
        try:
            given = shape.model_validate(params or {})
        except ValidationError as error:
            first = error.errors()[0]
            raise ToolProblem("bad_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            return await do(line, given)
        except UnicodeError:
            raise ToolProblem("bad_request", "it has characters that are none (half of a pair)") from None
        except (OSError, sqlite3.OperationalError) as error:
            full = getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in str(error)
            if not full:
                raise
            raise ToolProblem("unavailable", "the broker's disk is full, so it does nothing", "Make room") from None

    # --- anybody ---

    async def _hello(self, line: Line, _: Nothing) -> dict[str, Any]:
        return {
            "version": VERSION, "has_pin": self._approvers.has_pin, "own_user": self._place.own_user,
            "pending": len(self._broker.listed(("pending",))), "acts": sorted(self._broker.acts),
        }  # fmt: skip

    async def _judge(self, line: Line, given: JudgeParams) -> dict[str, Any]:
        judged = self._broker.judge(self._asker(given), given.tool, given.target)
        approval = judged.approval.model_dump() if judged.approval else None
        return {**asdict(judged.verdict), "approval": approval, "plain": judged.plain}

    async def _propose(self, line: Line, given: ProposeParams) -> Any:
        return (await self._broker.propose(self._asker(given), given.tool, given.asked)).model_dump()

    async def _wait(self, line: Line, given: WaitParams) -> Any:
        return (await self._broker.wait(self._asker(given), given.approval_id, given.most_s)).model_dump()

    async def _use(self, line: Line, given: UseParams) -> None:
        self._broker.use(self._asker(given), given.approval_id)

    async def _read(self, line: Line, given: ReadParams) -> None:
        asker = self._asker(given)
        if given.typed and not asker.conversation:
            raise ToolProblem("bad_request", "a person's words are told by a surface, with its handle")
        await self._broker.reading.add(
            asker, Read(given.private, given.hits, given.addresses, given.typed, given.public)
        )

    async def _taint(self, line: Line, given: JudgeParams) -> dict[str, Any]:
        kind = TRAITS[given.tool].kind
        return asdict(self._broker.reading.taint(self._asker(given), kind, given.target))

    async def _token(self, line: Line, given: TokenParams) -> dict[str, str]:
        """One that reads. What writes is handed to nobody."""
        token = await self._accounts.token("read", given.service, given.stale)
        return {"token": token.text, "email": token.email}

    async def _auth_status(self, line: Line, _: Nothing) -> list[Any]:
        return self._accounts.status()

    async def _open(self, line: Line, given: OpenParams) -> str:
        return self._broker.reading.mint(given.client, self._now_ms())

    async def _follow(self, line: Line, given: FollowParams) -> list[Any]:
        found = await self._broker.changes_of(self._asker(given), given.after)
        return _fitting([seq, one.model_dump()] for seq, one in found)

    async def _unlock(self, line: Line, given: PinParams) -> None:
        try:
            self._approvers.check_pin(given.pin)
        except ToolProblem as problem:
            self._broker.note("unlock_refused", code=problem.code)
            raise
        with contextlib.suppress(ToolProblem):  # a box that does not open keeps nobody from deciding
            await asyncio.to_thread(self._accounts.unlock, given.pin)
        line.approver, line.person = "person", True

    async def _present(self, line: Line, given: SecretParams) -> str:
        line.approver, line.person = self._approvers.surface_of(given.secret), False
        return line.approver

    async def _set_pin(self, line: Line, given: NewPinParams) -> None:
        if not self._approvers.has_pin and self._place.own_user:
            raise ToolProblem(
                "locked", "the first PIN is set by root here", f"Run: sudo {unit.PROGRAM}/bin/variet broker pin"
            )
        if self._approvers.has_pin:
            self._approvers.check_pin(given.old)
            self._accounts.unlock(given.old)
        else:
            self._accounts.forget()  # whoever sets the first PIN gets no sign-ins that another made
        allow(given.pin)
        # The box first: a PIN that opens nothing can still be set once more, with the old one.
        self._accounts.reseal(given.pin)
        self._approvers.set_pin(given.pin)
        self._broker.note("pin_set")
        line.approver, line.person = "person", True

    # --- an approver ---

    async def _list(self, line: Line, given: ListParams) -> list[Any]:
        return _fitting(one.model_dump() for one in self._broker.listed(given.states))

    async def _get(self, line: Line, given: GetParams) -> Any:
        return self._broker.get(given.approval_id).model_dump()

    async def _decide(self, line: Line, given: Decision) -> Any:
        return self._broker.decide(given, line.approver).model_dump()

    async def _changes(self, line: Line, given: ChangesParams) -> list[Any]:
        return _fitting([seq, one.model_dump()] for seq, one in await self._broker.changes(given.after))

    async def _rules(self, line: Line, _: Nothing) -> list[Any]:
        return [asdict(rule) for rule in self._broker.store.rules()]

    # --- the person ---

    async def _add_rule(self, line: Line, given: RuleParams) -> Any:
        return asdict(self._broker.add_rule(given.tool, given.pattern, given.answer))

    async def _drop_rule(self, line: Line, given: NameParams) -> bool:
        dropped = self._broker.store.drop_rule(given.name)
        self._broker.note("rule_dropped", rule=given.name, was_there=dropped)
        return dropped

    async def _surfaces(self, line: Line, _: Nothing) -> list[Any]:
        return [{"name": one.name, "created_ms": one.created_ms} for one in self._approvers.surfaces()]

    async def _add_surface(self, line: Line, given: NameParams) -> str:
        secret = self._approvers.add_surface(given.name)
        self._broker.note("surface_added", surface=given.name)
        return secret

    async def _drop_surface(self, line: Line, given: NameParams) -> bool:
        dropped = self._approvers.drop_surface(given.name)
        self._broker.note("surface_dropped", surface=given.name, was_there=dropped)
        return dropped

    async def _readers(self, line: Line, _: Nothing) -> list[Any]:
        return [{"client": client, "private": private} for client, private in self._broker.store.readers()]

    async def _forget_reader(self, line: Line, given: NameParams) -> bool:
        dropped = self._broker.store.forget_reader(given.name)
        self._broker.note("reader_forgotten", client=given.name, was_there=dropped)
        return dropped

    async def _auth_begin(self, line: Line, given: BeginParams) -> dict[str, str]:
        return await self._accounts.begin(given.purpose, OAuthClient(given.client_id, given.client_secret))

    async def _auth_finish(self, line: Line, given: FlowParams) -> dict[str, Any]:
        told = await self._accounts.finish(given.flow)
        self._broker.note("signed_in", account=told["email"], services=told["services"])
        return told

    async def _auth_revoke(self, line: Line, given: PurposeParams) -> bool:
        revoked = await self._accounts.revoke(given.purpose)
        self._broker.note("signed_out", purpose=given.purpose, revoked=revoked)
        return revoked

    async def _audit_lines(self, line: Line, given: LastParams) -> list[Any]:
        return list(log.lines(self._place.audit))[-given.last :]

    async def _audit_verify(self, line: Line, _: Nothing) -> list[str]:
        wrong = await asyncio.to_thread(log.wrong_with, self._place.audit, self._broker.store.fact("audit_head"))
        cut = (
            ["lines were cut off its end while the broker did not run"] if self._broker.store.fact("audit_cut") else []
        )
        return [*cut, *wrong]

    def _asker(self, given: _Asking) -> Asker:
        return self._broker.reading.asker(given.client, given.conversation)


def _fitting(found: Iterable[Any]) -> list[Any]:
    """As many as one answer holds, from the first on; whoever wants more asks on."""
    kept: list[Any] = []
    left = LONGEST_LINE // 2
    for one in found:
        left -= len(json.dumps(one, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        if left < 0 and kept:
            break
        kept.append(one)
    return kept
