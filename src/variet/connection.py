"""Which engine this machine talks to, with which key, and whom it trusts for that.

In this order: VARIET_ENGINE_URL, the engine this machine was paired with, the one that runs here, port 8000 here.
VARIET_API_KEY and VARIET_ENGINE_CA (a PEM file) override what was stored.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from variet import paths
from variet.errors import ConnectionFailed, TrustError, VarietError

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Connection:
    """An engine's address, the key for it, and the PEM file of the one authority trusted there (None: the system's).
    `key_lasts`: it is valid beyond this run of the engine."""

    url: str
    key: str | None = None
    authority: Path | None = None
    key_lasts: bool = True

    def tls(self) -> ssl.SSLContext | bool:
        """What an HTTP client verifies with. Raises TrustError for an authority that cannot be read."""
        if self.authority is None or not self.url.startswith("https:"):
            return True
        try:
            return ssl.create_default_context(cafile=str(self.authority))
        except (OSError, ssl.SSLError) as error:
            raise TrustError(
                f"cannot be used as an authority: {error}",
                where=str(self.authority),
                next_step="Pair again with `variet pair URL CODE`, or set VARIET_ENGINE_CA to a PEM file",
            ) from None

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


def find() -> Connection:
    """Raises TrustError where a stored file is damaged."""
    paired, running = _read(_paired_file()), _read(_running_file())
    url = (os.environ.get("VARIET_ENGINE_URL") or paired.get("url") or running.get("url") or DEFAULT_URL).rstrip("/")
    stored = next((one for one in (paired, running) if one.get("url") == url), {})
    authority = os.environ.get("VARIET_ENGINE_CA") or stored.get("authority")
    given = os.environ.get("VARIET_API_KEY")
    lasts = bool(given) or stored is not running
    return Connection(url, given or stored.get("key"), Path(authority) if authority else None, lasts)


def key_of(url: str) -> str | None:
    """The key for the engine at an address; None where it wants none. Raises TrustError where this machine does not
    know that engine."""
    found = find()
    if found.url == url:
        return found.key
    known = next((one for one in (_read(_paired_file()), _read(_running_file())) if one.get("url") == url), None)
    if known is None:
        raise TrustError(
            "this machine has no key for it",
            where=url,
            next_step="Pair with it: variet pair URL CODE, and connect again",
        )
    return known.get("key")


def save_pairing(url: str, key: str, authority_pem: str) -> Path:
    """Remember the engine of this machine; returns the file, readable by its owner only."""
    folder = paths.private_dir(paths.config_dir())
    authority = folder / "engine-authority.pem"
    if authority_pem:
        paths.write_whole(authority, authority_pem)
    _remember(_paired_file(), url, key, authority if authority_pem else None)
    return _paired_file()


def paired() -> bool:
    """Whether this machine uses an engine by pairing."""
    return _paired_file().is_file()


def forget_pairing() -> bool:
    """Whether there was one."""
    known = _paired_file().is_file()
    for path in (_paired_file(), paths.config_dir() / "engine-authority.pem"):
        path.unlink(missing_ok=True)
    return known


def announce(url: str, key: str, authority: Path | None) -> None:
    """Tell the commands of this user on this machine where the engine runs; `key` is valid for this run only."""
    paths.private_dir(paths.state_dir())
    _remember(_running_file(), url, key, authority)


def withdraw(url: str) -> None:
    """Undo `announce`, unless another engine announced itself since."""
    if _read(_running_file()).get("url") == url:
        _running_file().unlink(missing_ok=True)


def unreachable(url: str, error: Exception) -> VarietError:
    """Why no engine answers, and what to do about it."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return TrustError(
            "its certificate is not the one this machine trusts",
            where=url,
            next_step="Pair with it (`variet pair` there, `variet pair URL CODE` here), or set VARIET_ENGINE_CA",
        )
    if not url.startswith(("http://", "https://")):
        return ConnectionFailed("is no address of an engine", where=url, next_step=f"Write http://{url}")
    if "WRONG_VERSION_NUMBER" in text:
        return ConnectionFailed("speaks plain HTTP there", where=url, next_step="Write http:// instead of https://")
    if "disconnected without sending" in text and url.startswith("http:"):
        return ConnectionFailed("closed the connection", where=url, next_step="An engine on the LAN speaks https://")
    return ConnectionFailed(
        f"no engine answers ({error})",
        where=url,
        next_step="Start one (`variet up`), pair with one (`variet pair URL CODE`), or set VARIET_ENGINE_URL",
    )


def _paired_file() -> Path:
    return paths.config_dir() / "engine.json"


def _running_file() -> Path:
    return paths.state_dir() / "running.json"


def _remember(path: Path, url: str, key: str, authority: Path | None) -> None:
    stored = {"url": url, "key": key, "authority": str(authority) if authority else None}
    paths.write_whole(path, json.dumps(stored, indent=1), 0o600)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TrustError(f"cannot be read: {error}", where=str(path), next_step="Remove it, and pair again") from None
    return stored if isinstance(stored, dict) else {}
