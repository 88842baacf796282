"""Pure: which addresses a page may be fetched from. What is not public is somebody's router, cloud or engine.

https://www.iana.org/assignments/iana-ipv4-special-registry and its sibling for IPv6, by Python's `ipaddress`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from variet.assistant.problems import ToolProblem

# Not public either, though not every version of `ipaddress` says so.
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address stands in its end
_PORTS = {"http": 80, "https": 443}
_LEAST_PORT = 1024  # below it, other services than the web listen
_MOST_CHARS = 2_000


def target(url: str) -> tuple[str, int, bool]:
    """(host, port, over TLS) of an address that may be asked for. Raises ToolProblem."""
    if len(url) > _MOST_CHARS:
        raise ToolProblem("bad_request", f"an address has at most {_MOST_CHARS:,} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = parts = None
    # Blanks of any kind: some readers drop them, and then two addresses are the same for them, but not for the site.
    if (
        parts is None
        or any(one.isspace() or not one.isprintable() for one in url)
        or parts.scheme not in _PORTS
        or not host
    ):
        raise ToolProblem(
            "bad_request", f"not an address of a web page: {url[:200]}", "Give one with http:// or https://"
        )
    if parts.username is not None or parts.password is not None:
        raise ToolProblem("forbidden_address", "an address with a user name in it is not asked for")
    port = port or _PORTS[parts.scheme]
    if port < _LEAST_PORT and port not in _PORTS.values():
        raise ToolProblem("forbidden_address", f"port {port} is no web server's")
    return host, port, parts.scheme == "https"


def literal(url: str, allowed: Collection[str] = ()) -> None:
    """Raises ToolProblem where an address is refused by its looks alone: no name is looked up for that."""
    host, port, _ = target(url)
    if host == "localhost" or host.replace(".", "").isdecimal() or ":" in host:
        chosen(host, port, ["127.0.0.1" if host == "localhost" else host], allowed)


def chosen(host: str, port: int, found: Sequence[str], allowed: Collection[str] = ()) -> str:
    """The address to connect to, of those that a name has. `allowed`: `host:port` of what may be private. One that is
    not public forbids them all: a name that has both is a trick. Raises ToolProblem."""
    if not found:
        raise ToolProblem("not_found", f"there is no host {host}")
    if f"{host}:{port}" not in allowed:
        for one in found:
            if not public(one):
                raise ToolProblem(
                    "forbidden_address", f"{host} is not on the public internet",
                    "If it is yours, name it under search.allow in assistant.json",
                )  # fmt: skip
    return found[0]


def public(text: str) -> bool:
    """Whether an address is on the public internet, whatever it is wrapped in."""
    try:
        address = ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    return all(
        one.is_global and not one.is_multicast and not one.is_reserved and not any(one in net for net in _SPECIAL)
        for one in _unwrapped(address)
    )


def _unwrapped(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(address, IPv4Address):
        return [address]
    inner: list[IPv4Address | IPv6Address] = []
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner += address.teredo
    return [address, *inner]
