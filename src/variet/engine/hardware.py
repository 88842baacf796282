"""What this machine has: GPUs (VRAM, PCIe generation and width), host memory. Asks NVML and psutil; decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from variet.engine.config import HardwareConfig

_MIB = 1 << 20
# MiB/s that one PCIe lane carries in practice (about 80% of its raw rate), by generation.
_LANE_MIB_PER_S = {1: 200, 2: 400, 3: 790, 4: 1580, 5: 3150, 6: 6300, 7: 12600}
_BACK_POLL_S = 0.05
_BACK_WAIT_S = 5.0
_MOST_BACK = 0.7  # of what was planned: a plan may be too high by a tenth, and others use the card, too
_STILL_POLLS = 6  # without a change after a rise, where the free memory of before is not known
_PATIENT_POLLS = 20  # the same before any rise, and where less came back than was planned
_SETTLED_MIB = 16


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; `free_mib` as seen before the engine started anything."""

    index: int
    name: str
    vram_mib: int
    free_mib: int
    pcie_generation: int
    pcie_lanes: int

    @property
    def device(self) -> str:
        return f"gpu{self.index}"

    @property
    def link_mib_per_s(self) -> int:
        return _LANE_MIB_PER_S[self.pcie_generation] * self.pcie_lanes


FreeVram = Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as a plan sees it. `free_vram` asks the GPUs again; None where there are none to ask."""

    gpus: tuple[Gpu, ...]
    host_mib: int
    host_available_mib: int
    disk_read_mib_per_s: float
    origin: Literal["detected", "described"]
    free_vram: FreeVram | None = field(default=None, compare=False)

    def watch_vram(self, demand: Mapping[str, int], *, gone: bool) -> Callable[[], Awaitable[None]]:
        """To be called before a stop; what it returns waits, after the stop, until the VRAM is back: most of `demand`
        on each of its devices, five seconds at most. The driver gives memory back some time after the process is gone.

        `gone`: the process ended by itself, and nobody saw how much was free before: then until it no longer rises.
        """
        devices = [device for device, amount in demand.items() if device.startswith("gpu") and amount > 0]
        free = self.free_vram
        before = free() if free is not None and devices and not gone else None

        async def back() -> None:
            if free is None or not devices:
                return
            last, still, risen = free(), 0, False
            for _ in range(int(_BACK_WAIT_S / _BACK_POLL_S)):
                if before is not None and all(
                    last.get(device, 0) - before.get(device, 0) >= demand[device] * _MOST_BACK for device in devices
                ):
                    return
                await asyncio.sleep(_BACK_POLL_S)
                now = free()
                rises = any(now.get(device, 0) - last.get(device, 0) >= _SETTLED_MIB for device in devices)
                last, still, risen = now, 0 if rises else still + 1, risen or rises
                patience = _STILL_POLLS if risen and before is None else _PATIENT_POLLS
                if still >= patience and (risen or before is None):
                    return

        return back


def detect(described: HardwareConfig) -> Hardware:
    """Ask the machine; where it has no GPU that can be asked, what the configuration describes counts."""
    gpus = _nvidia_gpus()
    total, available = _host_memory()
    if described.host_memory_mib is not None:
        total, available = min(total, described.host_memory_mib), min(available, described.host_memory_mib)
    if not gpus and described.gpus:
        return replace(describe(described), host_mib=total, host_available_mib=available)
    return Hardware(gpus, total, available, described.disk_read_mib_per_s, "detected", _free_vram if gpus else None)


def describe(described: HardwareConfig) -> Hardware:
    """The machine that the configuration describes: for a plan made elsewhere, or before the machine stands."""
    gpus = tuple(
        Gpu(index, one.name, one.vram_mib, one.vram_mib, one.pcie_generation, one.pcie_lanes)
        for index, one in enumerate(described.gpus or ())
    )
    host = described.host_memory_mib or _host_memory()[0]
    return Hardware(gpus, host, host, described.disk_read_mib_per_s, "described")


def _host_memory() -> tuple[int, int]:
    """(total, available) MiB; a container's own limit counts."""
    memory = psutil.virtual_memory()
    total, available = memory.total // _MIB, memory.available // _MIB
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text()) // _MIB
        used = int(Path("/sys/fs/cgroup/memory.current").read_text()) // _MIB
        total, available = min(total, limit), min(available, max(0, limit - used))
    return total, available


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, or None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _nvidia_gpus() -> tuple[Gpu, ...]:
    with _nvml() as nvml:
        if nvml is None:
            return ()
        gpus = []
        for order in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(order)  # PCI order, as children see them (CUDA_DEVICE_ORDER)
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            except nvml.NVMLError:
                continue  # a device without memory of its own to plan
            name = nvml.nvmlDeviceGetName(handle)
            # An idle link runs at a lower rate: the largest generation and width count.
            generation, lanes = 3, 16
            with contextlib.suppress(nvml.NVMLError):
                generation = int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle))
                lanes = int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle))
            gpus.append(
                Gpu(order, name if isinstance(name, str) else name.decode(), memory.total // _MIB, memory.free // _MIB,
                    min(max(generation, 1), 7), min(max(lanes, 1), 16))
            )  # fmt: skip
        return tuple(gpus)


def driver_models() -> tuple[str, ...]:
    """WDDM, TCC or MCDM for each NVIDIA GPU; empty where drivers have no models, which is everywhere but on Windows."""
    names = {0: "WDDM", 1: "TCC", 2: "MCDM"}  # nvmlDriverModel_t
    models = []
    with _nvml() as nvml:
        for order in range(nvml.nvmlDeviceGetCount() if nvml else 0):
            with contextlib.suppress(nvml.NVMLError):
                current = nvml.nvmlDeviceGetCurrentDriverModel(nvml.nvmlDeviceGetHandleByIndex(order))
                models.append(names.get(int(current), "unknown"))
    return tuple(models)


def _free_vram() -> Mapping[str, int]:
    with _nvml() as nvml:
        if nvml is None:
            return {}
        count = nvml.nvmlDeviceGetCount()
        handles = [nvml.nvmlDeviceGetHandleByIndex(order) for order in range(count)]
        return {f"gpu{order}": nvml.nvmlDeviceGetMemoryInfo(one).free // _MIB for order, one in enumerate(handles)}
