"""The environment of processes that Variet starts: no more than they need, and what a surface tells its servers."""

from __future__ import annotations

import os

# Of a server that one of our surfaces starts:
HANDLE = "VARIET_CONVERSATION"
PATIENCE = "VARIET_PATIENCE_S"  # how long a call waits for a person
MOST_PATIENCE_S = 600.0  # the broker's

BROWSER = "VARIET_BROWSER"  # a person's: as `browser` in assistant.json, for one run

_NAMES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV",
    "DBUS_SESSION_BUS_ADDRESS", "VARIET_HOME", "VARIET_GOOGLE_URL", BROWSER,
    "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP", "SSL_CERT_FILE",
)  # fmt: skip


def environment(*further: str) -> dict[str, str]:
    """`further`: names beside these. Whatever else is set may be a secret of somebody else."""
    names = {*_NAMES, *further}
    return {name: value for name, value in os.environ.items() if name in names or name.startswith("XDG_")}
