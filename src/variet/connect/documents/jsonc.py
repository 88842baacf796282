"""JSON as editors take it, with comments and trailing commas, by tree-sitter's grammar of JavaScript, of which it is a
part. Values are cut out of the text and put into it; no byte beside them changes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from variet.connect.documents.base import ABSENT, DocumentProblem, Spot, no_table

if TYPE_CHECKING:
    from tree_sitter import Node, Parser


class JsonDocument:
    def __init__(self, text: str) -> None:
        self.text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        found = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
        self._indent = found[1] if found else "  "
        if not _without_comments(text):
            self.text = text + ("" if not text or text.endswith("\n") else self._newline) + "{}" + self._newline
        _value(self._root())

    def get(self, at: Spot) -> Any:
        node: Node | None = self._root()
        for key in at:
            node = self._held(node, key) if node is not None else None
        return ABSENT if node is None else _value(node)

    def set(self, at: Spot, value: Any) -> None:
        node, depth = self._root(), 0
        while depth < len(at):
            if node.type != ("object" if isinstance(at[depth], str) else "array"):
                raise no_table(at[:depth])
            held = self._held(node, at[depth])
            if held is None:
                break
            node, depth = held, depth + 1
        if depth == len(at):
            self._splice(node.start_byte, node.end_byte, self._written(value, len(at)))
            return
        for key in reversed(at[depth + 1 :]):
            value = {key: value}
        self._insert(node, at[depth], value, depth + 1)

    def remove(self, at: Spot, *, keep: int = 0) -> None:
        stands = self.get(at)
        if stands is ABSENT or (stands in ([], {}) and self._commented(at)):
            return
        while len(at) > keep + 1 and self.get(at[:-1]) == {at[-1]: self.get(at)} and not self._commented(at[:-1]):
            at = at[:-1]
        self._cut(self._at(at[:-1]), at[-1])

    def _root(self) -> Node:
        bare = self.text.removeprefix("\ufeff")
        root = _parsed(f"({bare}\n)")
        if root is None:
            raise DocumentProblem("it is not JSON, not with comments either")
        return root

    def _at(self, at: Spot) -> Node:
        node = self._root()
        for key in at:
            held = self._held(node, key)
            assert held is not None
            node = held
        return node

    def _commented(self, at: Spot) -> bool:
        """Whether somebody wrote a comment into a table."""
        return any(child.type == "comment" for child in self._at(at).children)

    def _held(self, node: Node, key: str | int) -> Node | None:
        """A value of a table or a list."""
        item = self._item(node, key)
        return _field(item, "value") if item is not None and item.type == "pair" else item

    def _item(self, node: Node, key: str | int) -> Node | None:
        """With its name, in a table; there the last of that name, which is the one that counts."""
        if node.type == "object" and isinstance(key, str):
            return next((one for one in reversed(_items(node)) if _value(_field(one, "key")) == key), None)
        if node.type == "array" and isinstance(key, int):
            return next(iter(_items(node)[key : key + 1]), None)
        return None

    def _insert(self, around: Node, key: str | int, value: Any, depth: int) -> None:
        pad = self._indent * depth
        name = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(key, str) else ""
        line = f"{pad}{name}{self._written(value, depth)}"
        items = _items(around)
        close = around.children[-1].start_byte
        if not items:
            held = self._slice(around.start_byte + 1, close).rstrip()
            inner = f"{held}{self._newline}{line}{self._newline}{self._indent * (depth - 1)}"
            self._splice(around.start_byte + 1, close, inner)
            return
        after = next((one for one in around.children if one.type == "," and one.start_byte >= items[-1].end_byte), None)
        end = after.end_byte if after is not None else items[-1].end_byte
        rest = self._slice(end, close)
        found = re.match(r"(?:[ \t]*/\*[^\n]*?\*/)*(?:[ \t]*//[^\n\r]*)?", rest)  # behind the last value, on its line
        note = found[0] if found else ""
        at = end + len(note.encode())
        tail = "," if after is not None else ""  # whoever ends with a comma goes on so
        behind = rest[len(note) :]
        if "\n" in behind:
            self._splice(at, at, f"{self._newline}{line}{tail}")
        else:  # it closes on the same line
            broken = self._newline + self._indent * (depth - 1)
            self._splice(at, close, f"{behind.rstrip()}{self._newline}{line}{tail}{broken}")
        if after is None:
            self._splice(end, end, ",")

    def _cut(self, around: Node, key: str | int) -> None:
        item = self._item(around, key)
        assert item is not None
        commas = [one for one in around.children if one.type == ","]
        behind = next((one for one in commas if one.start_byte >= item.end_byte), None)
        others = [one for one in _items(around) if one.id != item.id]
        following = any(one.start_byte > item.end_byte for one in others)
        begin, end = item.start_byte, behind.end_byte if behind is not None else item.end_byte
        before = self._slice(around.start_byte + 1, begin)
        begin -= len(before.encode()) - len(before.rstrip(" \t").encode())
        line_end = re.match(r"[ \t]*\r?\n", self._slice(end, around.end_byte))
        if line_end and before.rstrip(" \t").endswith("\n"):
            end += len(line_end[0].encode())
        if not others and not any(one.type == "comment" for one in around.children):
            begin, end = around.start_byte + 1, around.end_byte - 1
        earlier = [one for one in commas if one.end_byte <= item.start_byte]
        self._splice(begin, end, "")
        if not following and behind is None and earlier:  # it was the last, without a comma: so is the one before it
            last = earlier[-1]
            self._splice(last.start_byte, last.end_byte, "")

    def _written(self, value: Any, depth: int) -> str:
        text = json.dumps(value, indent=self._indent, ensure_ascii=False)
        return text.replace("\n", self._newline + self._indent * depth)

    def _slice(self, begin: int, end: int) -> str:
        data = self._bytes()
        return data[begin:end].decode()

    def _splice(self, begin: int, end: int, new: str) -> None:
        data = self._bytes()
        mark = "\ufeff" if self.text.startswith("\ufeff") else ""
        joined = (data[:begin] + new.encode() + data[end:]).decode()
        self.text = mark + joined[1 : -len("\n)")]

    def _bytes(self) -> bytes:
        bare = self.text.removeprefix("\ufeff")
        return f"({bare}\n)".encode()


def _field(node: Node, name: str) -> Node:
    found = node.child_by_field_name(name)
    assert found is not None
    return found


def _items(node: Node) -> list[Node]:
    """Pairs of a table, values of a list."""
    return [one for one in node.named_children if one.type != "comment"]


def _value(node: Node) -> Any:
    """Raises DocumentProblem for what JavaScript knows and JSON does not."""
    text = (node.text or b"").decode()
    if node.type == "object":
        pairs = _items(node)
        if any(one.type != "pair" for one in pairs):
            raise DocumentProblem(f"it is not JSON in line {node.start_point.row + 1}")
        return {_key(_field(one, "key")): _value(_field(one, "value")) for one in pairs}
    if node.type == "array":
        return [_value(one) for one in _items(node)]
    try:
        return json.loads(text)
    except ValueError:
        raise DocumentProblem(f"it is not JSON in line {node.start_point.row + 1}") from None


def _key(node: Node) -> str:
    key = _value(node)
    if not isinstance(key, str):
        raise DocumentProblem(f"it is not JSON in line {node.start_point.row + 1}: a name is a string")
    return key


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text.removeprefix("\ufeff"), flags=re.DOTALL).strip()


def _parsed(text: str) -> Node | None:
    """The object in a text of parentheses around one; None where it is anything else."""
    root = _parser().parse(text.encode()).root_node
    if root.has_error:
        return None
    statements = [one for one in root.named_children if one.type != "comment"]
    if len(statements) != 1 or statements[0].type != "expression_statement":
        return None
    inside = [one for one in statements[0].named_children if one.type != "comment"]
    if len(inside) != 1 or inside[0].type != "parenthesized_expression":
        return None
    values = [one for one in inside[0].named_children if one.type != "comment"]
    return values[0] if len(values) == 1 and values[0].type == "object" else None


@cache
def _parser() -> Parser:
    import tree_sitter_javascript
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_javascript.language()))
