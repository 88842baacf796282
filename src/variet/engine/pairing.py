"""One pairing at a time: a code that lives some minutes, is good for one key, and dies of a few wrong proofs.

Owns the code's life. The proofs themselves are in variet.pairing, which both machines share.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from variet import pairing
from variet.engine.problems import Problem
from variet.engine.trust import KeyStore

log = logging.getLogger("variet.engine.pairing")
LIFE_S = 300.0
_TRIES = 5


@dataclass(slots=True)
class _Offer:
    secret: bytes
    salt: bytes
    admin: bool
    ends_at: float
    tries_left: int = _TRIES
    paired: str | None = None


class Pairing:
    """`authority_pem` is what the other machine will trust; empty where the engine speaks plain HTTP."""

    def __init__(self, store: KeyStore, authority_pem: str) -> None:
        self.authority_pem = authority_pem
        self._fingerprint = pairing.fingerprint(authority_pem)
        self._store = store
        self._offer: _Offer | None = None

    async def open(self, *, admin: bool) -> str:
        """A new code; one that was open before is void."""
        code, salt = pairing.new_code(), secrets.token_bytes(16)
        secret = await asyncio.to_thread(pairing.stretch, code, salt)
        self._offer = _Offer(secret, salt, admin, time.monotonic() + LIFE_S)
        return code

    def close(self) -> None:
        self._offer = None

    def state(self) -> dict[str, object]:
        """open, paired (with the key's name) or closed."""
        offer = self._offer
        if offer is not None and offer.paired:
            return {"state": "paired", "name": offer.paired}
        return {"state": "open" if self._live() else "closed"}

    def hello(self) -> dict[str, str]:
        """What the other machine needs to make its proof. Raises Problem where no code is open."""
        offer = self._required()
        return {"salt": offer.salt.hex(), "authority": self.authority_pem}

    def finish(self, name: str, nonce: bytes, proof: str) -> dict[str, str]:
        """A key for whoever knows the code, with the proof that this engine knows it too. Raises Problem."""
        offer = self._required()
        if not pairing.proven(proof, offer.secret, "client", offer.salt, nonce, name.encode(), self._fingerprint):
            offer.tries_left -= 1
            log.warning("a wrong pairing code was tried; %s tries left", offer.tries_left)
            if offer.tries_left <= 0:
                self.close()
            raise Problem(403, "wrong_code", "that is not the code, or another machine is in between; try once more")
        free = self._free_name(name)
        key = self._store.add(free, admin=offer.admin)
        offer.paired = free
        log.info("paired with %s", free)
        answer = pairing.prove(offer.secret, "engine", nonce, offer.salt, self._fingerprint, key.encode())
        return {"name": free, "key": key, "proof": answer}

    def _live(self) -> bool:
        return self._offer is not None and self._offer.paired is None and time.monotonic() < self._offer.ends_at

    def _required(self) -> _Offer:
        if self._offer is None or not self._live():
            raise Problem(409, "not_pairing", "no pairing code is open here; `variet pair` on Machine A makes one")
        return self._offer

    def _free_name(self, wished: str) -> str:
        taken = {key.name for key in self._store.all()}
        return next(one for one in (wished, *(f"{wished}-{n}" for n in range(2, 10_000))) if one not in taken)
