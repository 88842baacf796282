"""A surface's line to the host: started where none runs, opened again where it broke."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from variet import endpoint, paths
from variet.agent.host.wire import HostErrors, OpenSession
from variet.errors import ConnectionFailed
from variet.rendezvous import Rendezvous
from variet.rpc import Asking

log = logging.getLogger("variet.host")

_START_S = 20.0
_POLL_S = 0.05
_IDLE_S = "60"  # nobody needs it any more; VARIET_HOST_IDLE_S says otherwise
_MOST_LOG_BYTES = 1 << 20
_AGAIN_S = (0.05, 0.2, 0.5, 1.0, 2.0)
_NEEDED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VARIET_HOME", "VARIET_MODELS",
    "VARIET_HOST_GRACE_S",
    "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP", "SSL_CERT_FILE",
)  # fmt: skip

Hear = Callable[[str, dict[str, Any]], None]


def rendezvous() -> Rendezvous:
    """Where the host of this user is."""
    return Rendezvous(paths.state_dir() / "host", "host")


class HostClient:
    """`surface`: what it is, as the host tells others. `start`: whether a host is started where none runs. Methods
    raise errors as they were raised there, and ConnectionFailed where there is no answer."""

    def __init__(self, surface: str, *, start: bool = True, where: Rendezvous | None = None) -> None:
        self._surface = surface
        self._start = start
        self._where = where or rendezvous()
        self._line: Asking | None = None
        self._opening = asyncio.Lock()
        self._hearers: dict[str, Hear] = {}  # by session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the host. What is open there stays open as long as others need it, or its turn goes on."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    @property
    def is_open(self) -> bool:
        return self._line is not None and self._line.is_open

    async def ask(self, method: str, **params: Any) -> Any:
        """Raises ConnectionError where the line broke before the answer: nobody knows whether it was done."""
        return await (await self.line()).ask(method, params)

    async def call(self, method: str, **params: Any) -> Any:
        """What may be asked twice: where the line breaks, it is asked again."""
        for pause_s in _AGAIN_S:
            try:
                return await self.ask(method, **params)
            except ConnectionError:
                await asyncio.sleep(pause_s)
        try:
            return await self.ask(method, **params)
        except ConnectionError as error:
            raise ConnectionFailed(f"the host of conversations went away: {error}", next_step=_SEE_LOG) from None

    def hear(self, session: str, hearer: Hear) -> None:
        """Who is told what the host says of a session."""
        self._hearers[session] = hearer

    def hear_no_more(self, session: str) -> None:
        self._hearers.pop(session, None)

    async def sessions(self) -> list[OpenSession]:
        """What the host keeps open; nothing where no host runs."""
        try:
            return [OpenSession.model_validate(one) for one in await self.call("sessions")]
        except ConnectionFailed:
            if self._start:
                raise
            return []

    # --- the line ---

    async def line(self) -> Asking:
        """Opened where it is not. Raises ConnectionFailed."""
        async with self._opening:
            if self._line is not None and self._line.is_open:
                return self._line
            await self.close()
            reader, writer = await self._reached()
            uid = endpoint.peer_uid(writer)
            if os.name == "posix" and uid is not None and uid != os.geteuid():
                writer.close()
                raise ConnectionFailed(f"what listens there is user id {uid}, and so no host of yours")
            line = Asking(reader, writer, HostErrors(), self._told)
            try:
                await line.ask("hello", {"surface": self._surface})
            except ConnectionError:  # it ended meanwhile; the next try starts another
                await line.close()
                raise
            self._line = line
            return line

    def _told(self, method: str, params: Any) -> None:
        if isinstance(params, dict) and (hearer := self._hearers.get(str(params.get("session")))) is not None:
            hearer(method, params)

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline = time.monotonic() + _START_S
        process: subprocess.Popen[bytes] | None = None
        while True:
            if address := self._where.address():
                with contextlib.suppress(OSError):
                    return await endpoint.dial(address)
            if not self._start:
                raise ConnectionFailed("no host of conversations runs")
            if process is None:
                process = _started(self._where)
            elif (code := process.poll()) is not None:
                if code:
                    raise ConnectionFailed("the host of conversations did not start", next_step=_SEE_LOG)
                process = None  # another was there, which may just have ended
            if time.monotonic() > deadline:
                raise ConnectionFailed("the host of conversations does not answer", next_step=_SEE_LOG)
            await asyncio.sleep(_POLL_S)


_SEE_LOG = "See `variet host log`"


async def release(session: str) -> None:
    """Have the host let a session go that nobody needs there, so that this process can open it. Raises ConversationBusy
    where a surface or a turn needs it."""
    async with HostClient("variet", start=False) as client:
        with contextlib.suppress(ConnectionFailed, ConnectionError):  # no host: nothing is open there
            await client.ask("release", session=session)


def log_file(where: Rendezvous) -> Any:
    return where.folder / "host.log"


def _started(where: Rendezvous) -> subprocess.Popen[bytes]:
    """Of its own: it outlives the surface that needed it first. Of two that start, the lock lets one live. Raises
    ConnectionFailed."""
    paths.private_dir(paths.state_dir())
    paths.private_dir(where.folder)
    file = log_file(where)
    with contextlib.suppress(OSError):
        if file.stat().st_size > _MOST_LOG_BYTES:
            file.replace(file.with_suffix(".log.1"))
    apart: dict[str, Any] = {"creationflags": 0x00000208} if sys.platform == "win32" else {"start_new_session": True}
    own = {name: value for name, value in os.environ.items() if name in _NEEDED or name.startswith("XDG_")}
    idle_s = os.environ.get("VARIET_HOST_IDLE_S", _IDLE_S)
    try:
        with file.open("ab") as output:
            os.chmod(file, 0o600)  # noqa: PTH101 - an open file's name
            return subprocess.Popen(
                [sys.executable, "-m", "variet", "host", "run", "--idle-s", idle_s],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=where.folder, env=own, **apart,
            )  # fmt: skip
    except OSError as error:
        raise ConnectionFailed(f"the host of conversations cannot be started: {error}") from None
