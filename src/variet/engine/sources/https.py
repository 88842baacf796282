"""Model files from a web server, resumed where an earlier download broke off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from variet.engine.config import FileSpec
from variet.engine.sources.base import OnBytes
from variet.errors import PullFailed

_CHUNK = 1 << 20
_TRIES = 5


class HttpsSource:
    """`https://...`; plain http is accepted for loopback only (the configuration checks that)."""

    async def fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            for attempt in range(1, _TRIES + 1):
                try:
                    await self._once(session, spec.source, part, on_bytes)
                    return None
                except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                    if attempt == _TRIES:
                        raise PullFailed(
                            f"the download broke off {_TRIES} times: {error or type(error).__name__}",
                            where=spec.source,
                            next_step="Check the network and pull again; what is there already is kept",
                        ) from None
                    await asyncio.sleep(min(2**attempt, 15) / 4)
        return None

    async def _once(self, session: aiohttp.ClientSession, url: str, part: Path, on_bytes: OnBytes) -> None:
        origin = part.with_name(f"{part.name}.origin")  # what the partial file is a part of
        known = origin.read_text(encoding="utf-8").splitlines() if origin.exists() else []
        have = part.stat().st_size if part.exists() and len(known) == 2 and known[0] == url else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": known[1]}
        async with session.get(url, headers=headers) as answer:
            if answer.status == 416:
                if answer.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return  # it was whole already; its checksum is still to be seen
                part.unlink()
                raise aiohttp.ClientPayloadError("the partial file did not match")
            if answer.status not in (200, 206):
                raise PullFailed(f"the server answered {answer.status}", where=url, next_step="Check the address")
            resumed = answer.status == 206
            have = have if resumed else 0
            total = have + answer.content_length if answer.content_length is not None else None
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if validator and not validator.startswith("W/"):
                origin.write_text(f"{url}\n{validator}", encoding="utf-8")
            else:
                origin.unlink(missing_ok=True)  # without a validator nothing is resumed
            with part.open("ab" if resumed else "wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    on_bytes(have, total)
            if total is not None and have < total:
                raise aiohttp.ClientPayloadError("the connection closed early")
