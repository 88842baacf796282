"""Who may decide: a person by their PIN, a surface by a secret that a person once gave it.

A PIN is short, so it is hashed slowly (scrypt, RFC 7914) and guessing it is made slow, across restarts too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable

from variet.assistant.broker.store import Approver, Store
from variet.assistant.problems import ToolProblem

_PIN = "pin"
_SHORTEST_PIN, _LONGEST_PIN = 6, 200
_FREE_TRIES = 5
_FIRST_WAIT_MS = 30_000
_LONGEST_WAIT_MS = 300_000  # longer, and a program that guesses keeps its person out


class Approvers:
    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    @property
    def has_pin(self) -> bool:
        return self._find(_PIN) is not None

    def surfaces(self) -> list[Approver]:
        return [one for one in self._store.approvers() if one.kind == "surface"]

    def set_pin(self, pin: str) -> None:
        """Whoever calls this knows the old one, or is root. Raises ToolProblem."""
        allow(pin)
        salt = secrets.token_bytes(16)
        self._store.put_approver(Approver(_PIN, "pin", salt, _slow(pin, salt), self._now_ms()))
        self._store.put_fact("wrong_pins", "[0, 0]")

    def check_pin(self, pin: str) -> None:
        """Raises ToolProblem: there is none, it is wrong, or too many wrong ones came."""
        held = self._find(_PIN)
        if held is None:
            raise ToolProblem("no_pin", "there is no PIN yet", "Set one: variet approvals pin")
        count, last_ms = json.loads(self._store.fact("wrong_pins") or "[0, 0]")
        if last_ms > self._now_ms():  # the clock was set back: the wait begins now
            last_ms = self._now_ms()
            self._store.put_fact("wrong_pins", json.dumps([count, last_ms]))
        left_ms = last_ms + _wait_ms(count) - self._now_ms()
        if left_ms > 0:
            raise ToolProblem("rate_limited", f"{count} wrong PINs came", f"Wait {-(-left_ms // 1000)} s")
        # Counted before it is looked at: asking at once from many sides is no way around.
        self._store.put_fact("wrong_pins", json.dumps([count + 1, self._now_ms()]))
        if not hmac.compare_digest(held.hash, _slow(pin[:_LONGEST_PIN], held.salt)):
            raise ToolProblem("wrong_pin", "that is not your PIN")
        self._store.put_fact("wrong_pins", "[0, 0]")

    def add_surface(self, name: str) -> str:
        """The secret, which is kept nowhere else. Raises ToolProblem where there is one of that name."""
        if not name.strip() or len(name) > 60 or name == _PIN:
            raise ToolProblem("bad_request", "a surface needs a short name")
        if self._find(name):
            raise ToolProblem("bad_request", f"there is a surface {name!r} already", "Remove it first")
        secret = secrets.token_urlsafe(32)
        self._store.put_approver(Approver(name, "surface", b"", _fast(secret), self._now_ms()))
        return secret

    def surface_of(self, secret: str) -> str:
        """Its name. Raises ToolProblem."""
        given = _fast(secret)
        for one in self.surfaces():
            if hmac.compare_digest(one.hash, given):
                return one.name
        raise ToolProblem(
            "wrong_pin", "no surface has this secret", "Pair it again: variet approvals surfaces pair NAME"
        )

    def drop_surface(self, name: str) -> bool:
        held = self._find(name)
        return held is not None and held.kind == "surface" and self._store.drop_approver(name)

    def _find(self, name: str) -> Approver | None:
        return next((one for one in self._store.approvers() if one.name == name), None)


def allow(pin: str) -> None:
    """Raises ToolProblem where it is too short for a PIN."""
    if not _SHORTEST_PIN <= len(pin) <= _LONGEST_PIN:
        raise ToolProblem("bad_request", f"a PIN has {_SHORTEST_PIN} to {_LONGEST_PIN} characters")


def _wait_ms(wrong: int) -> int:
    if wrong < _FREE_TRIES:
        return 0
    return int(min(_FIRST_WAIT_MS * 2 ** min(wrong - _FREE_TRIES, 20), _LONGEST_WAIT_MS))


def _slow(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, n=2**17, r=8, p=1, maxmem=256 * 1024 * 1024, dklen=32)


def _fast(secret: str) -> bytes:
    """Of 256 random bits, which nobody guesses."""
    return hashlib.sha256(secret.encode()).digest()
