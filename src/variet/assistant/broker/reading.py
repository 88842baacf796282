"""What each client has read, and what follows for words that it would let out."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from variet.assistant.broker import fingerprints
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem
from variet.policy.action import Taint
from variet.visible import one_line

_MOST_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose call it is. `conversation`: empty where no surface of ours made a handle for it: then all that its client
    ever read counts."""

    client: str
    conversation: str = ""

    @property
    def name(self) -> str:
        return self.client or "an unnamed client"


@dataclass(frozen=True, slots=True)
class Read:
    """What a tool showed or a person wrote. `private`: the person's own; `hits`: addresses that a search gave;
    `addresses`: ones that stand in a text; `typed`: a person's own words."""

    private: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    typed: str = ""


class Reading:
    def __init__(self, store: Store) -> None:
        self._store = store

    def asker(self, client: str, handle: str) -> Asker:
        """A handle counts only for the client that it was made for."""
        client = one_line(client, 100)
        made_for = self._store.minted(_digest(handle)) if handle else None
        return Asker(client, _digest(handle).hex() if made_for == client else "")

    def mint(self, client: str, now_ms: int) -> str:
        """A handle for a conversation of its own, kept as a hash."""
        handle = secrets.token_urlsafe(24)
        self._store.mint(_digest(handle), one_line(client, 100), now_ms)
        return handle

    async def add(self, asker: Asker, read: Read) -> None:
        """To be called before a model is shown it. Raises ToolProblem where it is more than anybody shows at once."""
        if sum(map(len, (*read.private, *read.hits, *read.addresses, read.typed))) > _MOST_CHARS:
            raise ToolProblem("bad_request", f"more than {_MOST_CHARS:,} characters at once")
        kinds = await asyncio.to_thread(self._prints, read)  # others wait for theirs meanwhile
        full = not all(map(fingerprints.whole, read.private))
        for kind, prints in kinds.items():
            private = kind == "private" and bool(read.private)
            if prints or private:
                self._store.read(asker.client, asker.conversation, kind, prints, private=private, full=full)

    def _prints(self, read: Read) -> dict[str, list[bytes]]:
        hits = set(map(_bare, read.hits))
        typed = {_bare(word).strip("<>().,;:!?\"'") for word in read.typed.split() if "://" in word}
        parts = {
            "private": {part for text in read.private for part in fingerprints.telling(text)},
            "address": {_bare(one) for one in (*read.addresses, *read.hits)}, "hit": hits,
            "host": set(map(host_of, hits)), "typed": typed | fingerprints.sought(read.typed),
        }  # fmt: skip
        return {kind: self._hashed(found) for kind, found in parts.items()}

    def taint(self, asker: Asker, kind: str, target: str) -> Taint:
        """`kind`: of a sink, `search` or `page`; `target`: the query or the address."""
        private = self._store.private(asker.client, asker.conversation)
        if kind == "search":
            return Taint(private=private, **self._of_query(asker, target))
        address = _bare(target)
        return Taint(
            private=private, named=self._known(asker, "address", address), hit=self._known(asker, "hit", address),
            host_before=self._known(asker, "host", host_of(address), before=True),
            typed=bool(asker.conversation) and self._known(asker, "typed", address),
        )  # fmt: skip

    def _of_query(self, asker: Asker, query: str) -> dict[str, bool]:
        where = asker.client, asker.conversation
        parts = {self._hash(part): part for part in fingerprints.sought(query)}
        shared = self._store.known(*where, "private", parts)
        # Of a person's own words, where a surface of ours saw them written.
        typed = self._store.known(*where, "typed", parts) if asker.conversation else set()
        opaque = fingerprints.opaque(query) and not set(parts) <= typed
        return {"overlaps": bool(shared - typed) or self._store.full(*where), "opaque": opaque}

    def _known(self, asker: Asker, kind: str, part: str, *, before: bool = False) -> bool:
        found = self._store.known(asker.client, asker.conversation, kind, [self._hash(part)], before=before)
        return bool(found)

    def _hashed(self, parts: Iterable[str]) -> list[bytes]:
        return [self._hash(part) for part in parts]

    def _hash(self, part: str) -> bytes:
        return fingerprints.hashed(part, self._store.key)


def host_of(address: str) -> str:
    """With its port, where that is not the usual one."""
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return ""
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return host if port in (None, usual) else f"{host}:{port}"


def _bare(address: str) -> str:
    """What is sent of an address: its fragment is not."""
    return address.strip().partition("#")[0]


def _digest(handle: str) -> bytes:
    return hashlib.sha256(handle.encode()).digest()
