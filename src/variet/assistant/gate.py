"""What a server of tools passes through: it asks the broker before words go out or something is done, waits a while for
a person, and tells what was read before a model is shown it. Without a broker the answer is no.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import BaseModel

from variet.approval import Approval
from variet.assistant import dialog
from variet.assistant.answers import Done, addresses, answer, of_strangers
from variet.assistant.broker.client import BrokerClient
from variet.assistant.environment import HANDLE, MOST_PATIENCE_S, PATIENCE
from variet.assistant.problems import ToolProblem
from variet.policy.assistant import TRAITS

_MOST_ASKING = 100
_PATIENCE_S = 45.0  # other clients give up after a minute
_DECIDE = "A person decides, by `variet approvals` or another surface of Variet; then call it again, just the same"

Tell = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is: what the client says of itself, or its key says of it, and the handle of a conversation where a
    surface minted one."""

    client: str
    conversation: str
    tell: Tell

    @classmethod
    def of(cls, context: Context[Any, Any]) -> Caller:
        known = context.session.client_params

        async def tell(words: str) -> None:
            await context.report_progress(0, None, words)

        request = context.request_context.request  # over HTTP
        if request is not None:
            return cls(str(request.scope["variet.client"]), "", tell)
        return cls(known.client_info.name if known else "", os.environ.get(HANDLE, ""), tell)


class Gate:
    """Every method raises ToolProblem."""

    def __init__(self, broker: BrokerClient, patience_s: float | None = None) -> None:
        self._broker = broker
        self._patience_s = _patience_s() if patience_s is None else patience_s
        self._asking: dict[str, str] = {}  # by wish: the action that a client's dialog shows

    async def close(self) -> None:
        await self._broker.close()

    async def let_out(self, caller: Caller, tool: str, target: str) -> str:
        """Returns where a query or an address may go out now: exactly what may, where private text was read before;
        nothing where all of the request may."""
        judged = await self._broker.call(
            "judge", client=caller.client, conversation=caller.conversation, tool=tool, target=target
        )
        if judged["answer"] == "allow":
            return str(judged["plain"])
        if judged["answer"] == "deny":
            raise ToolProblem("denied", judged["reason"])
        approval = await self._waited(caller, Approval.model_validate(judged["approval"]))
        if approval.state != "approved":
            raise _refused(approval)
        await self._broker.call(
            "use", client=caller.client, conversation=caller.conversation, approval_id=approval.id
        )  # fmt: skip
        return target  # what was shown, and nothing beside it

    async def read(
        self, caller: Caller, *, private: Iterable[str] = (), hits: Iterable[str] = (), addresses: Iterable[str] = (),
        public: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """To be called before what was read is shown."""
        await self._broker.call(
            "taint.add", client=caller.client, conversation=caller.conversation, private=list(private),
            hits=list(hits), addresses=list(addresses), public=list(public),
        )  # fmt: skip

    async def show(self, caller: Caller, tool: str, text: str, data: BaseModel) -> CallToolResult:
        """What a tool found: told to the broker before a model is shown it, and marked where strangers wrote it."""
        whole = f"{text}\n{data.model_dump_json()}"
        await self.read(caller, private=[whole] if TRAITS[tool].private else [], addresses=addresses(whole))
        return of_strangers(text, data) if TRAITS[tool].strangers else answer(text, data)

    async def done(
        self, context: Context[Any, Any], tool: str, asked: dict[str, Any]
    ) -> CallToolResult | InputRequiredResult:
        """The answer to a tool that acts, once it is done; or a client's dialog, after which it calls again."""
        caller = Caller.of(context)
        wish = hashlib.sha256(json.dumps([caller.client, caller.conversation, tool, asked], sort_keys=True).encode())
        shown = self._asking.pop(wish.hexdigest(), "")
        again = context.input_responses is not None  # the same call, after a dialog
        approval = await self._begun(caller, shown if again else "", tool, asked)
        if approval.state == "pending" and (asking := dialog.question(context, approval)) is not None:
            self._asking[wish.hexdigest()] = approval.id
            if len(self._asking) > _MOST_ASKING:  # of clients that never came back
                del self._asking[next(iter(self._asking))]
            return asking
        if approval.state in ("pending", "approved", "executing"):
            approval = await dialog.beside(context, approval, self._waited(caller, approval))
        if approval.state != "done":
            raise _refused(approval)
        told = Done(action=approval.id, state=approval.state, result=approval.result or "")
        return answer(f"done: {told.result}", told)

    async def _begun(self, caller: Caller, shown: str, tool: str, asked: dict[str, Any]) -> Approval:
        """The one that a dialog showed, however far it is by now; else a new one."""
        if shown:
            with contextlib.suppress(ToolProblem):  # the broker forgot it
                return await self._broker.wait(caller.client, caller.conversation, shown, 0)
        return await self._broker.propose(caller.client, caller.conversation, tool, asked)

    async def _waited(self, caller: Caller, approval: Approval) -> Approval:
        await caller.tell(f"waiting for a person's decision ({approval.reason}): variet approvals")
        return await self._broker.wait(caller.client, caller.conversation, approval.id, self._patience_s)


def _patience_s() -> float:
    try:
        return min(max(float(os.environ.get(PATIENCE, _PATIENCE_S)), 0.0), MOST_PATIENCE_S)
    except ValueError:
        return _PATIENCE_S


def _refused(approval: Approval) -> ToolProblem:
    because = f": {approval.feedback}" if approval.feedback else ""
    if approval.state == "rejected":
        return ToolProblem("rejected", f"a person said no{because}", "Do not try again; ask them what they want")
    if approval.state == "expired":
        return ToolProblem("expired", "nobody decided in time", "Call it again if it is still wanted")
    if approval.state == "failed":
        return ToolProblem("failed", f"it was approved, but not done: {approval.result}")
    if approval.state == "unknown":
        return ToolProblem("unknown_outcome", f"nobody knows whether it was done: {approval.result}",
                           "Do not try again; let the person look")  # fmt: skip
    return ToolProblem("approval_required", f"{approval.id} waits: {approval.reason}", _DECIDE)
