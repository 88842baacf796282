"""Where a broker is that runs as a user of its own: what `variet broker install` left for its clients, as root."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from variet.errors import TrustError

FILE = Path("/etc/variet/broker.json")


class Installed(BaseModel):
    """`folder`: what it keeps, which nobody else can read; `owner_uid`: of whose broker it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner_uid: int
    broker_uid: int
    folder: Path
    socket: Path


def installed() -> Installed | None:
    """None where there is none. Raises TrustError where somebody but root may have written what says so: to go on
    without it would be the weaker broker, unasked."""
    if os.name != "posix":
        return None
    try:
        with FILE.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _doubtful(f"it cannot be read: {error.strerror}") from None
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise _doubtful("others than root may have written it")
    try:
        return Installed.model_validate_json(text)
    except ValidationError:
        raise _doubtful("it is none of ours") from None


def _doubtful(why: str) -> TrustError:
    return TrustError(why, where=str(FILE), next_step="Install the broker again: sudo .venv/bin/variet broker install")
