"""For the smallest models behind a failed check, or where they only talk: two short questions instead of an open one.
First why it fails, which file is at fault and what lines belong there, held to a JSON schema; then that file, whose
path and fence are written for the model already. Where a function is yet to be written, its file is begun at once.

Left alone, such a model names the cause rightly and then repeats the test, writes no path, or copies the file as it
was; asked for the lines first, it writes them into the file. Asked why nothing works that nobody wrote, it talks of
docstrings (figures: docs/decisions/022).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from variet.agent.formats.blocks import path_of
from variet.agent.formats.splice import unfinished
from variet.agent.prompt.preface import CODE, LANGUAGES, code_files, is_test, texts
from variet.agent.workspace import Workspace

_MOST_FILES = 8  # to choose from
_MOST_SAID = 240  # characters
_NONE = "none"
_MOST_NAME = 200  # characters; file systems take 255 bytes
_WORD = re.compile(r"\w+")
# Before a name: it is to be left alone.
_UNWANTED = re.compile(r"\b(?:not|never|don't|except|without|leave)\b[^.!?\n]{0,40}$", re.IGNORECASE)
_FENCE = re.compile(r"```(?:\w+(?=\n))?")
_NAMED = re.compile(r"(?<![\w/.])[\w-]+(?:/[\w-]+)*\.[a-z]{1,4}(?![\w/])")


@dataclass(frozen=True, slots=True)
class Guide:
    """`files`: those that may be chosen. `may_decline`: so may none, where one need not be written. `asks`: the first
    question; the file is known already without. `leads`: the first line of each as it stands, from which it goes on."""

    files: tuple[str, ...]
    may_decline: bool = False
    asks: bool = True
    leads: Mapping[str, str] = field(default_factory=dict)

    @property
    def request(self) -> dict[str, Any]:
        """Fields of the first of the two requests, beside its messages."""
        said = {"type": "string", "minLength": 1, "maxLength": _MOST_SAID}
        files = [*self.files, *([_NONE] if self.may_decline else [])]
        # Reminded that nothing was written, and asked why, it would repeat that.
        why = {} if self.may_decline else {"why": said}
        fields = {**why, "file": {"enum": files}, "change": said}
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "cause", "schema": schema}}}

    def opening(self, answer: str) -> str:
        """How the second answer begins, behind the first, if it `asks`. Raises ValueError where no file is to be
        written, and for what does not follow the schema: not every server that is asked to hold a model to it does."""
        if not self.asks:
            return self._begun(self.files[0])
        try:
            told = json.loads(answer)
        except RecursionError:
            told = None
        if not isinstance(told, dict) or told.get("file") not in self.files:
            raise ValueError(f"none of {', '.join(self.files)}: {answer[:200]}")
        why, change = (_FENCE.sub("", str(told.get(key, ""))).strip() for key in ("why", "change"))
        return f"{why} `{change}`".lstrip() + f"\n\n{self._begun(told['file'])}"

    def _begun(self, name: str) -> str:
        return f"{name}\n```{LANGUAGES.get(PurePosixPath(name).suffix, '')}\n{self.leads.get(name, '')}"


def guide(
    workspace: Workspace, words: str, written: Collection[str] = (), fruitless: Sequence[str] = (), failure: str = "",
    *, strayed: bool = False,
) -> Guide | None:  # fmt: skip
    """For the programs of a small workspace, all of which the model was shown, and those that a person's words say are
    to be there. Once something was `written`, those that the person named come first until they were, too: such a
    model stays in the file where it is. Then without the `fruitless`, those that it last wrote as they are, where
    others are left. One that holds a function of which the words or the `failure` speak, and which nobody wrote yet, is
    written before anything is asked. Where it `strayed` into a file that it may not write, as into the tests, each goes
    on from its own first line. None where there are too many, or none."""
    held = [name for name in code_files(workspace.root) if path_of(name) == name]
    if held and not texts(workspace.root):
        return None  # it would write files anew that it has not seen
    mentioned = {(match[0], bool(_UNWANTED.search(words[: match.start()]))) for match in _NAMED.finditer(words)}
    named = {name for name, unwanted in mentioned if not unwanted}
    avoided = {name for name, _ in mentioned} - named
    bases = {PurePosixPath(name).name for name in held}
    new = [name for name in sorted(named) if _may_be_new(name) and PurePosixPath(name).name not in bases]
    spoken = set(_WORD.findall(f"{words}\n{failure}"))
    for name, text in workspace.python_files():
        tried = name in written or name in fruitless or name in avoided
        if name in held and not tried and unfinished(text) & spoken:
            return Guide((name,), asks=False)
    there = (*held, *new)
    asked = [name for name in held if name in named or PurePosixPath(name).name in named]
    pending = tuple(name for name in asked if name not in written) if written else ()
    left = tuple(name for name in there if name not in fruitless)
    other = tuple(name for name in there if name not in fruitless[-1:])  # in turn, where all of them were
    chosen = pending or left or other or there
    if not 0 < len(chosen) <= _MOST_FILES:
        return None
    return replace(Guide(chosen), leads=_first_lines(workspace)) if strayed else Guide(chosen)


def _first_lines(workspace: Workspace) -> dict[str, str]:
    held = texts(workspace.root)
    found = {name: re.match(r"\s*\S[^\n]*\n", text) for name, text in held.items() if text is not None}
    return {name: line[0] for name, line in found.items() if line is not None}


def _may_be_new(name: str) -> bool:
    """Whether a name that a person says is a program's, and not a product's, as Node.js is."""
    told = name == name.lower() and len(name) <= _MOST_NAME and path_of(name) == name
    return told and PurePosixPath(name).suffix in CODE and not is_test(name)
