"""Which addresses are private, which are this machine's, and how others would write them."""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT, where overlay networks such as Tailscale live
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip


@functools.lru_cache(maxsize=1024)  # asked for every request
def is_private(address: str) -> bool:
    """An address of `PRIVATE_NETWORKS`; IPv4 inside IPv6 counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in PRIVATE_NETWORKS if network.version == parsed.version)


@functools.lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"


@dataclass(frozen=True, slots=True)
class Names:
    """What a server certificate answers to."""

    dns: frozenset[str]
    addresses: frozenset[str]


def names_here(host: str, further: Iterable[str]) -> Names:
    """All names and private addresses of this machine when it listens everywhere, else those of `host`."""
    own = socket.gethostname().lower()
    dns = {"localhost", own, f"{own.partition('.')[0]}.local", *(name.lower() for name in further)}
    addresses = {"127.0.0.1", "::1"}
    if host in ("0.0.0.0", "::"):
        for interface in psutil.net_if_addrs().values():
            addresses |= {one.address.partition("%")[0] for one in interface if is_private(one.address)}
    else:
        addresses.add(host.partition("%")[0])
    return Names(
        frozenset(name for name in dns if not _is_address(name)),
        frozenset(addresses | {name for name in dns if _is_address(name)}),
    )


def reachable(host: str, port: int, *, secure: bool) -> tuple[str, ...]:
    """The addresses of this engine as other machines would write them; this machine's own first where it has one."""
    hosts = [host]
    if host in ("0.0.0.0", "::"):
        found = names_here(host, ()).addresses
        lan = sorted(one for one in found if not is_loopback(one) and not one.startswith("fe80:"))
        hosts = [one for one in lan if host == "::" or ":" not in one] or ["127.0.0.1"]
    return tuple(_url(one, port, secure) for one in hosts)


def local_url(host: str, port: int, *, secure: bool) -> str:
    """How this machine's own commands reach the engine: over loopback wherever it listens there."""
    return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, secure)


def _url(host: str, port: int, secure: bool) -> str:
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
