"""Pure: what a person should know of this system before blaming the models. Each with what helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caveat:
    what: str
    detail: str
    mend: str


@dataclass(frozen=True, slots=True)
class System:
    """`platform`: sys.platform; `release`: the kernel's; `driver_models`: of each NVIDIA GPU, on Windows only."""

    platform: str
    release: str
    driver_models: Sequence[str] = ()
    host_mib: int = 0

    @property
    def wsl(self) -> bool:
        return self.platform.startswith("linux") and "microsoft" in self.release.lower()


def caveats(system: System, wanted_host_mib: int = 0) -> list[Caveat]:
    """`wanted_host_mib`: what the hungriest configured model takes of the host."""
    found: list[Caveat] = []
    if "WDDM" in system.driver_models:
        found.append(
            Caveat(
                "NVIDIA driver model",
                "WDDM: a GPU whose memory is full spills over to the host without an error, ten times slower, and "
                "tells nothing of single processes; the engine counts what the device has free",
                "NVIDIA Control Panel, Manage 3D settings: set CUDA - Sysmem Fallback Policy to Prefer No Sysmem "
                "Fallback",
            )
        )
    if system.wsl:
        found.append(
            Caveat(
                "WSL",
                f"this Linux sees {system.host_mib:,} MiB, by default half of what Windows has; its own network is not "
                "the LAN's; files under /mnt/c load slowly",
                "in %UserProfile%\\.wslconfig set [wsl2] memory=... and networkingMode=mirrored, keep models in the "
                "Linux file system, then `wsl --shutdown`",
            )
        )
        if wanted_host_mib > system.host_mib:
            found.append(
                Caveat(
                    "WSL memory",
                    f"a model wants {wanted_host_mib:,} MiB of host memory, WSL has {system.host_mib:,}",
                    f"set memory={wanted_host_mib // 1024 + 4}GB in .wslconfig, or run the engine on Windows itself",
                )
            )
    return found
