"""Pure: a second reading of a shell line, of the plainest lines alone, character by character.

`ls -la 'a b' | head -5 2>/dev/null` is plain; `$x`, `\\`, `(`, `&`, `{`, a comment, a here-document are not. The parser
(tree-sitter) is made for editors and guesses: it reads `-2>&1` as a descriptor, and passes over a backslash at the end
of a line. So a line counts as understood only if both readings agree. Source of the rules: POSIX, Shell Command
Language, 2.3 Token Recognition.
"""

from __future__ import annotations

import re

_REDIRECT = re.compile(r"(?:(?:&>>?|>>|>\||>|<)[ \t]*/dev/null|>&[ \t]*[12])(?=[ \t\n;|&<>]|$)")
_END = re.compile(r"&&|\|\||[;|\n](?![;|&])")
_NEVER = frozenset("$`{}~!\\()")


def plain_commands(text: str) -> list[tuple[str, ...]] | None:
    """The words of each simple command; None for a text that is not plain, or not a whole line."""
    commands: list[tuple[str, ...]] = []
    words: list[str] = []
    word: str | None = None
    quoted = False
    at = 0
    while at < len(text):
        letter = text[at]
        if letter in "'\"":
            end = text.find(letter, at + 1)
            inner = text[at + 1 : end]
            if end < 0 or (letter == '"' and set(inner) & set("$`\\!")):
                return None
            word, quoted, at = (word or "") + inner, True, end + 1
            continue
        if letter in _NEVER or (letter == "#" and word is None):
            return None
        if letter not in " \t\n;|&<>":
            word, at = (word or "") + letter, at + 1
            continue
        is_descriptor = letter in "<>" and word is not None and not quoted and re.fullmatch("[0-9]+", word)
        if word is not None and not is_descriptor:
            words.append(word)
        word, quoted = None, False
        if letter in " \t":
            at += 1
        elif found := _REDIRECT.match(text, at):
            at = found.end()
        elif found := _END.match(text, at):
            if words:
                commands.append(tuple(words))
            elif found[0] != "\n":
                return None  # an operator without a command before it
            words, at = [], found.end()
        else:
            return None
    if word is not None:
        words.append(word)
    return [*commands, tuple(words)] if words else commands
