"""One page from the web, at arm's length: each address is looked up once, refused unless it is public, and connected to
as it was looked up, again at each redirect; what comes is limited in size, kind and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx
import webencodings

from variet.assistant.problems import ToolProblem
from variet.assistant.search.addresses import chosen, target

_MOST_BYTES = 3 * 1024 * 1024
_MOST_REDIRECTS = 5
_CONNECT_S, _READ_S, _WHOLE_S = 10.0, 15.0, 40.0
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = ("text/", "application/json", "application/xml", "application/ld+json", "application/rss+xml",
         "application/atom+xml", "application/javascript", "application/x-yaml", "application/toml")  # fmt: skip
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.9,text/markdown;q=0.9,application/json;q=0.8,*/*;q=0.1"
_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
_AGENT = "Mozilla/5.0 (compatible; Variet/0.1; a person's own reader)"


@dataclass(frozen=True, slots=True)
class Fetched:
    """`url`: where it came from in the end; `html`: whether it is; `cut`: more was there."""

    url: str
    text: str
    html: bool
    cut: bool


class Fetcher:
    """`allowed`: `host:port` of what may be private."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._allowed = frozenset(allowed)
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=0)  # kept ones would skip the look-up
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def get(self, url: str, *, of: str = "") -> Fetched:
        """`of`: the page that names it, as its style sheet. Raises ToolProblem."""
        try:
            async with asyncio.timeout(_WHOLE_S):
                return await self._followed(url, of or url)
        except TimeoutError:
            raise ToolProblem("timeout", f"{url[:200]} took longer than {_WHOLE_S:.0f} s") from None

    async def close(self) -> None:
        await self._transport.aclose()

    async def _followed(self, url: str, first: str) -> Fetched:
        host, port, _ = target(first)
        # A private host is allowed as the first address alone: neither a public page nor a private page leads there.
        allowed = self._allowed & {f"{host}:{port}"}
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._asked(url, allowed)
            try:
                if not answer.is_redirect:
                    return await _read(url, answer)
                url = _next(url, answer.headers.get("location", ""))
            finally:
                await answer.aclose()
        raise ToolProblem("unavailable", f"it redirects more than {_MOST_REDIRECTS} times")

    async def _asked(self, url: str, allowed: frozenset[str]) -> httpx.Response:
        host, port, tls = target(url)
        address = chosen(host, port, await _looked_up(host, port), allowed)
        try:
            where = httpx.URL(url)
            sent = where.copy_with(host=address, port=port, fragment=None)
        except httpx.InvalidURL as error:
            raise ToolProblem("bad_request", f"not an address of a web page: {error}") from None
        request = httpx.Request(
            "GET", sent,
            headers={
                "host": where.netloc.decode("ascii"), "accept": _ACCEPT, "user-agent": _AGENT,
                "accept-encoding": "gzip, deflate", "accept-language": "en, *;q=0.5",
            },
            extensions={
                "timeout": {"connect": _CONNECT_S, "read": _READ_S, "write": _READ_S, "pool": _WHOLE_S},
                **({"sni_hostname": host} if tls else {}),  # the certificate is to be the name's
            },
        )  # fmt: skip
        try:
            return await self._transport.handle_async_request(request)
        except httpx.TimeoutException:
            raise ToolProblem("timeout", f"{host} does not answer") from None
        except httpx.HTTPError as error:
            raise ToolProblem("unavailable", f"{host} cannot be read: {error or type(error).__name__}") from None


def _next(url: str, location: str) -> str:
    try:
        return urljoin(url, location.strip()).replace(" ", "%20")
    except ValueError:
        raise ToolProblem("unavailable", f"it redirects to what is no address: {location[:200]}") from None


async def _looked_up(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(one[4][0]) for one in found]


async def _read(url: str, answer: httpx.Response) -> Fetched:
    if answer.status_code == 404 or answer.status_code == 410:
        raise ToolProblem("not_found", f"there is no such page (HTTP {answer.status_code})")
    if answer.status_code == 429:
        wait = answer.headers.get("retry-after", "")
        raise ToolProblem("rate_limited", "the site wants fewer requests", f"Wait {wait} s" if wait.isdecimal() else "")
    if answer.status_code >= 400:
        raise ToolProblem("unavailable", f"the site refused (HTTP {answer.status_code})")
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    html = kind in _HTML or not kind
    if not html and not kind.startswith(_TEXT):
        raise ToolProblem("unsupported_type", f"it is no text: {kind}")
    inflate = _Inflate(answer.headers.get("content-encoding", ""))
    held = bytearray()
    cut, came = False, 0
    try:
        async for part in answer.aiter_raw():
            came += len(part)
            held += await asyncio.to_thread(inflate.feed, part, _MOST_BYTES + 1 - len(held))
            if len(held) > _MOST_BYTES or came > _MOST_BYTES:
                cut = True
                break
    except zlib.error:
        raise ToolProblem("unavailable", "it is not packed as it says") from None
    except httpx.TimeoutException:
        raise ToolProblem("timeout", "it stopped in the middle") from None
    except httpx.HTTPError as error:
        raise ToolProblem("unavailable", f"it broke off: {error or type(error).__name__}") from None
    data = bytes(held[:_MOST_BYTES])
    return Fetched(url, _decoded(data, answer.charset_encoding), html, cut)


class _Inflate:
    """One coding of a body, unpacked piece by piece. Raises ToolProblem for any other, or for several: what is packed
    twice may be a thousand times a thousand times as large."""

    def __init__(self, coding: str) -> None:
        coding = coding.strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ToolProblem("unsupported_type", f"it is packed in a way that was not asked for: {coding[:40]}")
        self._raw = coding in ("", "identity")
        self._deflate = coding == "deflate"
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS if self._deflate else zlib.MAX_WBITS | 16)
        self._begun = False

    def feed(self, part: bytes, most: int) -> bytes:
        """What becomes of it, so many bytes at most. Raises zlib.error."""
        if self._raw:
            return part[:most]
        try:
            out = self._unpack.decompress(self._unpack.unconsumed_tail + part, most)
        except zlib.error:
            if not self._deflate or self._begun:
                raise
            self._unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # many servers leave zlib's own head out
            out = self._unpack.decompress(part, most)
        self._begun = True
        return out


def _decoded(data: bytes, named: str | None) -> str:
    """By a byte order mark, the header, the page's own words, else UTF-8, else as old pages are. What is cut within a
    character loses it."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    own = _CHARSET.search(data[:4096])
    for name in (named, own[1].decode() if own else None, "utf-8"):
        # Encodings of texts, as browsers know them: Python has more, and `bz2` among them unpacks bombs.
        known = webencodings.lookup(name) if name else None
        if known is not None:
            with contextlib.suppress(UnicodeError):
                return str(known.codec_info.incrementaldecoder().decode(data))
    return data.decode("cp1252", errors="replace")
