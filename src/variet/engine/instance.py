"""One llama-server child: spawn, progress, ready, stop. Knows nothing of models, tiers or queues.

llama-server tells a router of its own on stdout how far a load is; started with LLAMA_SERVER_ROUTER_PORT it tells us.
That protocol is private to llama.cpp, so a build without it falls back to polling /health.
A child never outlives the engine: the kernel ends it with us (PR_SET_PDEATHSIG; a Job Object on Windows).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from variet.engine.backends.base import Address, Gone, LaunchSpec, OnProgress
from variet.errors import LaunchFailed
from variet.processes import Leash

_STATE = b"cmd_child_to_router:state:"
_LISTENS = re.compile(rb"listening on (http://127\.0\.0\.1:\d+)")
_EXIT = b"cmd_router_to_child:exit\n"
_TAIL_LINES = 40
_HEALTH_POLL_S = 0.1


class LogFile:
    """A child's log on disk, kept to the two newest files of at most `limit` bytes; and its last lines in memory."""

    def __init__(self, path: Path, limit_bytes: int = 4 << 20) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._limit = limit_bytes
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        self.tail.append(line.decode(errors="replace").rstrip())
        # A full disk or a removed folder must not end the child's reader; the tail in memory remains.
        with contextlib.suppress(OSError, ValueError):
            if self._file.closed:
                self._file = self.path.open("ab", buffering=0)
            self._file.write(line)
            if self._file.tell() > self._limit:
                self._file.close()
                self.path.replace(self.path.with_suffix(".1.log"))

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()


