"""Where Variet keeps things on this machine: configuration, models, state, logs, sockets.

`VARIET_HOME` puts all of them under one folder (tests and portable set-ups use it).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

_APP = "variet"


def _place(kind: str) -> Path:
    home = os.environ.get("VARIET_HOME")
    if home:
        return Path(home).expanduser().absolute() / kind
    finders = {
        "config": platformdirs.user_config_path,
        "data": platformdirs.user_data_path,
        "state": platformdirs.user_state_path,
        "cache": platformdirs.user_cache_path,
    }
    return finders[kind](_APP, appauthor=False)


def config_dir() -> Path:
    """The owner's settings: `engine_models.json`, keys (hashed), certificates."""
    return _place("config")


def models_dir() -> Path:
    """GGUF files; `VARIET_MODELS` moves them, for instance to another disk."""
    chosen = os.environ.get("VARIET_MODELS")
    return Path(chosen).expanduser().absolute() if chosen else _place("data") / "models"


def state_dir() -> Path:
    """What the engine learnt and wrote: measured speeds, snapshots, logs."""
    return _place("state")


def cache_dir() -> Path:
    """What can be made again: probes, read headers, partial downloads."""
    return _place("cache")


def private_dir(path: Path) -> Path:
    """Create `path` with mode 0700 where the system has modes, and return it.

    Raises PermissionError where the folder belongs to somebody else.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix":
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user id {status.st_uid}; it must be yours")
        if stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(0o700)
    return path


def write_whole(path: Path, content: str | bytes, mode: int = 0o644, *, durable: bool = False) -> None:
    """Write a small file in one step: readers see the old or the new one, and nobody else what is private on the way.

    The folder is made where it lacks. `durable`: it is on the disk before this returns. Raises OSError, and then leaves
    nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
