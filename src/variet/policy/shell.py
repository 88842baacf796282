"""Pure: what a line of shell consists of, and whether it is known to be harmless. Parsed by tree-sitter, never matched.

Whatever is not plainly understood counts as not clear: expansions, substitutions, files written to, functions,
here-documents, comments, characters that people do not see, an error of the parser, a line that a second, plainer
reading takes apart in another way. What only looks is known by name and by each of its options. A property test holds
the words against bash's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from variet.policy.grammar import MOST_CHARS, text_of, tree
from variet.policy.plain_words import plain_commands

if TYPE_CHECKING:
    from tree_sitter import Node

_PLAIN = frozenset({"program", "list", "pipeline", "command", "redirected_statement", "command_name"})
_SIGNS = frozenset({"&&", "||", ";", "|", "\n"})
_SPECIAL = frozenset("$`{}~!\\")  # in a bare word: it may become something else
_GLOB = frozenset("*?[")
# What `compgen -k` prints: never the name of a command, but in quotes.
_RESERVED = frozenset(
    {"if", "then", "else", "elif", "fi", "case", "esac", "for", "select", "while", "until", "do", "done", "in",
     "function", "time", "{", "}", "!", "[[", "]]", "coproc"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parsed:
    """`commands`: the words of each simple command. `clear`: they are all that happens, words being what they seem, but
    for names of files that `globs` stand for. `why`: what is not clear. `bash`: the language; PowerShell is not."""

    text: str
    commands: tuple[tuple[str, ...], ...]
    clear: bool
    why: str = ""
    globs: bool = False
    bash: bool = True


def leaves_running(parsed: Parsed) -> bool:
    """Whether a command starts something in the background, and waits for none of it."""
    if not parsed.bash or any(words[:1] == ("wait",) for words in parsed.commands):
        return False
    pending = [tree(parsed.text)]
    while pending:
        node = pending.pop()
        if node is not None:
            if node.type == "&":
                return True
            pending += node.children
    return False


def parse(text: str) -> Parsed:
    """A line or script of bash."""
    if len(text) > MOST_CHARS:
        return Parsed(text, (), False, "it is too long to be looked through")
    if any(not (one.isprintable() and (one == " " or not one.isspace())) and one not in "\n\t" for one in text):
        return Parsed(text, (), False, "it has characters that nobody sees")
    root = tree(text)
    if root is None:
        return Parsed(text, (), False, "it cannot be parsed")
    commands: list[tuple[str, ...]] = []
    why = _walk(root, commands)
    if not why and plain_commands(text) != commands:
        why = "it can be read in two ways"
    return Parsed(text, tuple(commands), not why, why, _globs(root))


def _walk(node: Node, commands: list[tuple[str, ...]]) -> str:
    """Gathers simple commands; returns why it is not clear, or nothing."""
    if node.type in _SIGNS:
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
            word = text_of(inner)
        words.append(word)
    if words and (words[0] in _RESERVED or words[0].startswith("%")):  # `%1` is a job
        why = why or f"it has bash's own word {words[0]!r} where a command stands"
    if words:
        commands.append(tuple(words))
    return why


def _word(node: Node) -> str | None:
    text = text_of(node)
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
        return bool(_GLOB & set(text_of(node)))
    return any(_globs(child) for child in node.children)


def _redirect(node: Node) -> str:
    """Only `> /dev/null` and the like, and descriptors onto each other: an operator with exactly one word behind it."""
    words = [text_of(child) for child in node.children if child.type != "file_descriptor"]
    if len(words) == 2 and words[0] in (">", ">>", "&>", "&>>", "<", ">|") and words[1] == "/dev/null":
        return ""
    if len(words) == 2 and words[0] == ">&" and words[1] in ("1", "2"):
        return ""
    return "it reads from a file" if words and words[0].startswith("<") else "it writes to a file"


def _named(kind: str) -> str:
    words = kind.replace("_", " ")
    return words if words.endswith("s") else f"a {words}"


# --- commands that change nothing and run nothing ---


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
    if words[0] != "git" or len(words) < 2:
        return False
    known = _GIT_WRITES.get(words[1])
    if known is None or not known.allow(words[2:]):
        return False
    return words[1] not in _GIT_FAR or all(map(_NAME.fullmatch, known.operands(words[2:])))


def far_git(parsed: Parsed) -> bool:
    """Whether git reaches another repository in it."""
    return any(words[:1] == ("git",) and words[1:2] and words[1] in _GIT_FAR for words in parsed.commands)


def paths_of(parsed: Parsed) -> tuple[str, ...]:
    """Words that may be paths, and what stands behind a `=` in one: an option may be a file's name."""
    words = [word for command in parsed.commands for word in command[1:]]
    return tuple(part for word in words for part in (word, word.partition("=")[2]) if part)


