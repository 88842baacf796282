"""Secrets in a sealed file, whose key is never beside it: for machines without a keyring, by the person's PIN; for a
broker that is a user of its own, by a key that the system hands over at each start.

AES-256-GCM; from a PIN the key is made by scrypt (RFC 7914), and as a PIN is short, its cost is high. Who holds the
file can still try PINs: docs/security.md says to take a long one here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path

from variet import paths
from variet.assistant.problems import ToolProblem

_COST = 2**17  # 128 MiB, half a second
_HIGHEST_COST = 2**20
_NO_PIN = 0  # in the place of the cost: sealed by the system's key
_NONCE_BYTES = 12
_FOR = b"variet secrets 1"  # sealed with it: a box of another kind or version does not open


class SealedFile:
    """By the person's PIN: opened by `unlock` after each start. Raises ToolProblem."""

    kind = "sealed file"
    by = "PIN"

    def __init__(self, file: Path, cost: int = _COST) -> None:
        self._file = file
        self._cost = cost
        self._key: bytes | None = None
        self._salt = b""
        self._held: dict[str, str] = {}

    def unlock(self, pin: str) -> None:
        """The first time, whatever PIN is given seals it. Raises ToolProblem where it is not the one that did."""
        if self._key is None:
            self._open(pin)

    def _open(self, pin: str) -> None:
        from cryptography.exceptions import InvalidTag

        try:
            sealed = json.loads(self._file.read_text(encoding="utf-8"))
            salt, nonce, box = (base64.b64decode(sealed[name], validate=True) for name in ("salt", "nonce", "box"))
            cost = int(sealed["cost"])
            if not (cost == _NO_PIN or 2 <= cost <= _HIGHEST_COST) or len(nonce) != _NONCE_BYTES:
                raise ValueError("it is not one of ours")
            key = self._key_of(pin, salt, cost)
            self._held = json.loads(_opened(key, nonce, box))
        except FileNotFoundError:
            self._salt = secrets.token_bytes(16)
            self._key = self._key_of(pin, self._salt, self._cost)
            return
        except InvalidTag:
            mend = f"Take the {self.by} that sealed it, or move it away and sign in again"
            raise ToolProblem("locked", f"{self._file} was sealed by another {self.by}, or changed", mend) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            mend = "Move it away and sign in again"
            raise ToolProblem("unavailable", f"{self._file} cannot be read: {error}", mend) from None
        self._key, self._salt, self._cost = key, salt, cost

    def reseal(self, pin: str) -> None:
        """By another PIN, from now on."""
        if self._key is None:
            return
        self._salt = secrets.token_bytes(16)
        self._key = self._key_of(pin, self._salt, self._cost)
        if self._file.exists():
            self._write()

    def get(self, name: str) -> str | None:
        if self._key is None and not self._file.exists():
            return None  # nothing was ever kept
        self._need()
        return self._held.get(name)

    def put(self, name: str, value: str) -> None:
        self._need()
        self._held[name] = value
        self._write()

    def drop(self, name: str) -> None:
        self._need()
        if self._held.pop(name, None) is not None:
            self._write()

    def _need(self) -> bytes:
        if self._key is None:
            raise ToolProblem("locked", "your accounts are sealed by your PIN", "Run: variet auth unlock")
        return self._key

    def _key_of(self, pin: str, salt: bytes, cost: int) -> bytes:
        """Raises ValueError for what was sealed otherwise."""
        if cost == _NO_PIN:
            raise ValueError("it was sealed by the system's key")
        return hashlib.scrypt(pin.encode(), salt=salt, n=cost, r=8, p=1, maxmem=cost * 8 * 128 * 2, dklen=32)

    def _write(self) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        box = AESGCM(self._need()).encrypt(nonce, json.dumps(self._held).encode(), _FOR)
        parts = {"salt": self._salt, "nonce": nonce, "box": box}
        told = {name: base64.b64encode(value).decode() for name, value in parts.items()}
        paths.write_whole(self._file, json.dumps({"cost": self._cost, **told}), 0o600, durable=True)


class KeySealedFile(SealedFile):
    """By a key that the system hands over at each start: it opens by itself, and no PIN has to do with it."""

    by = "key"

    def __init__(self, file: Path, key: bytes) -> None:
        super().__init__(file, _NO_PIN)
        self._handed = key

    def unlock(self, pin: str) -> None:
        pass

    def reseal(self, pin: str) -> None:
        pass

    def _need(self) -> bytes:
        if self._key is None:
            self._open("")
        return super()._need()

    def _key_of(self, _pin: str, _salt: bytes, cost: int) -> bytes:
        if cost != _NO_PIN:
            raise ValueError("it was sealed by a PIN")
        return self._handed


def _opened(key: bytes, nonce: bytes, box: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).decrypt(nonce, box, _FOR)
