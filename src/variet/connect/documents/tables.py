"""TOML and YAML, by libraries that keep comments and the order of things."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from typing import Any

import tomlkit
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent
from tomlkit.exceptions import TOMLKitError

from variet.connect.documents.base import ABSENT, DocumentProblem, Place, no_table


class _Tables(ABC):
    """What both have in common: tables within tables."""

    _data: MutableMapping[str, Any]

    def get(self, at: Place) -> Any:
        here: Any = self._data
        for key in at:
            if not isinstance(here, MutableMapping) or key not in here:
                return ABSENT
            here = here[key]
        return _plain(here)

    def set(self, at: Place, value: Any) -> None:
        here = self._data
        for depth, key in enumerate(at[:-1], 1):
            if key not in here:
                here[key] = self._table(last=depth == len(at) - 1)
            here = here[key]
            if not isinstance(here, MutableMapping):
                raise no_table(at[:depth])
        here[at[-1]] = value

    def remove(self, at: Place) -> None:
        if self.get(at) is ABSENT:
            return
        tables: list[MutableMapping[str, Any]] = [self._data]
        for key in at[:-1]:
            tables.append(tables[-1][key])
        del tables[-1][at[-1]]
        for table, key in zip(reversed(tables[:-1]), reversed(at[:-1]), strict=True):
            if table[key]:
                break
            del table[key]

    @abstractmethod
    def _table(self, *, last: bool) -> MutableMapping[str, Any]: ...


class TomlDocument(_Tables):
    def __init__(self, text: str) -> None:
        try:
            self._data = tomlkit.parse(text)
        except TOMLKitError as error:
            raise DocumentProblem(f"it is not TOML: {error}") from None

    @property
    def text(self) -> str:
        return tomlkit.dumps(self._data)

    def _table(self, *, last: bool) -> MutableMapping[str, Any]:
        return tomlkit.table(is_super_table=not last)


class YamlDocument(_Tables):
    def __init__(self, text: str) -> None:
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 10_000  # nobody's lines are broken
        try:
            _, indent, offset = load_yaml_guess_indent(text)
            self._yaml.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
            data = self._yaml.load(text)
        except YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" in line {where.line + 1}" if where is not None else ""
            raise DocumentProblem(f"it is not YAML{line}") from None
        if data is not None and not isinstance(data, MutableMapping):
            raise no_table(())
        self._held, self._data = text, data if data is not None else CommentedMap()
        self._new = data is None

    @property
    def text(self) -> str:
        if not self._data:
            lines = self._held.splitlines(keepends=True)
            return "".join(line for line in lines if line.lstrip().startswith("#") or not line.strip())
        stream = io.StringIO()
        self._yaml.dump(self._data, stream)
        written = stream.getvalue()
        return self._held + written if self._new else written

    def _table(self, *, last: bool) -> MutableMapping[str, Any]:
        return CommentedMap()


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
