"""Where programs of this machine are: never from the workspace, whose files a model may have written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def find(name: str, root: Path, path: str | None = None) -> str | None:
    """The absolute path of a program outside `root`, or None."""
    return shutil.which(name, path=outside(path if path is not None else os.environ.get("PATH", os.defpath), root))


def outside(path: str, root: Path) -> str:
    """A search path without what is relative, or lies in `root`."""
    kept = []
    for one in path.split(os.pathsep):
        folder = Path(one)
        if not folder.is_absolute():
            continue
        real = folder.resolve()
        if root not in (folder, real, *folder.parents, *real.parents):
            kept.append(one)
    return os.pathsep.join(kept)
