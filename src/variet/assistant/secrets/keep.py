"""Where secrets are kept: `keep` finds the best place of this machine, and says which one it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from variet.assistant.problems import ToolProblem
from variet.errors import VarietError

_LOG = logging.getLogger(__name__)
_SERVICE = "variet-broker"
CREDENTIAL = "secrets.key"
KEY_BYTES = 32


class Secrets(Protocol):
    """Small texts by name. Every method raises ToolProblem: `locked` until a person unlocks it, `unavailable`."""

    kind: str

    def get(self, name: str) -> str | None: ...

    def put(self, name: str, value: str) -> None: ...

    def drop(self, name: str) -> None: ...

    def unlock(self, pin: str) -> None:
        """Does nothing where the system unlocks it with the person's login; neither does `reseal` then."""
        ...

    def reseal(self, pin: str) -> None: ...


class KeyringSecrets:
    """In the system's keyring: Secret Service, macOS's Keychain, Windows' Credential Manager."""

    kind = "keyring"

    def get(self, name: str) -> str | None:
        import keyring
        from keyring.errors import KeyringError

        try:
            return keyring.get_password(_SERVICE, name)
        except KeyringError as error:
            raise _unavailable(error) from None

    def put(self, name: str, value: str) -> None:
        import keyring
        from keyring.errors import KeyringError

        try:
            keyring.set_password(_SERVICE, name, value)
        except KeyringError as error:
            raise _unavailable(error) from None

    def drop(self, name: str) -> None:
        import keyring
        from keyring.errors import KeyringError, PasswordDeleteError

        try:
            keyring.delete_password(_SERVICE, name)
        except PasswordDeleteError:
            pass  # there is none
        except KeyringError as error:
            raise _unavailable(error) from None

    def unlock(self, pin: str) -> None:
        pass

    def reseal(self, pin: str) -> None:
        pass


def keep(folder: Path, key: bytes | None = None) -> Secrets:
    """The system's keyring where there is one that keeps what it is given, else a sealed file in `folder`. What was
    chosen once stays: a keyring that is away for a day is told, not replaced. `key`: the system's, which then seals."""
    from variet.assistant.secrets.sealed import KeySealedFile, SealedFile

    file = folder / "secrets.sealed"
    if key is not None:
        return KeySealedFile(file, key)
    return SealedFile(file) if file.exists() or not _has_keyring() else KeyringSecrets()


def handed_key(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """By which the system opens the sealed file of a broker that is a user of its own: a credential of systemd's,
    which root alone can read where it lies (systemd.exec(5), Credentials). None where it hands none over, as before
    its version 247. Raises VarietError for one that is broken: to seal by it would be to seal by nothing."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    try:
        key = (Path(folder) / CREDENTIAL).read_bytes() if folder else None
    except FileNotFoundError:
        return None
    if key is not None and len(key) != KEY_BYTES:
        raise VarietError(f"the key has {len(key)} bytes", next_step="Install the broker again: it says what to do")
    return key


def _has_keyring() -> bool:
    """By a trial: some systems name one that does not work. Backends that keep things in plain files do not count."""
    import keyring
    from keyring.backends.fail import Keyring as NoKeyring

    backend = keyring.get_keyring()
    name = f"{type(backend).__module__}.{type(backend).__name__}"
    if isinstance(backend, NoKeyring) or "plaintext" in name.lower() or "null" in name.lower():
        return False
    try:
        keyring.set_password(_SERVICE, "trial", "works")
        works = keyring.get_password(_SERVICE, "trial") == "works"
        keyring.delete_password(_SERVICE, "trial")
    except Exception as error:  # noqa: BLE001 - each backend raises its own
        _LOG.info("no keyring here: %s (%s)", name, type(error).__name__)
        return False
    return works


def _unavailable(error: Exception) -> ToolProblem:
    return ToolProblem("unavailable", f"the system's keyring cannot be used: {error}", "Unlock it, by logging in")
