"""Runs the engine: the socket, the signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import uvicorn

from variet import connection, paths
from variet.engine import config_file
from variet.engine.addresses import Names, is_loopback, local_url, names_here, reachable
from variet.engine.app import Identity, build
from variet.engine.client_connection import ClientConnection
from variet.engine.engine import Engine
from variet.engine.trust import KeyStore, check_binding
from variet.errors import TrustError, VarietError
from variet.locks import try_lock
from variet.system import tell_supervisor

log = logging.getLogger("variet.engine")
_CERTIFICATE_CHECK_S = 600.0
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class _Tls:
    """The certificate in use, kept fresh: addresses change and certificates end while an engine runs for months."""

    def __init__(self, engine: Engine, host: str) -> None:
        from variet.engine.certificate import Certificates  # 0.2 s that an engine on loopback does not need

        self.certificates = Certificates()
        self._names: Callable[[], Names] = lambda: names_here(host, engine.config.server.hosts)
        self.context = self.certificates.context(self._names())

    async def keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_S)
            try:
                if self.certificates.refresh(self._names()):
                    self.certificates.load(self.context)
                    log.info("a new server certificate holds from the next connection on")
            except (TrustError, OSError) as error:
                log.error("the old certificate stays: %s", error)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the engine drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Audience(Protocol):
    """Who is told how an engine fares."""

    def ready(self, engine: Engine, urls: Sequence[str], authority: Path | None) -> None:
        """The port answers; `authority`: the PEM file that clients need, where it speaks TLS."""
        ...

    def stopping(self, answers: int, seconds: float) -> None:
        """It was asked to end; so many answers may finish for so long, or until it is asked again."""
        ...


def run(config_path: Path, *, host: str | None, port: int | None, audience: Audience) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends the patience with running answers. Returns the exit code."""
    if sys.platform != "win32":
        import uvloop

        return uvloop.run(_serve(config_path, host, port, audience))
    return asyncio.run(_serve(config_path, host, port, audience))


async def _serve(config_path: Path, host: str | None, port: int | None, audience: Audience) -> int:
    server_config = config_file.load(config_path).server
    bind_host, bind_port = host or server_config.host, server_config.port if port is None else port
    check_binding(bind_host, KeyStore())
    sock = listen(bind_host, bind_port)  # first of all: who is in the way should be told at once
    held = hold_state()
    engine = await Engine.create(config_path)
    tls = None if is_loopback(bind_host) or engine.config.server.plain_http_on_lan else _Tls(engine, bind_host)
    urls = reachable(bind_host, sock.getsockname()[1], secure=tls is not None)
    identity = Identity(urls, tls.certificates.authority_pem() if tls else "", secrets.token_urlsafe(32))
    server = _Server(
        uvicorn.Config(
            build(engine, identity), log_config=None, access_log=False, lifespan="off",
            server_header=False, proxy_headers=False, date_header=False,
            timeout_keep_alive=75, timeout_graceful_shutdown=5,
            http=ClientConnection, ws="none", backlog=1024,
            ssl_context_factory=(lambda *_: tls.context) if tls else None,
        )
    )  # fmt: skip
    stop, hurry = asyncio.Event(), asyncio.Event()
    handle_signals(functools.partial(_reload, engine), stop, hurry, sys.platform)
    await engine.start()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    announced = local_url(bind_host, sock.getsockname()[1], secure=tls is not None)
    connection.announce(announced, identity.local_key, tls.certificates.authority_path if tls else None)
    renewing = asyncio.create_task(tls.keep_fresh()) if tls else None
    gc.collect()
    gc.freeze()  # what start-up made stays for good: collections need not walk it again and again
    audience.ready(engine, urls, tls.certificates.authority_path if tls else None)
    tell_supervisor("READY=1")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping: running answers may finish for %g s", engine.config.server.shutdown_s)
    audience.stopping(len(engine.fleet.scheduler.leases), engine.config.server.shutdown_s)
    tell_supervisor("STOPPING=1")
    connection.withdraw(announced)
    if renewing:
        renewing.cancel()
    cut = await engine.stop(hurry)
    server.should_exit = True
    await serving
    held.close()
    log.info("stopped%s", f"; {cut} answers were cut at the deadline" if cut else ", nothing was cut")
    return 0


def hold_state() -> IO[bytes]:
    """The state folder is this engine's for as long as the file is open: two of them would delete each other's
    snapshots. Raises VarietError."""
    folder = paths.private_dir(paths.state_dir())
    file = (folder / "engine.lock").open("a+b")
    try:
        try_lock(file)
    except OSError as error:
        if error.errno not in _HELD:  # a file system without locks: other holders cannot be seen
            log.warning("%s cannot be locked (%s): see that no other engine uses it", folder, error.strerror)
            return file
        file.close()
        raise VarietError(
            "another engine uses this state folder", where=str(folder),
            next_step="Stop it first (`variet status` shows it), or give this one a home of its own: VARIET_HOME=...",
        ) from None  # fmt: skip
    return file


def listen(host: str, port: int) -> socket.socket:
    """Bind the port, or say who is in the way. Raises VarietError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # on Windows the option would let two servers share the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise VarietError(
                f"port {port} is in use",
                where=host,
                next_step="Another engine may run (`variet status`); or choose --port",
            ) from None
        raise VarietError(
            f"cannot listen: {error}", where=f"{host}:{port}", next_step="Choose --host and --port"
        ) from None
    return sock


def handle_signals(
    reload_config: Callable[[], Awaitable[None]], stop: asyncio.Event, hurry: asyncio.Event, platform: str
) -> None:
    """SIGTERM, SIGINT and on Windows Ctrl-Break set `stop`, a second one `hurry`; SIGHUP (not on Windows) reloads."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Future[None]] = set()

    def end() -> None:
        (hurry if stop.is_set() else stop).set()

    def reload() -> None:
        task = asyncio.ensure_future(reload_config())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        loop.add_signal_handler(signal.SIGHUP, reload)
    else:
        for number in (signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGTERM)):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(end))


async def _reload(engine: Engine) -> None:
    try:
        await engine.reload()
    except VarietError as error:
        log.error("reload refused, the old configuration stays: %s", error)