@dataclass(frozen=True, slots=True)
class _Options:
    """What a command may be given: `letters` bundled or alone, those in `values` with a value behind them; `long` ones
    by their whole name. Abbreviated or unknown ones are refused."""

    letters: str = ""
    long: frozenset[str] = frozenset()
    values: str = ""

    def allow(self, words: Sequence[str]) -> bool:
        before = ""
        for word in words:
            if word == "--":  # of an option that wants a value it would be that, and options would go on
                return not self._wants_value(before)
            before = word
            if word.startswith("--"):
                if word.partition("=")[0] not in self.long:
                    return False
            elif word.startswith("-") and not self._bundle(word[1:]):
                return False
        return True

    def operands(self, words: Sequence[str]) -> list[str]:
        return [word for word in words if not word.startswith("-")]

    def _wants_value(self, word: str) -> bool:
        """Whether the next word may be the value of this one."""
        if word.startswith("--"):
            return "=" not in word
        return len(word) > 1 and word.startswith("-") and word[-1] in self.values

    def _bundle(self, letters: str) -> bool:
        for one in letters:
            if one in self.values:
                return True
            if one not in self.letters:
                return False
        return True


def _of(letters: str = "", values: str = "", *long: str) -> _Options:
    return _Options(letters, frozenset(f"--{one}" for one in long), values)


def _harmless(words: tuple[str, ...]) -> bool:
    if words[0] == "git":
        known = _GIT_LOOKS.get(words[1]) if len(words) > 1 else None
        return known is not None and known.allow(words[2:])
    if words[0] == "find":
        return all(word in _FIND for word in words[1:] if word.startswith("-"))
    if words[0] in _TALK:
        return True
    known = _LOOKING.get(words[0])
    return known is not None and known.allow(words[1:])


