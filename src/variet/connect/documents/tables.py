"""TOML and YAML, by libraries that keep comments and the order of things."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import MutableMapping, MutableSequence
from typing import Any

import tomlkit
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from tomlkit.exceptions import TOMLKitError

from variet.connect.documents.base import ABSENT, DocumentProblem, Frame, Spot, no_table
from variet.connect.documents.patch import carried_over


class _Tables(ABC):
    """What both have in common: tables within tables."""

    _data: MutableMapping[str, Any]

    def get(self, at: Spot) -> Any:
        here: Any = self._data
        for key in at:
            if isinstance(key, int):
                if not isinstance(here, MutableSequence) or key >= len(here):
                    return ABSENT
            elif not isinstance(here, MutableMapping) or key not in here:
                return ABSENT
            here = here[key]
        return _plain(here)

    def set(self, at: Spot, value: Any) -> None:
        self._touch(at)
        here: Any = self._data
        for depth, key in enumerate(at[:-1], 1):
            if key not in here:
                here[key] = self._table(last=depth == len(at) - 1)
            here = here[key]
            if not isinstance(here, MutableSequence if isinstance(at[depth], int) else MutableMapping):
                raise no_table(at[:depth])
        if isinstance(here, MutableSequence) and at[-1] == len(here):
            here.append(value)
        else:
            here[at[-1]] = value

    def remove(self, at: Spot, *, keep: int = 0) -> None:
        if self.get(at) is ABSENT:
            return
        self._touch(at)
        around: list[Any] = [self._data]
        for key in at[:-1]:
            around.append(around[-1][key])
        del around[-1][at[-1]]
        for depth in range(len(at) - 1, keep, -1):
            if isinstance(at[depth], int) or around[depth]:
                break
            del around[depth - 1][at[depth - 1]]

    def _touch(self, at: Spot) -> None:
        """Raises DocumentProblem where what stands there is used elsewhere, too."""
        here: Any = self._data
        for key in at:
            held = isinstance(here, MutableSequence) and isinstance(key, int) and key < len(here)
            if not held and not (isinstance(here, MutableMapping) and key in here):
                return
            here = here[key]
        if _anchored(here):
            raise DocumentProblem(f"what stands at {'.'.join(map(str, at))} is used elsewhere in it, too, by an anchor")

    @abstractmethod
    def _table(self, *, last: bool) -> MutableMapping[str, Any]: ...


class TomlDocument(_Tables):
    def __init__(self, text: str) -> None:
        self._frame = Frame.of(text)
        self._held = self._frame.bare(text)
        try:
            self._data = tomlkit.parse(self._held)
        except TOMLKitError as error:
            raise DocumentProblem(f"it is not TOML: {error}") from None

    @property
    def text(self) -> str:
        return self._frame.around(carried_over(self._held, self._held, tomlkit.dumps(self._data)))

    def _table(self, *, last: bool) -> MutableMapping[str, Any]:
        return tomlkit.table(is_super_table=not last)


class YamlDocument(_Tables):
    def __init__(self, text: str) -> None:
        self._frame = Frame.of(text)
        self._held = self._frame.bare(text)
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 10_000  # nobody's lines are broken
        self._yaml.indent(**_indents(self._held))
        try:
            data = self._yaml.load(self._held)
        except YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" in line {where.line + 1}" if where is not None else ""
            raise DocumentProblem(f"it is not YAML{line}") from None
        if data is not None and not isinstance(data, MutableMapping):
            raise no_table(())
        self._new = data is None
        self._data = CommentedMap() if data is None else data
        self._before = self._dumped()

    @property
    def text(self) -> str:
        return self._frame.around(self._written())

    def _written(self) -> str:
        """Raises ValueError where what is to be changed is written in a way of its own."""
        if not self._data:
            lines = self._held.splitlines(keepends=True)
            return "".join(line for line in lines if line.lstrip().startswith("#") or not line.strip())
        if self._new:
            broken = "" if not self._held or self._held.endswith("\n") else "\n"
            return self._held + broken + self._dumped()
        return carried_over(self._held, self._before, self._dumped())

    def _dumped(self) -> str:
        stream = io.StringIO()
        self._yaml.dump(self._data, stream)
        return stream.getvalue()

    def _table(self, *, last: bool) -> MutableMapping[str, Any]:
        return CommentedMap()


_KEY_AND = re.compile(
    r"^(?P<key> *)[^\s#-][^#\n]*:[ ]*(?:#[^\n]*)?\n(?:[ ]*(?:#[^\n]*)?\n)*(?P<next> *)(?P<item>-[ ]+)?", re.M
)


def _indents(text: str) -> dict[str, int]:
    """How tables and lists are set in, by the first of each."""
    mapping, sequence, offset = 2, 2, 0
    for match in reversed(list(_KEY_AND.finditer(text))):
        deeper = len(match["next"]) - len(match["key"])
        if match["item"] and deeper >= 0:
            sequence, offset = deeper + len(match["item"]), deeper
        elif not match["item"] and deeper > 0:
            mapping = deeper
    return {"mapping": mapping, "sequence": sequence, "offset": offset}


def _anchored(value: Any) -> bool:
    """Whether YAML's anchors, aliases or merges are in a value."""
    anchor = getattr(value, "anchor", None)
    if getattr(anchor, "value", None) or getattr(value, "merge", None):
        return True
    if isinstance(value, MutableMapping):
        return any(_anchored(one) for one in value.values())
    return isinstance(value, MutableSequence) and any(_anchored(one) for one in value)


def _plain(value: Any) -> Any:
    if hasattr(value, "unwrap"):
        return value.unwrap()
    if isinstance(value, MutableMapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
