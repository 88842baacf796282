"""What each client has read, and what follows for words that it would let out."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from variet.assistant.broker import fingerprints
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem
from variet.policy.action import Taint
from variet.policy.assistant import MOST_VISITS, MOST_VISITS_OF_ALL
from variet.visible import one_line

UNNAMED = "an unnamed client"
_MOST_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose call it is. `conversation`: empty where no surface of ours made a handle for it: then all that its client
    ever read counts."""

    client: str
    conversation: str = ""

    @property
    def name(self) -> str:
        return self.client or UNNAMED


@dataclass(frozen=True, slots=True)
class Read:
    """What a tool showed or a person wrote. `private`: the person's own; `hits`: addresses that a search gave;
    `addresses`: ones that stand in a text; `typed`: a person's own words; `public`: texts that anybody may read."""

    private: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    typed: str = ""
    public: tuple[str, ...] = ()


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
        if sum(map(len, (*read.private, *read.hits, *read.addresses, *read.public, read.typed))) > _MOST_CHARS:
            raise ToolProblem("bad_request", f"more than {_MOST_CHARS:,} characters at once")
        if read.public and self._store.private(asker.client, asker.conversation):
            read = replace(read, public=())  # what came later may have been asked for with private words in mind
        kinds = await asyncio.to_thread(self._prints, read)  # others wait for theirs meanwhile
        for kind, prints in kinds.items():
            if prints:
                self._store.read(asker.client, asker.conversation, kind, prints)
        if read.private:
            self._store.read(asker.client, asker.conversation, "private", (), private=True)

    def _prints(self, read: Read) -> dict[str, list[bytes]]:
        hits = set(map(_bare, read.hits))
        typed = {_bare(word).strip("<>().,;:!?\"'") for word in read.typed.split() if "://" in word}
        parts = {
            "public": {part for text in read.public for part in fingerprints.words_of(text)},
            "address": {_bare(one) for one in (*read.addresses, *read.hits)}, "hit": hits,
            "host": set(map(host_of, hits)), "typed": typed | fingerprints.words_of(read.typed),
        }  # fmt: skip
        return {kind: self._hashed(found) for kind, found in parts.items()}

    def taint(self, asker: Asker, kind: str, target: str) -> Taint:
        """`kind`: of a sink, `search` or `page`; `target`: the query or the address."""
        private = self._store.private(asker.client, asker.conversation)
        if kind == "search":
            known, foreign = self._sorted(asker, target)
            return Taint(private=private, foreign=bool(foreign), frequent=not known and not foreign)
        address = _bare(target)
        return Taint(
            private=private, named=self._known(asker, "address", address), hit=self._known(asker, "hit", address),
            host_before=self._known(asker, "host", host_of(address), before=True),
            hit_before=self._known(asker, "hit", address, before=True),
            visits=self._visits(asker, host_of(address), MOST_VISITS),
            visits_of_all=self._visits(asker, "", MOST_VISITS_OF_ALL),
            typed=bool(asker.conversation) and self._known(asker, "typed", address),
        )  # fmt: skip

    def private_elsewhere(self, asker: Asker) -> bool:
        """Whether private text was read by an unnamed client alone, which may have been this one."""
        own = self._store.private_own(asker.client, asker.conversation)
        return bool(asker.client) and not own and self._store.private(asker.client, asker.conversation)

    def plain(self, asker: Asker, query: str) -> str:
        """What of a query goes to an engine once private text was read: its known words, each once, in small letters,
        in the order of the alphabet. How they were written, in which order, and how often they come could tell
        something. Words so frequent that engines pass over them are left out."""
        known, _ = self._sorted(asker, query)
        return " ".join(sorted(set(known)))

    def foreign(self, asker: Asker, query: str) -> list[str]:
        """Its words that a person did not type here, and that stood in no public text from before."""
        return self._sorted(asker, query)[1]

    def _sorted(self, asker: Asker, query: str) -> tuple[list[str], list[str]]:
        """(words that may go out, those that are foreign)"""
        known: list[str] = []
        foreign: list[str] = []
        for word in fingerprints.query_words(query):
            pieces = [word] if self._free(asker, word) else fingerprints.pieces(word)
            for piece in pieces:
                if not fingerprints.frequent(piece):
                    (known if self._free(asker, piece) else foreign).append(piece)
        return known, foreign

    def _free(self, asker: Asker, word: str) -> bool:
        # Of a person's own words, where a surface of ours saw them written.
        typed = bool(asker.conversation) and self._known(asker, "typed", word)
        return typed or self._known(asker, "public", word, before=True)

    def visited(self, asker: Asker, address: str) -> None:
        """A page was asked for after private text was read."""
        host = host_of(_bare(address))
        prints = [_visit(host, self._visits(asker, host, MOST_VISITS)), _visit("", self._visits(asker, "", 1_000))]
        self._store.read(asker.client, asker.conversation, "visit", self._hashed(prints))

    def _visits(self, asker: Asker, host: str, most: int) -> int:
        return next((n for n in range(most) if not self._known(asker, "visit", _visit(host, n))), most)

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
    return address.partition("#")[0]


def _visit(host: str, number: int) -> str:
    return f"{host}\0{number}"


def _digest(handle: str) -> bytes:
    return hashlib.sha256(handle.encode()).digest()
