"""Pure: what a line of shell consists of, and whether it is known to be harmless. Parsed by tree-sitter, never matched.

Whatever is not plainly understood counts as not clear: expansions, substitutions, files written to, functions,
here-documents, an error of the parser. Source of the node names: the grammar tree-sitter-bash 0.25.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_PLAIN = frozenset({"program", "list", "pipeline", "command", "redirected_statement", "command_name"})
_SIGNS = frozenset({"&&", "||", ";", "|", "\n"})
_SPECIAL = frozenset("$`{}~!\\")  # in a bare word: it may become something else
_GLOB = frozenset("*?[")
_MOST = 20_000  # characters of a line that is parsed


@dataclass(frozen=True, slots=True)
class Parsed:
    """`commands`: the words of each simple command. `clear`: they are all that happens, words being what they seem, but
    for names of files that `globs` stand for. `why`: what is not clear."""

    text: str
    commands: tuple[tuple[str, ...], ...]
    clear: bool
    why: str = ""
    globs: bool = False


def parse(text: str) -> Parsed:
    """A line or script of bash."""
    if len(text) > _MOST:
        return Parsed(text, (), False, "it is too long to be looked through")
    tree = _parser().parse(text.encode())
    commands: list[tuple[str, ...]] = []
    why = "it cannot be parsed" if tree.root_node.has_error else _walk(tree.root_node, commands)
    return Parsed(text, tuple(commands), not why, why, _globs(tree.root_node))


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _walk(node: Node, commands: list[tuple[str, ...]]) -> str:
    """Gathers simple commands; returns why it is not clear, or nothing."""
    if node.type == "comment" or node.type in _SIGNS:
        return ""
    if node.type == "file_redirect":
        return _redirect(node)
    if node.type == "command":
        return _command(node, commands)
    if node.type not in _PLAIN:
        return f"it has {_named(node.type)}"
    whys = [_walk(child, commands) for child in node.children]
    return next((why for why in whys if why), "")


def _command(node: Node, commands: list[tuple[str, ...]]) -> str:
    words: list[str] = []
    why = ""
    for child in node.children:
        inner = child.children[0] if child.type == "command_name" and child.children else child
        if inner.type == "file_redirect":
            why = why or _redirect(inner)
            continue
        word = _word(inner)
        if word is None:
            why = why or f"it has {_named(inner.type)}"
            word = _text(inner)
        words.append(word)
    if words:
        commands.append(tuple(words))
    return why


def _word(node: Node) -> str | None:
    text = _text(node)
    if node.type in ("word", "number"):
        return None if _SPECIAL & set(text) else text
    if node.type == "raw_string":
        return text[1:-1]
    if node.type == "string" and all(child.type in ('"', "string_content") for child in node.children):
        return None if "\\" in text else text[1:-1]
    if node.type == "concatenation":
        parts = [_word(child) for child in node.children]
        return None if None in parts else "".join(part or "" for part in parts)
    return None


def _globs(node: Node) -> bool:
    if node.type == "word":
        return bool(_GLOB & set(_text(node)))
    return any(_globs(child) for child in node.children)


def _redirect(node: Node) -> str:
    words = [_text(child) for child in node.children]
    if words[-1] == "/dev/null" or (len(words) > 1 and words[-2] in (">&", "<&") and words[-1].isdigit()):
        return ""
    return "it reads from a file" if "<" in words else "it writes to a file"


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _named(kind: str) -> str:
    words = kind.replace("_", " ")
    return words if words.endswith("s") else f"a {words}"


# --- commands that change nothing and run nothing ---

_Check = Callable[[tuple[str, ...]], bool]


def harmless(parsed: Parsed) -> bool:
    """Whether every command of it only looks at things, by name and options, wherever its paths lead."""
    return (
        parsed.clear
        and not parsed.globs
        and bool(parsed.commands)
        and all(_harmless(words) for words in parsed.commands)
    )


def only_git(parsed: Parsed) -> bool:
    """Whether it is nothing but git's own commands on its repository, and looking: none that runs another program."""
    return (
        parsed.clear and bool(parsed.commands) and all(_own_git(words) or _harmless(words) for words in parsed.commands)
    )


def _own_git(words: tuple[str, ...]) -> bool:
    return (
        words[0] == "git"
        and words[1:2] != ()
        and words[1] in _GIT_WRITES
        and not any(word.startswith(("--exec", "-x", "--upload-pack", "--template", "--strategy=")) for word in words)
    )


_GIT_WRITES = frozenset(
    {"add", "commit", "checkout", "switch", "restore", "reset", "stash", "branch", "tag", "merge", "rebase", "rm", "mv",
     "cherry-pick", "revert", "fetch", "pull", "push", "clean"}
)  # fmt: skip


def paths_of(parsed: Parsed) -> tuple[str, ...]:
    """Words that may be paths."""
    words = [word for command in parsed.commands for word in command[1:]]
    return tuple(word.partition("=")[2] if word.startswith("-") else word for word in words)


def _harmless(words: tuple[str, ...]) -> bool:
    check = _LOOKING.get(words[0])
    return check is not None and check(words)


def _without(*bad: str) -> _Check:
    def check(words: tuple[str, ...]) -> bool:
        return not any(word.startswith(bad) for word in words[1:])

    return check


def _git(words: tuple[str, ...]) -> bool:
    if len(words) < 2 or words[1] not in ("status", "diff", "log", "show", "blame", "rev-parse", "ls-files"):
        return False
    return not any(word.startswith(("--output", "--ext-diff", "--textconv", "-O", "--open")) for word in words)


_ANY: _Check = lambda words: True  # noqa: E731 - a table's entry
_LOOKING: dict[str, _Check] = {
    **dict.fromkeys(
        ("ls", "cat", "head", "tail", "wc", "pwd", "echo", "true", "false", "cut", "tr", "diff", "stat", "du",
         "basename", "dirname", "realpath", "nl", "cmp", "test", "[", "printf", "which"), _ANY,
    ),
    "cd": _ANY,
    "grep": _without("-R", "--dereference"),
    "rg": _without("--pre", "-L", "--follow", "-z", "--search-zip", "--hostname-bin"),
    "sort": _without("-o", "--output", "--compress-program", "-T", "--temporary"),
    "find": _without("-exec", "-ok", "-delete", "-fprint", "-fls", "-L"),
    "git": _git,
}  # fmt: skip
