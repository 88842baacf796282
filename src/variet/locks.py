"""A lock of a file among processes: for a log, a state folder, a broker. The lock ends with its process."""

from __future__ import annotations

import os
from typing import IO, Any

if os.name == "posix":
    import fcntl


def try_lock(file: IO[Any]) -> None:
    """Lock an open file for as long as it stays open. Raises OSError where another process holds it."""
    if os.name == "posix":
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        windows: Any = msvcrt
        file.seek(0)
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
