"""The syntax tree of a bash script. Source of the node names: the grammar tree-sitter-bash 0.25."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MOST_CHARS = 20_000  # of a script that is parsed
_MOST_DEPTH = 100  # readers of the tree call themselves for each level


def tree(text: str) -> Node | None:
    """None: it cannot be parsed, is too long, or nested too deep."""
    if len(text) > MOST_CHARS:
        return None
    root = _parser().parse(text.encode(errors="replace")).root_node
    return None if root.has_error or _is_deep(root) else root


def _is_deep(root: Node) -> bool:
    cursor = root.walk()
    while cursor.depth <= _MOST_DEPTH:
        if cursor.goto_first_child() or cursor.goto_next_sibling():
            continue
        while cursor.goto_parent():
            if cursor.goto_next_sibling():
                break
        else:
            return False
    return True


def text_of(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))
