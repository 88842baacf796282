"""What is asked of Google: two sign-ins, by two OAuth clients, so that what reads can never write.

Revoking a token ends its client's whole grant, and a client that was granted more may hand out more: one client for
both would make the reading one's tokens write. https://developers.google.com/identity/protocols/oauth2/scopes
"""

from __future__ import annotations

from typing import Literal

Purpose = Literal["read", "write"]
PURPOSES: tuple[Purpose, ...] = ("read", "write")
_BASE = "https://www.googleapis.com/auth/"
# Of writing mail: there is no scope for drafts, labels and sending but the one that reads, too.
ASKED: dict[Purpose, dict[str, str]] = {
    "read": {"mail": f"{_BASE}gmail.readonly", "calendar": f"{_BASE}calendar.readonly"},
    "write": {"mail": f"{_BASE}gmail.modify", "calendar": f"{_BASE}calendar.events"},
}
_READING = frozenset({*ASKED["read"].values(), "openid", f"{_BASE}userinfo.email", f"{_BASE}userinfo.profile"})


def services(purpose: Purpose, granted: frozenset[str]) -> frozenset[str]:
    """`mail`, `calendar`: for what a grant is enough."""
    return frozenset(service for service, scope in ASKED[purpose].items() if scope in granted)


def excess(purpose: Purpose, granted: frozenset[str]) -> frozenset[str]:
    """What a reading grant holds that could write."""
    return granted - _READING if purpose == "read" else frozenset()