class LocalChild:
    """A llama-server process on this machine. Make one with `spawn`."""

    def __init__(self, spec: LaunchSpec, address: Address, process: asyncio.subprocess.Process, log: LogFile) -> None:
        loop = asyncio.get_running_loop()
        self.spec = spec
        self.address = address
        self.ready: asyncio.Future[float] = loop.create_future()
        self.gone: asyncio.Future[Gone] = loop.create_future()
        self._process = process
        self._log = log
        self._started = time.monotonic()
        self._last_sign = self._started
        self._stopping = False
        self._loaded = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @classmethod
    async def spawn(
        cls,
        spec: LaunchSpec,
        sockets: Path,
        log_path: Path,
        leash: Leash,
        on_progress: OnProgress,
        platform: str = sys.platform,
    ) -> LocalChild:
        """Start llama-server. Raises LaunchFailed if the system refuses."""
        address, flags, env = address_for(spec, sockets, platform)
        if spec.child_protocol:
            env["LLAMA_SERVER_ROUTER_PORT"] = "1"
        log = LogFile(log_path)
        log.write(f"--- start: {spec.binary} {' '.join([*spec.args, *flags])}\n".encode())
        try:
            process = await asyncio.create_subprocess_exec(
                spec.binary,
                *spec.args,
                *flags,
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                **leash.spawn_options(),
            )
        except OSError as error:
            log.close()
            raise LaunchFailed(
                f"{spec.binary} cannot be started: {error}", where=spec.model, next_step="Run `variet doctor`"
            ) from None
        leash.hold(process.pid)
        child = cls(spec, address, process, log)
        child._tasks = [
            asyncio.create_task(child._read_stdout(on_progress)),
            asyncio.create_task(child._read_stderr()),
            asyncio.create_task(child._watch_load(on_progress)),
        ]
        child._tasks.append(asyncio.create_task(child._reap()))
        return child

    async def stop(self, patience_s: float = 5.0) -> Gone:
        """Ask on stdin, then SIGTERM, then SIGKILL, each after `patience_s` at most.

        Seen with b10068 and b10434: an exit sent during the load is lost, and ends the child's watch for our death,
        so none is sent then; an exit sent right after the load may be lost; SIGTERM is not heeded while stdin is open.
        """
        self._stopping = True
        process = self._process
        stdin = process.stdin
        if process.returncode is None and self.ready.done() and self.spec.child_protocol and stdin:
            with contextlib.suppress(OSError):
                stdin.write(_EXIT)
                await stdin.drain()
            if await self._gone_within(min(1.0, patience_s)):
                return self.gone.result()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            if stdin and self.ready.done():
                stdin.close()
            if await self._gone_within(min(2.0, patience_s)):
                return self.gone.result()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return await asyncio.shield(self.gone)

    async def _gone_within(self, seconds: float) -> bool:
        await asyncio.wait([self.gone], timeout=seconds)
        return self.gone.done()

    async def _read_stdout(self, on_progress: OnProgress) -> None:
        assert self._process.stdout is not None
        async for line in _lines(self._process.stdout):
            if not line.startswith(_STATE):
                self._hear(line)
                continue
            self._last_sign = time.monotonic()
            try:
                message = json.loads(line[len(_STATE) :])
                if message["state"] == "ready":
                    self._set_ready()
                elif message["state"] == "loading":
                    payload = message["payload"]
                    on_progress(str(payload["current"]), float(payload["value"]))
            except (ValueError, TypeError, KeyError):
                self._log.write(line)  # another build's words: kept for people, no reason to fail

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr):
            self._last_sign = time.monotonic()
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        """A line for people. A child that chooses its own port names it in such a line."""
        self._log.write(line)
        if not self.address.base_url and (found := _LISTENS.search(line)):
            self.address = replace(self.address, base_url=found[1].decode())
            if self._loaded:
                self._set_ready()

    def _set_ready(self) -> None:
        """Its address may be told later than its load: they come by two pipes."""
        self._loaded = True
        if self.address.base_url and not self.ready.done() and not self.gone.done():
            self.ready.set_result((time.monotonic() - self._started) * 1000)

    async def _watch_load(self, on_progress: OnProgress) -> None:
        """Fail a load without any sign of life; poll /health where the build tells nothing by itself."""
        connector = aiohttp.UnixConnector(self.address.socket_path) if self.address.socket_path else None
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not self.ready.done():
                await first_of(self.ready, self.gone, timeout_s=_HEALTH_POLL_S)
                if self.gone.done() or self.ready.done():
                    return
                if time.monotonic() - self._last_sign > self.spec.load_timeout_s:
                    self._log.write(b"--- no sign of life while loading: stopped\n")
                    self._process.kill()
                    return
                if not self.spec.child_protocol and self.address.base_url:
                    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                        async with session.get(f"{self.address.base_url}/health") as answer:
                            if answer.status == 200:
                                on_progress("model", 1.0)
                                self._set_ready()

    async def _reap(self) -> None:
        code = await self._process.wait()
        readers = self._tasks[:2]
        await asyncio.wait(readers, timeout=1.0)  # they end with the pipes
        for reader in readers:
            reader.cancel()
        self._log.write(f"--- end: {code}\n".encode())
        gone = Gone(code, tuple(line for line in self._log.tail if not line.startswith("--- ")))
        self._log.close()
        if self.address.socket_path:
            Path(self.address.socket_path).unlink(missing_ok=True)
        self.gone.set_result(gone)
        if not self.ready.done():
            self.ready.set_exception(
                LaunchFailed(
                    "stopped while loading" if self._stopping else gone.explain(),
                    where=self.spec.model,
                    next_step=f"`variet logs {self.spec.model}` shows more",
                )
            )
            self.ready.exception()  # marked as seen: a load that was stopped on purpose has no reader


async def first_of(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of them is done, or for so long; cancels none of them."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # a line beyond the reader's limit: the rest of it follows as further lines
            continue
        if not line:
            return
        yield line


def address_for(spec: LaunchSpec, sockets: Path, platform: str) -> tuple[Address, list[str], dict[str, str]]:
    """(address, flags, environment), fresh for every start: llama-server refuses a stale socket. Never a LAN address.

    A unix socket in a private folder; on Windows loopback with a random key, since there anybody could connect. There
    the child chooses its port: one that was free a moment ago may be somebody else's, who would be sent the key.
    """
    env = dict(spec.env)
    name = f"{spec.model[:24]}-{secrets.token_hex(4)}"
    if platform != "win32":
        path = str(sockets / f"{name}.sock")
        return Address("http://child", socket_path=path), ["--host", path], env
    key = secrets.token_urlsafe(24)
    env["LLAMA_API_KEY"] = key  # in the environment, not on the command line that others may list
    return Address("", api_key=key), ["--host", "127.0.0.1", "--port", "0"], env


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """The engine's environment without secrets, GPUs in PCI order, huge pages, then the owner's own variables.

    glibc then asks for huge pages (`madvise`) for what is large: weights that llama.cpp repacks for the processor, KV
    caches on the host (decision 010). Other systems' libraries do not read it.
    """
    secret = ("KEY", "TOKEN", "SECRET", "PASSWORD")
    env = {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in secret)}
    return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **extra}
