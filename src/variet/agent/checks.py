"""Pure: whether a person's check can be run at all. Where it cannot, that is told to them: a model would look for the
fault in the files, and find one."""

from __future__ import annotations

import re

_NOT_RUN = re.compile(r"^\(exit (126|127)\)$", re.MULTILINE)  # of a shell: not to be executed, not found
_PROGRAM = re.compile(r"[\w.+-]+(?=\s|$)")  # a name alone: a path may be of a file that is yet to be written
_SEVERAL = re.compile(r"[|&;<>()$`\n]")


def cannot_run(command: str, said: str) -> bool:
    """`said`: by the shell tool, of a `command` that failed."""
    alone = _PROGRAM.match(command.strip()) is not None and _SEVERAL.search(command) is None
    return alone and _NOT_RUN.search(said) is not None
