"""Files of the person's that go with a mail: read once, when it is asked for, so that what is shown is what is sent."""

from __future__ import annotations

import base64
import mimetypes
import os
import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from variet.assistant.problems import ToolProblem

MOST = 10
MOST_BYTES = 4 << 20  # of all: Gmail takes about ten as it is handed over, in base64 twice


class File(BaseModel):
    """`data`: base64; `path`: where it was read, as the server says that read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=255)
    kind: str = Field(pattern=r"^[a-z]+/[A-Za-z0-9.+-]{1,100}$")
    data: str = Field(max_length=MOST_BYTES * 4 // 3 + 4)
    path: str = Field(max_length=4_096)


def files(paths: list[str]) -> list[File]:
    """Raises ToolProblem where one is not to be had, or should not be."""
    if len(paths) > MOST:
        raise ToolProblem("bad_request", f"at most {MOST} files go with a mail")
    read: list[File] = []
    left = MOST_BYTES
    for path in paths:
        real, data = _read(path, left)
        left -= len(data)
        kind = mimetypes.guess_type(real.name)[0] or "application/octet-stream"
        if kind.startswith(("message/", "multipart/")):
            kind = "application/octet-stream"  # else it would be taken apart as a part of this mail
        read.append(File(name=real.name, kind=kind, data=base64.b64encode(data).decode(), path=str(real)))
    return read


def _read(path: str, most: int) -> tuple[Path, bytes]:
    """(where it lies, links followed; what is in it)."""
    try:
        wanted = Path(path).expanduser()
        if not wanted.is_absolute():
            raise ToolProblem("bad_request", f"{path} is no whole path", "Give it from / or ~ on")
        real = wanted.resolve(strict=True)
        if any(part.startswith(".") for part in real.parts):
            raise ToolProblem("denied", f"{path} is hidden, or in a hidden folder: keys and settings lie there",
                              "The person can copy it elsewhere first")  # fmt: skip
        # What waits for its other end would be waited for.
        with os.fdopen(os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ToolProblem("bad_request", f"{path} is no file")
            data = file.read(most + 1)
    except FileNotFoundError:
        raise ToolProblem("not_found", f"there is no {path}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ToolProblem(
            "bad_request", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(data) > most:
        raise ToolProblem("bad_request", f"with {path} it is more than {MOST_BYTES >> 20} MiB", "Send a link instead")
    return real, data
