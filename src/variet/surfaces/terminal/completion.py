"""What Tab completes: slash commands with their arguments, and files after an `@`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from variet.agent.workspace import SKIPPED

_AT = re.compile(r"(?:^|(?<=\s))@([^\s@]*)$")
_MOST_FILES = 5_000
_FRESH_S = 5.0


class Words(Completer):
    """`commands`: by name, what each is for. `arguments`: by name, what may follow."""

    def __init__(
        self, root: Path, commands: Mapping[str, str], arguments: Mapping[str, Callable[[], Sequence[str]]]
    ) -> None:
        self._root = root
        self._commands = commands
        self._arguments = arguments
        self._files: list[str] = []
        self._read_at = -_FRESH_S

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith("/"):
            name, space, begun = before[1:].partition(" ")
            if not space:
                for one, what in self._commands.items():
                    if one.startswith(name):
                        yield Completion(f"/{one}", -len(before), display_meta=what)
            elif name in self._arguments:
                for one in self._arguments[name]():
                    if one.startswith(begun):
                        yield Completion(one, -len(begun))
            return
        if match := _AT.search(before):
            begun = match[1].lower()
            for one in self._known():
                if begun in one.lower():
                    yield Completion(f"@{one}", -len(match[0]))

    def _known(self) -> list[str]:
        """Files of the workspace, those near its root first."""
        now = time.monotonic()
        if now - self._read_at > _FRESH_S:
            self._files, self._read_at = _files(self._root), now
        return self._files


def _files(root: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in SKIPPED and not one.startswith("."))
        found += [Path(folder, name).relative_to(root).as_posix() for name in sorted(names)]
        if len(found) >= _MOST_FILES:
            break
    return sorted(found[:_MOST_FILES], key=lambda one: (one.count("/"), one))
