"""Pure: how long a sign-in lasts, as far as anybody can know it here.

Google ends those of an app whose publishing status is Testing after seven days
(https://developers.google.com/identity/protocols/oauth2#expiration), and at times says so when it gives one
(`refresh_token_expires_in`). Nothing else tells which status an app has.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

_TESTING_S = 7 * 86_400.0


class Lasting(NamedTuple):
    """`doubtful`: it may end soon; `over`: it has ended."""

    words: str
    doubtful: bool
    over: bool = False


def lasting(since_s: float | None, ends_s: float | None, now_s: float) -> Lasting:
    """`since_s`, `ends_s`: seconds since 1970; None where that is not known."""
    if ends_s is not None:
        over = ends_s <= now_s
        return Lasting(f"Google {'ended' if over else 'ends'} it on {_day(ends_s)}", not over, over)
    if since_s is None:
        return Lasting("nobody knows since when", False)
    if now_s - since_s > _TESTING_S:
        return Lasting(f"since {_day(since_s)}: longer than an app in Testing is let, so it lasts", False)
    end = _day(since_s + _TESTING_S)
    return Lasting(f"since {_day(since_s)}; if its app is still in Testing, Google ends it on {end}", True)


def _day(at_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%A, %Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return "a day beyond all calendars"
