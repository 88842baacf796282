"""JSON as editors take it, with comments and trailing commas, by tree-sitter's grammar of JavaScript, of which it is a
part. Values are cut out of the text and put into it; no byte beside them changes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from variet.connect.documents.base import ABSENT, DocumentProblem, Place, no_table

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

    def get(self, at: Place) -> Any:
        node: Node | None = self._root()
        for key in at:
            node = self._member(node, key) if node is not None and node.type == "object" else None
            if node is None:
                return ABSENT
            node = node.child_by_field_name("value")
        return ABSENT if node is None else _value(node)

    def set(self, at: Place, value: Any) -> None:
        node, depth = self._root(), 0
        while depth < len(at):
            if node.type != "object":
                raise no_table(at[:depth])
            pair = self._member(node, at[depth])
            if pair is None:
                break
            node, depth = _field(pair, "value"), depth + 1
        if depth == len(at):
            self._splice(node.start_byte, node.end_byte, self._written(value, len(at)))
            return
        for key in reversed(at[depth + 1 :]):
            value = {key: value}
        self._insert(node, at[depth], value, depth + 1)

    def remove(self, at: Place) -> None:
        if self.get(at) is ABSENT:
            return
        while len(at) > 1 and self.get(at[:-1]) == {at[-1]: self.get(at)} and not self._commented(at[:-1]):
            at = at[:-1]
        node = self._root()
        for key in at[:-1]:
            pair = self._member(node, key)
            assert pair is not None
            node = _field(pair, "value")
        self._cut(node, at[-1])

    def _root(self) -> Node:
        bare = self.text.removeprefix("\ufeff")
        root = _parsed(f"({bare}\n)")
        if root is None:
            raise DocumentProblem("it is not JSON, not with comments either")
        return root

    def _commented(self, at: Place) -> bool:
        """Whether somebody wrote a comment into a table."""
        node = self._root()
        for key in at:
            pair = self._member(node, key)
            assert pair is not None
            node = _field(pair, "value")
        return any(child.type == "comment" for child in node.children)

    def _member(self, table: Node, key: str) -> Node | None:
        """The last of that name, which is the one that counts."""
        pairs = [one for one in table.named_children if one.type == "pair"]
        return next((one for one in reversed(pairs) if _value(_field(one, "key")) == key), None)

    def _insert(self, table: Node, key: str, value: Any, depth: int) -> None:
        pad = self._indent * depth
        line = f"{pad}{json.dumps(key, ensure_ascii=False)}: {self._written(value, depth)}"
        pairs = [one for one in table.named_children if one.type == "pair"]
        close = table.children[-1].start_byte
        if not pairs:
            held = self._slice(table.start_byte + 1, close).rstrip()
            inner = f"{held}{self._newline}{line}{self._newline}{self._indent * (depth - 1)}"
            self._splice(table.start_byte + 1, close, inner)
            return
        after = next((one for one in table.children if one.type == "," and one.start_byte >= pairs[-1].end_byte), None)
        end = after.end_byte if after is not None else pairs[-1].end_byte
        comma = "," if after is None else ""
        rest = self._slice(end, close)
        note = re.match(r"[ \t]*//[^\n\r]*", rest)  # behind the last value, on its line
        at = end + (len(note[0].encode()) if note else 0)
        tail = "," if after is not None else ""  # whoever ends with a comma goes on so
        on_one_line = "\n" not in rest[len(note[0]) if note else 0 :]
        broken = self._newline + self._indent * (depth - 1) if on_one_line else ""
        self._splice(at, close if on_one_line else at, f"{self._newline}{line}{tail}{broken}")
        if comma:
            self._splice(end, end, comma)

    def _cut(self, table: Node, key: str) -> None:
        pair = self._member(table, key)
        assert pair is not None
        commas = [one for one in table.children if one.type == ","]
        behind = next((one for one in commas if one.start_byte >= pair.end_byte), None)
        others = [one for one in table.named_children if one.type == "pair" and one.id != pair.id]
        following = any(one.start_byte > pair.end_byte for one in others)
        begin, end = pair.start_byte, behind.end_byte if behind is not None else pair.end_byte
        before = self._slice(table.start_byte + 1, begin)
        begin -= len(before.encode()) - len(before.rstrip(" \t").encode())
        line_end = re.match(r"[ \t]*\r?\n", self._slice(end, table.end_byte))
        if line_end and before.rstrip(" \t").endswith("\n"):
            end += len(line_end[0].encode())
        if not others and not any(one.type == "comment" for one in table.children):
            begin, end = table.start_byte + 1, table.end_byte - 1
        earlier = [one for one in commas if one.end_byte <= pair.start_byte]
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


def _value(node: Node) -> Any:
    """Raises DocumentProblem for what JavaScript knows and JSON does not."""
    text = (node.text or b"").decode()
    if node.type == "object":
        pairs = [one for one in node.named_children if one.type != "comment"]
        if any(one.type != "pair" for one in pairs):
            raise DocumentProblem(f"it is not JSON in line {node.start_point.row + 1}")
        return {_key(_field(one, "key")): _value(_field(one, "value")) for one in pairs}
    if node.type == "array":
        return [_value(one) for one in node.named_children if one.type != "comment"]
    try:
        return json.loads(text)
    except ValueError:
        raise DocumentProblem(f"it is not JSON in line {node.start_point.row + 1}: {text[:40]}") from None


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
