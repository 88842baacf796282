"""For the smallest models behind a failed check: two short questions instead of an open one. First why it fails, which
file is at fault and what lines belong there, held to a JSON schema; then that file, whose path and fence are written
for the model already.

Left alone, such a model names the cause rightly and then repeats the test, writes no path, or copies the file as it
was; asked for the lines first, it writes them into the file (figures: docs/decisions/022).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from variet.agent.prompt.preface import LANGUAGES, code_files, files, is_test
from variet.agent.workspace import Workspace

_MOST_FILES = 8  # to choose from
_MOST_SAID = 240  # characters
_MISSING = re.compile(r"No module named '(\w+)'")
_NAMED = re.compile(r"(?<![\w/.])[\w-]+(?:/[\w-]+)*\.[a-z]{1,4}(?![\w/])")


@dataclass(frozen=True, slots=True)
class Guide:
    """`files`: those that may be chosen."""

    files: tuple[str, ...]

    @property
    def request(self) -> dict[str, Any]:
        """Fields of the first of the two requests, beside its messages."""
        said = {"type": "string", "minLength": 1, "maxLength": _MOST_SAID}
        schema = {
            "type": "object",
            "properties": {"why": said, "file": {"enum": list(self.files)}, "change": said},
            "required": ["why", "file", "change"],
        }
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "cause", "schema": schema}}}

    def opening(self, answer: str) -> str:
        """How the second answer begins. Raises ValueError for what does not follow the schema: not every server that
        is asked to hold a model to it does."""
        told = json.loads(answer)
        if not isinstance(told, dict) or told.get("file") not in self.files:
            raise ValueError(f"none of {', '.join(self.files)}: {answer[:200]}")
        why, change = (str(told.get(key, "")).replace("```", "").strip() for key in ("why", "change"))
        name = str(told["file"])
        return f"{why} `{change}`\n\n{name}\n```{LANGUAGES.get(PurePosixPath(name).suffix, '')}\n"


def guide(
    workspace: Workspace, words: str, failure: str, written: Collection[str] = (), fruitless: Collection[str] = ()
) -> Guide | None:
    """For the programs of a small workspace, all of which the model was shown, and those that a person's words or the
    failure say are to be there. Once something was `written`, those that the person named come first until they were,
    too: such a model stays in the file where it is. Then without the `fruitless`, those that it last wrote as they
    are, where others are left. None where there are too many, or none."""
    held = code_files(workspace.root)
    if not files(workspace.root) and held:
        return None  # it would write files anew that it has not seen
    named = _NAMED.findall(words)
    wanted = [*named, *(f"{name}.py" for name in _MISSING.findall(failure))]
    new = [name for name in wanted if PurePosixPath(name).suffix in LANGUAGES and not is_test(name)]
    there = tuple(dict.fromkeys([*held, *(name for name in new if not (workspace.root / name).exists())]))
    pending = tuple(name for name in there if name in named and name not in written) if written else ()
    chosen = pending or tuple(name for name in there if name not in fruitless) or there
    return Guide(chosen) if 0 < len(chosen) <= _MOST_FILES else None
