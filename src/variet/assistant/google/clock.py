"""How far this machine's clock is from Google's: "tomorrow" is another day where it is wrong, and connections fail."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx

from variet.assistant.google.places import places

_TIMEOUT_S = 10.0


async def ahead_s() -> float | None:
    """Seconds, to about one; None where Google does not say. Of any answer: its Date header (RFC 9110, 6.6.1)."""
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
        before_s = time.time()
        try:
            answer = await http.head(places().token)
            told_s = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (httpx.HTTPError, KeyError, ValueError):
            return None
    return (before_s + time.time()) / 2 - told_s