_DIGITS = "0123456789"
_TALK = frozenset({"echo", "true", "false", "basename", "dirname", "pwd"})  # no option of theirs does anything else
_FIND = frozenset(
    {"-name", "-iname", "-path", "-ipath", "-wholename", "-type", "-maxdepth", "-mindepth", "-size", "-mtime", "-mmin",
     "-newer", "-not", "-o", "-or", "-a", "-and", "-print", "-print0", "-empty", "-prune", "-regex", "-iregex", "-P"}
)  # fmt: skip
_GREP = (
    "include", "exclude", "exclude-dir", "color", "line-number", "ignore-case", "recursive", "count", "invert-match",
    "files-with-matches", "files-without-match", "only-matching", "word-regexp", "fixed-strings", "extended-regexp",
    "max-count", "context", "after-context", "before-context", "no-messages", "with-filename", "no-filename", "regexp",
)  # fmt: skip
_LOOKING: dict[str, _Options] = {
    "ls": _of("aAlhtrSRd1FpsiGnogkmUX", "", "all", "almost-all", "color", "human-readable", "recursive", "reverse"),
    "cat": _of("AbEnsTvet", "", "number", "show-all"),
    "head": _of("qv" + _DIGITS, "nc", "lines", "bytes"),
    "tail": _of("qv" + _DIGITS, "nc", "lines", "bytes"),
    "wc": _of("lwcmL", "", "lines", "words", "bytes", "chars"),
    "cut": _of("sn", "dfcb", "delimiter", "fields", "characters", "complement", "output-delimiter"),
    "tr": _of("cCdst", "", "delete", "squeeze-repeats", "complement"),
    "nl": _of("p", "abdfhilnsvw"),
    "cmp": _of("bls", "n"),
    "diff": _of("uabBwiqsyNcpt" + _DIGITS, "UCW", "unified", "brief", "color", "side-by-side", "ignore-all-space"),
    "stat": _of("ft", "c", "format", "terse"),
    "du": _of("shackmx" + _DIGITS, "d", "max-depth", "summarize", "human-readable", "all", "total"),
    "realpath": _of("emqsz"),
    "which": _of("a"),
    "sort": _of("bdfghinruVcMRsz", "kt", "numeric-sort", "reverse", "unique", "key", "field-separator", "version-sort"),
    "grep": _of("abcEFGHhiIlLnoPqrsvwxyZz" + _DIGITS, "emABC", *_GREP),
    "rg": _of(
        "cFiIlnNoSsuUvwx.", "egtTmABCr", *_GREP, "files", "glob", "iglob", "type", "type-not", "hidden", "no-ignore",
        "smart-case", "heading", "no-heading", "json", "sort", "max-depth", "multiline", "stats", "case-sensitive",
    ),
}  # fmt: skip
_LOG = (
    "oneline", "stat", "numstat", "shortstat", "summary", "name-only", "name-status", "graph", "all", "decorate",
    "format",
    "pretty", "abbrev-commit", "author", "committer", "since", "until", "after", "before", "grep", "patch", "no-patch",
    "follow", "no-merges", "merges", "max-count", "skip", "reverse", "date", "color", "no-color", "word-diff",
    "unified",
    "find-renames", "no-renames", "diff-filter", "ignore-all-space", "first-parent", "branches", "tags", "remotes",
    "cached", "staged", "minimal", "patience", "histogram", "function-context", "no-ext-diff", "no-textconv", "check",
    "exit-code", "quiet", "raw", "abbrev", "relative", "merge-base", "cc", "root", "left-right", "cherry-pick",
)  # fmt: skip
_GIT_LOOKS: dict[str, _Options] = {
    "status": _of("sbvz", "u", "short", "branch", "porcelain", "untracked-files", "ignored", "long", "show-stash"),
    "diff": _of("puwbRzaWs" + _DIGITS, "USGlMCB", *_LOG),
    "log": _of("puwbzaWsgcmti" + _DIGITS, "nUSGLMCB", *_LOG),
    "show": _of("puwbzaWscmt" + _DIGITS, "nUSGMCB", *_LOG),
    "blame": _of("wsetfnMCl", "L", "porcelain", "line-porcelain", "date", "show-email"),
    "rev-parse": _of("q", "", "show-toplevel", "abbrev-ref", "is-inside-work-tree", "git-dir", "short", "verify",
            "quiet",
                     "show-prefix", "show-current"),
    "ls-files": _of("cdmosuzt", "", "others", "exclude-standard", "cached", "modified", "deleted", "stage", "unmerged"),
}  # fmt: skip
# Commands of git's own on its repository: no option that runs a program, names a strategy or leads elsewhere.
_GIT_WRITES: dict[str, _Options] = {
    "init": _of("q", "b", "quiet", "initial-branch"),
    "add": _of("AufnvN", "", "all", "update", "force", "intent-to-add", "verbose"),
    "commit": _of("aqsvn", "m", "message", "all", "amend", "no-edit", "allow-empty", "quiet", "author", "date",
            "signoff"),
    "checkout": _of("qf", "bB", "quiet", "force", "detach", "ours", "theirs", "track"),
    "switch": _of("qfd", "cC", "quiet", "create", "detach", "discard-changes", "track"),
    "restore": _of("qSW", "s", "staged", "worktree", "source", "ours", "theirs"),
    "reset": _of("q", "", "soft", "mixed", "hard", "keep", "quiet"),
    "stash": _of("uaqk", "m", "include-untracked", "all", "keep-index", "message", "quiet", "index"),
    "branch": _of("adDmMrvfq", "", "all", "delete", "move", "list", "force", "show-current", "verbose", "track",
            "merged"),
    "tag": _of("adlfn", "m", "annotate", "delete", "list", "force", "message"),
    "merge": _of("q", "m", "no-ff", "ff-only", "squash", "abort", "continue", "no-edit", "quit"),
    "rebase": _of("q", "", "abort", "continue", "skip", "onto", "autostash", "quit"),
    "rm": _of("rfnq", "", "cached", "force", "quiet"),
    "mv": _of("fnkv"),
    "cherry-pick": _of("n", "", "abort", "continue", "skip", "no-commit", "quit"),
    "revert": _of("n", "", "abort", "continue", "skip", "no-commit", "no-edit", "quit"),
    "clean": _of("fdnqx", "", "force", "dry-run"),
    "fetch": _of("pqtav", "", "all", "prune", "tags", "quiet", "verbose"),
    "pull": _of("qv", "", "ff-only", "no-rebase", "rebase", "quiet", "tags", "no-edit"),
    "push": _of("uqfnv", "", "set-upstream", "force-with-lease", "tags", "quiet", "delete", "all"),
}  # fmt: skip
_GIT_FAR = frozenset({"fetch", "pull", "push"})
# Of a remote or a branch: no address, no path that leads up.
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*(?::[A-Za-z0-9_][\w./-]*)?")
