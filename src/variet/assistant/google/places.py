"""Where Google is. `VARIET_GOOGLE_URL` names another place on this machine, for tests; nothing else is obeyed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from variet.errors import TrustError


@dataclass(frozen=True, slots=True)
class Places:
    consent: str = "https://accounts.google.com/o/oauth2/v2/auth"
    token: str = "https://oauth2.googleapis.com/token"
    revoke: str = "https://oauth2.googleapis.com/revoke"
    gmail: str = "https://gmail.googleapis.com"
    calendar: str = "https://www.googleapis.com"


def places() -> Places:
    """Raises TrustError where the variable names anything but loopback: tokens would go there."""
    base = os.environ.get("VARIET_GOOGLE_URL", "").rstrip("/")
    if not base:
        return Places()
    try:
        loopback = ip_address(urlsplit(base).hostname or "").is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise TrustError("VARIET_GOOGLE_URL is for tests, and names an address of this machine alone")
    return Places(f"{base}/o/oauth2/v2/auth", f"{base}/token", f"{base}/revoke", base, base)
