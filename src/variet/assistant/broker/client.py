"""How servers of tools and surfaces talk to the broker; it is started where none runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from typing import Any, Self

from variet import endpoint, paths
from variet.approval import Approval, Decision
from variet.assistant.broker import place
from variet.assistant.broker.crossing import Problems
from variet.assistant.environment import environment
from variet.assistant.problems import ToolProblem
from variet.rpc import Asking

_START_S = 20.0
_RESTART_S = 6.0
_POLL_S = 0.05
_IDLE_S = "120"  # nobody needs it any more; VARIET_BROKER_IDLE_S says otherwise
_ANSWER_S = 30.0
_SEE_LOG = "See `variet broker log`"
_MOST_LOG_BYTES = 1 << 20
_AGAIN_S = (0.1, 0.5, 1.0)


class BrokerClient:
    """One line to the broker, opened when it is needed, opened again when it broke.

    Every method raises ToolProblem, with the code `broker_down` where there is no answer: that is a no.
    """

    def __init__(self, where: place.Place | None = None, *, start: bool = True) -> None:
        self._where = where or place.mine()
        self._start = start
        self._line: Asking | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def call(self, method: str, answer_s: float = _ANSWER_S, /, **params: Any) -> Any:
        """`answer_s`: how long an answer may take. Raises ToolProblem.

        Where the line breaks it is asked again, of a broker that may have started anew: every method may be asked
        twice, but for the one that uses an approval up.
        """
        waits_s = [] if method == "use" else list(_AGAIN_S)
        while True:
            line = await self._open()
            try:
                async with asyncio.timeout(answer_s):
                    return await line.ask(method, params)
            except TimeoutError:
                raise ToolProblem("broker_down", "the broker does not answer", _SEE_LOG) from None
            except OSError as error:
                await self.close()
                if not waits_s:
                    raise ToolProblem("broker_down", f"the broker went away: {error}", "Try again") from None
                await asyncio.sleep(waits_s.pop(0))  # one that dies may still take a line, and drop it

    # --- in types ---

    async def propose(self, client: str, conversation: str, tool: str, asked: dict[str, Any]) -> Approval:
        told = await self.call("propose", client=client, conversation=conversation, tool=tool, asked=asked)
        return Approval.model_validate(told)

    async def wait(self, client: str, conversation: str, approval_id: str, most_s: float) -> Approval:
        told = await self.call(
            "wait", most_s + _ANSWER_S, client=client, conversation=conversation, approval_id=approval_id, most_s=most_s
        )
        return Approval.model_validate(told)

    async def listed(self, *states: str) -> list[Approval]:
        return [Approval.model_validate(one) for one in await self.call("list", states=list(states))]

    async def get(self, approval_id: str) -> Approval:
        return Approval.model_validate(await self.call("get", approval_id=approval_id))

    async def decide(self, decision: Decision) -> Approval:
        return Approval.model_validate(await self.call("decide", **decision.model_dump()))

    # --- the line ---

    async def _open(self) -> Asking:
        async with self._opening:
            if self._line is not None and self._line.is_open:
                return self._line
            await self.close()
            reader, writer = await self._reached()
            uid = endpoint.peer_uid(writer)
            if not self._where.trusts(uid):
                writer.close()
                who = "does not say who it is: it is busy, or" if uid is None else f"is user id {uid}, and so"
                raise ToolProblem("broker_down", f"what listens there {who} no broker of yours", "Try again")
            self._line = Asking(reader, writer, Problems())
            return self._line

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline = time.monotonic() + (_RESTART_S if self._where.own_user else _START_S)
        process: subprocess.Popen[bytes] | None = None
        while True:
            address = self._where.socket or self._where.rendezvous.address()
            if address:
                with contextlib.suppress(OSError):
                    return await endpoint.dial(address)
            if not self._where.own_user:  # else the system starts it, and again where it failed
                process = self._helped(process)
            if time.monotonic() > deadline:
                next_step = "Why: systemctl status variet-broker" if self._where.own_user else _SEE_LOG
                raise ToolProblem("broker_down", "the broker does not answer", next_step)
            await asyncio.sleep(_POLL_S)

    def _helped(self, process: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
        """One of this person that starts; `process`: the one that was started before. Raises ToolProblem."""
        if not self._start:
            raise ToolProblem("broker_down", "the broker does not run", "Start it: variet broker status")
        if process is None:
            try:
                return _started(self._where)
            except OSError as error:
                raise ToolProblem("broker_down", f"the broker cannot be started: {error}") from None
        code = process.poll()
        if code:
            raise ToolProblem("broker_down", "the broker did not start", _SEE_LOG)
        return process if code is None else None  # another was there, which may just have ended


def _started(where: place.Place) -> subprocess.Popen[bytes]:
    """Of its own: it outlives whoever needed it first, and ends when nobody does. Of two, the lock lets one live."""
    paths.private_dir(where.folder)
    with contextlib.suppress(OSError):
        if where.log.stat().st_size > _MOST_LOG_BYTES:
            where.log.replace(where.log.with_suffix(".log.1"))
    with where.log.open("ab") as log:
        os.chmod(where.log, 0o600)  # noqa: PTH101 - as above
        apart: dict[str, Any] = (
            {"creationflags": 0x00000208} if sys.platform == "win32" else {"start_new_session": True}
        )  # fmt: skip
        idle_s = os.environ.get("VARIET_BROKER_IDLE_S", _IDLE_S)
        return subprocess.Popen(
            [sys.executable, "-m", "variet", "broker", "run", "--idle-s", idle_s],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=where.folder, env=environment(), **apart,
        )  # fmt: skip
