"""The broker as a process: one at a time, on its socket, for one user, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial

from variet import endpoint, paths, rpc
from variet.assistant.audit.log import AuditLog
from variet.assistant.broker import place
from variet.assistant.broker.approvers import Approvers
from variet.assistant.broker.broker import Broker
from variet.assistant.broker.carriers import Carrier
from variet.assistant.broker.crossing import Problems
from variet.assistant.broker.methods import Line, Methods
from variet.assistant.broker.store import Store
from variet.assistant.google.accounts import Accounts
from variet.assistant.secrets.keep import handed_key, keep
from variet.system import tell_supervisor

_LOG = logging.getLogger(__name__)
_EXPIRY_S = 30.0
_MOST_LINES = 64


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def keep_first_pin(where: place.Place, pin: str) -> None:
    """Sets the person's PIN while no broker runs. Raises VarietError."""
    lock = where.rendezvous.lock()
    store, audit = Store(where.store), AuditLog(where.audit)
    try:
        Approvers(store, _now_ms).set_pin(pin)
        Broker(store, audit, {}, _now_ms).note("pin_set", by="root")
    finally:
        audit.close()
        store.close()
        lock.close()


class BrokerServer:
    """Raises VarietError where it cannot start: another runs, the store cannot be read."""

    def __init__(
        self, where: place.Place, hands: Callable[[Accounts], Mapping[str, Carrier]], idle_s: float | None = None
    ) -> None:
        """`hands`: what acts, by tool; `idle_s`: ends by itself after so long without a connection; None: never."""
        paths.private_dir(where.folder)
        self._lock = where.rendezvous.lock()
        self._where = where
        self._idle_s = idle_s
        self._store = Store(where.store)
        self._audit = AuditLog(where.audit)
        self.accounts = Accounts(keep(where.folder, handed_key() if where.own_user else None))
        self.broker = Broker(self._store, self._audit, hands(self.accounts), _now_ms)
        approvers = Approvers(self._store, _now_ms)
        self._methods = Methods(self.broker, approvers, self.accounts, where, _now_ms)
        self._lines: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._quiet_since = time.monotonic()

    async def run(self) -> None:
        """Until it is told to end, or nobody needs it."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                loop.add_signal_handler(one, self.end)
        address = self._where.socket or self._where.rendezvous.new_address()
        stop = await endpoint.listen(address, self._arrived, for_others=self._where.own_user)
        if not self._where.own_user:
            self._where.rendezvous.publish(address)
        tell_supervisor("READY=1")
        try:
            await self.broker.start()
            await self._watch()
        finally:
            stop()
            for task in self._lines:
                task.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)
            await self.broker.close()
            await self.accounts.close()
            self._where.rendezvous.file.unlink(missing_ok=True)
            self._audit.close()
            self._store.close()
            self._lock.close()

    def end(self) -> None:
        """What is being done is done before `run` returns."""
        self._over.set()

    async def _watch(self) -> None:
        wait_s = min(_EXPIRY_S, self._idle_s) if self._idle_s is not None else _EXPIRY_S
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait_s)
            self.broker.expire()
            if self._lines or self.broker.busy:
                self._quiet_since = time.monotonic()
            elif self._idle_s is not None and time.monotonic() - self._quiet_since >= self._idle_s:
                return

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._lines) >= _MOST_LINES:
            writer.close()
            return
        self._lines.add(task)
        try:
            uid = endpoint.peer_uid(writer)
            if not self._where.trusts(uid):
                self.broker.note("stranger", uid=uid)
                return
            line = Line()
            await rpc.answer(reader, writer, partial(self._methods.call, line), Problems())
        except (ConnectionError, asyncio.CancelledError):
            pass  # it left, or the broker ends
        finally:
            self._lines.discard(task)
            self._quiet_since = time.monotonic()
            writer.close()
