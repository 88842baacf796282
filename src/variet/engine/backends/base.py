"""The seam between the engine and where instances run: `boxes()`, `launch(box, spec) -> child`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach a child: over a unix socket, or over loopback with a key. `base_url`: empty until the child said
    which port it chose."""

    base_url: str
    socket_path: str | None = None
    api_key: str | None = None


# As facts.Memory has it, and `full window`: sliding layers that keep every token, of which a save has the newest only.
StateMemory = Literal["plain", "window", "full window", "recurrent"]


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One llama-server to start: the flags without address, and how long silence may last while it loads.

    `state_key`: for what the KV states of its slots are valid; empty where they are not to be kept. `memory`: what can
    be done with a state that was brought back.
    """

    model: str
    binary: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    child_protocol: bool
    load_timeout_s: float
    state_key: str = ""
    memory: StateMemory = "plain"


_ILLEGAL = "an instruction that this processor lacks: use a llama-server built for it, see $.llama_server.path"
_ACCESS = "a memory access it may not make: the model file may be damaged, or this build has a bug"
# By exit code as subprocess has it: signals are negative, Windows' own codes are NTSTATUS values.
_MEANINGS = {
    -4: _ILLEGAL, 0xC000001D: _ILLEGAL,
    -9: "from outside, perhaps by the system for want of memory",
    -11: _ACCESS, 0xC0000005: _ACCESS,
    0xC0000135: "a library that is missing: install the CUDA or Visual C++ runtime it was built with",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gone:
    """How a child ended: exit code (negative: signal, as subprocess has it) and its last log lines."""

    code: int
    log_tail: tuple[str, ...]

    @property
    def by_signal(self) -> bool:
        return self.code < 0

    def explain(self) -> str:
        """One sentence: how it ended and, where it ended by itself, what its log calls an error."""
        meaning = _MEANINGS.get(self.code)
        if self.by_signal and self.code != -6:  # an abort tells why in its log
            return f"llama-server was ended by signal {-self.code}" + (f" ({meaning})" if meaning else "")
        if meaning:
            return f"llama-server ended with {self.code:#x} ({meaning})"
        errors = [line for line in self.log_tail if " E " in line or "error" in line.lower()]
        lines = " | ".join((errors or list(self.log_tail))[-3:])
        how = "aborted" if self.code == -6 else f"ended with exit code {self.code}"
        return f"llama-server {how}" + (f": {lines}" if lines else "")


class Child(Protocol):
    """A started llama-server."""

    address: Address
    ready: asyncio.Future[float]  # milliseconds from spawn to ready; LaunchFailed otherwise
    gone: asyncio.Future[Gone]

    @property
    def pid(self) -> int | None: ...

    async def stop(self, patience_s: float = 5.0) -> Gone:
        """End it: ask, then SIGTERM, then SIGKILL; returns once it is reaped."""
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """A machine that can run instances: MiB that may be planned on each device (`gpu0`, ..., `host`)."""

    name: str
    capacity_mib: Mapping[str, int]


OnProgress = Callable[[str, float], None]  # stage name, share of the load done


class Backend(Protocol):
    """Where instances run."""

    def boxes(self) -> Sequence[Box]: ...

    async def launch(self, box: Box, spec: LaunchSpec, on_progress: OnProgress) -> Child:
        """Start a child; it is not ready yet. Raises LaunchFailed."""
        ...
