"""Who may talk to this engine: private addresses only, known hosts and origins, API keys with an optional admin scope.

Keys are 256 random bits, so a plain SHA-256 is a safe hash for them: there is nothing to guess from a dictionary.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from variet import paths
from variet.engine import apis
from variet.engine.addresses import is_loopback, is_private
from variet.engine.problems import Problem
from variet.errors import TrustError

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
log = logging.getLogger("variet.engine.trust")
_KEYS_UNREADABLE = Problem(500, "keys_unreadable", "the engine's key file cannot be read; its log says more")
FRESH_S = 0.2
_PREFIX = "vk_"
_ONCE = frozenset({b"host", b"origin", b"authorization", b"x-api-key"})
# The dashboard's page is the same everywhere and tells nothing; what it shows it has to ask for, with a key.
_OPEN_PATHS = frozenset({"/", "/health", "/v1/health", "/engine/pairing/hello", "/engine/pairing/finish"})
_OPEN_BELOW = "/engine/page/"


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    sha256: str
    admin: bool
    created: int


class KeyStore:
    """Keys by hash, in one file of mode 0600; a change on disk is seen in `FRESH_S`, and before a key is refused."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.config_dir() / "keys.json"
        self._seen: int | None = -1
        self._looked = -math.inf
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        self._refresh(at_once=True)
        return list(self._keys.values())

    def is_empty(self) -> bool:
        self._refresh()
        return not self._keys

    def add(self, name: str, *, admin: bool) -> str:
        """Create a key and return it: the only time it is ever shown. Raises TrustError for a name in use."""
        if not name.strip():
            raise TrustError("a key needs a name", next_step="Name it after who will use it: `variet key add laptop`")
        if any(key.name == name for key in self.all()):
            raise TrustError(f"there is a key named {name!r} already", next_step=f"`variet key remove {name}` first")
        key = _PREFIX + secrets.token_urlsafe(32)
        self._write([*self.all(), Key(name, _digest(key), admin, int(time.time()))])
        return key

    def remove(self, name: str) -> None:
        kept = [key for key in self.all() if key.name != name]
        if len(kept) == len(self.all()):
            raise TrustError(f"there is no key named {name!r}", next_step="`variet key list` shows those there are")
        self._write(kept)

    def find(self, presented: str) -> Key | None:
        digest = _digest(presented)
        self._refresh()
        if digest not in self._keys:
            self._refresh(at_once=True)
        return self._keys.get(digest)

    def _refresh(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._looked < FRESH_S:
            return
        self._looked = -math.inf  # a file that cannot be read keeps everybody out, at each request
        try:
            stamp: int | None = os.stat(self.path).st_mtime_ns  # noqa: PTH116 - a third of Path.stat
        except FileNotFoundError:
            stamp = None
        if stamp == self._seen:
            self._looked = now
            return
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8")) if stamp is not None else []
            self._keys = {row["sha256"]: Key(**row) for row in rows}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrustError(
                f"cannot be read: {error}", where=str(self.path), next_step="Restore or remove it"
            ) from None
        self._seen, self._looked = stamp, now

    def _write(self, keys: Iterable[Key]) -> None:
        paths.private_dir(self.path.parent)
        paths.write_whole(self.path, json.dumps([asdict(key) for key in keys], indent=1), 0o600)
        self._seen, self._looked = -1, -math.inf


def check_binding(host: str, store: KeyStore) -> None:
    """Refuse to listen where a stranger could ask. Raises TrustError with what to do instead."""
    if is_loopback(host):
        return
    everywhere = host in ("0.0.0.0", "::")
    if not everywhere and not is_private(host):
        raise TrustError(
            "is a public address (or a name); the engine listens on private ones only",
            where=host,
            next_step="Use 127.0.0.1, or this machine's LAN address",
        )
    if not store.all():
        raise TrustError(
            "listening beyond this machine needs an API key",
            where=host,
            next_step="Make one with `variet key add NAME` (it is shown once), then start again",
        )


class Guard:
    """ASGI: lets a request through, or answers it with the reason why not."""

    def __init__(
        self,
        app: App,
        store: KeyStore,
        hosts: Iterable[str],
        origin_allowed: Callable[[str], bool],
        local_key: str | None = None,
        on_refused: Callable[[str, Problem], None] = lambda path, problem: None,
    ) -> None:
        """`hosts`: the names that this engine is called by, beside private addresses. `local_key`: an admin key of this
        run alone, for commands of the same user on the same machine."""
        self._app = app
        self._store = store
        self._local = Key("this machine", _digest(local_key), True, 0) if local_key else None
        here = socket.gethostname().lower()
        own = {"localhost", here, f"{here.partition('.')[0]}.local"}
        self._hosts = {host.lower().rstrip(".") for host in hosts} | own
        self._origin_allowed = origin_allowed
        self._on_refused = on_refused

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except (Problem, TrustError) as refusal:
                problem = refusal if isinstance(refusal, Problem) else _KEYS_UNREADABLE
                if problem is _KEYS_UNREADABLE:
                    log.error("%s", refusal)  # where and why is for the owner, not for whoever asks
                self._on_refused(scope["path"], problem)
                body = problem.body(apis.family_of(scope["path"]))
                headers = [*problem.headers(), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
                await send({"type": "http.response.start", "status": problem.status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self._app(scope, receive, send)

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        peer = (scope.get("client") or ("127.0.0.1", 0))[0]
        if not is_private(peer):
            raise Problem(403, "public_address", f"{peer} is no private address; this engine answers private ones only")
        single = [name for name, _ in scope["headers"] if name in _ONCE]
        if len(single) != len(set(single)):  # which of them counts would be a guess (RFC 9112, 3.2)
            raise Problem(400, "repeated_header", "a request has one Host, one Origin and one key at most")
        host = _host_of(headers.get(b"host", b""))
        if host not in self._hosts and not is_private(host):
            raise Problem(403, "unknown_host", f"this engine is not called {host!r}; add it to $.server.hosts if it is")
        if b"origin" in headers or b"sec-fetch-site" in headers:
            self._check_page(scope, headers)
        if scope["path"] in _OPEN_PATHS or scope["path"].startswith(_OPEN_BELOW):
            return
        if self._store.is_empty() and is_loopback(peer):
            return  # beyond this machine a key is always needed, also once the last one was removed
        presented = headers.get(b"x-api-key", b"").decode("latin-1")
        scheme, _, bearer = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            presented = bearer.strip()
        here = is_loopback(peer) or peer == (scope.get("server") or ("", 0))[0]
        key = self._find(presented, here) if presented else None
        if key is None:
            words = (
                "this API key is not known here" if presented else "an API key is needed (Authorization: Bearer ...)"
            )
            raise Problem(401, "invalid_api_key", f"{words}; the engine's owner makes one with `variet key add NAME`")
        if needs_admin(scope["method"], scope["path"]) and not key.admin:
            raise Problem(403, "admin_needed", f"key {key.name!r} may ask models, not change the engine")

    def _check_page(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        """Pages that a browser of this network shows: the engine's own, and those of `cors_origins`, may ask. Others
        may be led here by a link, and no more: an image or a script tag sends no Origin, a form need not either."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin:
            if not self._own_page(origin, scope, headers) and not self._origin_allowed(origin):
                text = f"pages of {origin} may not call this engine; see $.server.cors_origins"
                raise Problem(403, "unknown_origin", text)
            return
        site = headers.get(b"sec-fetch-site", b"none")
        followed = scope["method"] in ("GET", "HEAD") and headers.get(b"sec-fetch-mode") == b"navigate"
        is_page = scope["path"] in (*_OPEN_PATHS, "/engine/docs") or scope["path"].startswith(_OPEN_BELOW)
        if site not in (b"same-origin", b"none") and not (followed and is_page):
            raise Problem(403, "unknown_origin", "pages of other sites may not call this engine")

    def _own_page(self, origin: str, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        return origin.lower() == f"{scope.get('scheme', 'http')}://{host}"

    def _find(self, presented: str, here: bool) -> Key | None:
        if self._local is not None and here and _digest(presented) == self._local.sha256:
            return self._local
        return self._store.find(presented)


def needs_admin(method: str, path: str) -> bool:
    """Whatever changes the engine, and logs, which hold what people wrote."""
    api = apis.find(path)
    changes = method not in ("GET", "HEAD", "OPTIONS")
    if path in ("/engine/prefetch", "/engine/explain"):  # hints and questions, which any request may carry, too
        return False
    return (path.startswith("/engine/") and (changes or path.startswith("/engine/logs"))) or bool(
        changes and api is not None and api.admin_post
    )


@functools.lru_cache(maxsize=256)
def _host_of(header: bytes) -> str:
    """The host of a Host header, without port and brackets."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
