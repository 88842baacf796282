"""What slash commands mean, whichever surface they are entered in."""

from __future__ import annotations

import shlex

from variet.agent.changes import Selection


def selection_of(argument: str) -> Selection:
    """Of `/undo`: nothing is the last change, `turn`, `all`, or names of files."""
    words = argument.strip()
    if words in ("", "turn", "all"):
        return Selection(which={"": "step", "turn": "turn", "all": "all"}[words])
    try:
        names = shlex.split(words)
    except ValueError:
        names = [words]
    return Selection(which="all", paths=tuple(name.removeprefix("@") for name in names))
