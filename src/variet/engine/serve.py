"""Runs the engine: the socket, the signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from variet.engine.app import build
from variet.engine.engine import Engine
from variet.engine.trust import KeyStore, check_binding
from variet.errors import VarietError

log = logging.getLogger("variet.engine")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the engine drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(config_path: Path, *, host: str | None, port: int | None, on_ready: Callable[[Engine, str], None]) -> int:
    """Serve until SIGTERM or SIGINT. `on_ready` is called once the port answers. Returns the exit code."""
    if sys.platform != "win32":
        import uvloop

        return uvloop.run(_serve(config_path, host, port, on_ready))
    return asyncio.run(_serve(config_path, host, port, on_ready))


async def _serve(config_path: Path, host: str | None, port: int | None, on_ready: Callable[[Engine, str], None]) -> int:
    engine = await Engine.create(config_path)
    bind_host, bind_port = (
        host or engine.config.server.host,
        engine.config.server.port if port is None else port,
    )
    check_binding(bind_host, KeyStore(), plain_http_on_lan=engine.config.server.plain_http_on_lan)
    sock = listen(bind_host, bind_port)
    shown = f"http://{bind_host}:{sock.getsockname()[1]}"
    server = _Server(
        uvicorn.Config(
            build(engine), log_config=None, access_log=False, lifespan="off", server_header=False, proxy_headers=False,
            date_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=5,
            http="httptools" if sys.platform != "win32" else "auto",
            ws="none", backlog=1024,
        )
    )  # fmt: skip
    stop = asyncio.Event()
    _handle_signals(engine, stop)
    await engine.start()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    on_ready(engine, shown)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping: running answers may finish for %g s", engine.config.server.shutdown_s)
    cut = await engine.stop()
    server.should_exit = True
    await serving
    log.info("stopped%s", f"; {cut} answers were cut at the deadline" if cut else ", nothing was cut")
    return 0


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


def _handle_signals(engine: Engine, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(_reload(engine))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload)
    else:
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _reload(engine: Engine) -> None:
    try:
        await engine.reload()
    except VarietError as error:
        log.error("reload refused, the old configuration stays: %s", error)
