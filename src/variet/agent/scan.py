"""Lines that match a pattern, where ripgrep is not installed: `python -m variet.agent.scan PATTERN PATH GLOB`.

A process of its own: Python's regular expressions can take for ever, and nothing within a process can stop them.
Prints `path:number:line`, like ripgrep.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from variet.agent.workspace import SKIPPED

_MOST_FILE = 1_000_000  # bytes of a file that is looked through
_MOST_LINE = 240  # characters of a line that is printed


def scan(pattern: str, path: Path, glob: str) -> Iterator[str]:
    """A pattern that is none is looked for as it stands."""
    try:
        wanted = re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        wanted = re.compile(re.escape(pattern))
    for file in _files(path, glob):
        try:
            if file.is_symlink() or file.stat().st_size > _MOST_FILE:
                continue
            data = file.read_bytes()
        except OSError:
            continue
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode(errors="replace").split("\n"), 1):
            if wanted.search(line[:2000]):
                yield f"{file}:{number}:{line[:_MOST_LINE].rstrip(chr(13))}"


def _files(path: Path, glob: str) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(one for one in folders if one not in SKIPPED and not one.startswith("."))
        for name in sorted(names):
            if not glob or fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(str(Path(folder, name)), f"*{glob}"):
                yield Path(folder, name)


if __name__ == "__main__":
    for found in scan(sys.argv[1], Path(sys.argv[2]), sys.argv[3]):
        sys.stdout.buffer.write(found.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.buffer.flush()
