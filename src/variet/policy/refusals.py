"""Pure: whether a script of shell runs a command that a person refuses, or may.

`rm` is run by `for i in a; do rm $i; done`, by `sh -c 'rm x'`, by `echo "rm x" | sh`; it may be run by `$x y`. Each
doubt counts as a yes. What another program does by itself is not seen: a script in a file, Python, make. A property
test holds this against bash: a line that bash runs `rm` for is never let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from variet.policy import git_settings
from variet.policy.grammar import text_of, tree
from variet.policy.plain_words import plain_commands

if TYPE_CHECKING:
    from tree_sitter import Node

_GLOB, _SPECIAL = frozenset("*?["), frozenset("$`{}~!")
_DEPTH = 4  # scripts within words of scripts
_MOST_STEPS = 2_000  # each doubt has two readings: a line of many doubts would be read for hours
_TOKEN = re.compile(r"[^\s;|&()<>{},'\"`$\\]+")
_BACKQUOTED = re.compile(r"`((?:\\.|[^`\\])*)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command before bash expands it. `start`: its beginning, as far as that is certain. `whole`: `start`
    is all of it."""

    start: str
    whole: bool = True

    def may_be(self, other: str) -> bool:
        return self.start == other if self.whole else other.startswith(self.start)

    @property
    def is_option(self) -> bool:
        return len(self.start) > 1 and self.start[0] in "-+"


@dataclass(slots=True)
class Steps:
    """How many more commands are looked at. Behind the last, every command may be the refused command."""

    left: int

    def are_spent(self, steps: int = 1) -> bool:
        self.left -= steps
        return self.left < 0


_UNKNOWN = Word("", whole=False)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command of a script, wherever it stands. `fed`: the text of its here-document or here-string."""

    words: tuple[Word, ...]
    fed: Word | None = None


def may_run(text: str, command: Sequence[str]) -> bool:
    """Whether a script of bash may run this command: `("git", "push", "--force")`, by the name of its program, with
    options wherever they stand."""
    try:
        return not command or _may_run(text, command, _DEPTH, Steps(_MOST_STEPS))
    except RecursionError:
        return True


def _may_run(text: str, command: Sequence[str], depth: int, steps: Steps) -> bool:
    if depth == 0 or steps.are_spent(1 + len(text) // 100):
        return True
    found = invocations(text)
    if found is None:
        return not set(text).isdisjoint(_GLOB | _SPECIAL | {"\\"}) or may_name(text, command)
    return any(_Search(command, depth, steps).runs(invocation) for invocation in found)


def may_name(text: str, command: Sequence[str]) -> bool:
    """The same for a text of PowerShell, or that cannot be parsed: whether the command's words follow each other in it,
    or its words cannot be known."""
    if not set(text).isdisjoint("$`"):
        return True
    tokens = [Word(token) for token in _TOKEN.findall(text)]
    return any(_begins(tokens[at:], command) for at in range(len(tokens)))


def invocations(text: str) -> list[Invocation] | None:
    """Every command of a script, those of its loops, functions and substitutions, too. None: it cannot be parsed."""
    # Bash takes a backslash at a line's end away, but in single quotes: both readings count.
    readings = [text, text.replace("\\\n", "")] if "\\\n" in text else [text]
    found: list[Invocation] = []
    for reading in readings:
        root = tree(reading)
        if root is None or _is_unended(root):
            return None
        found += _gathered(root)
    return found + [Invocation(tuple(map(Word, words))) for words in plain_commands(text) or ()]


def _is_unended(node: Node) -> bool:
    """Whether a here-document has no last line. The grammar ends it somewhere within its text then."""
    if node.type == "heredoc_redirect":
        ends = [re.sub(r"['\"\\]", "", text_of(child)).strip() for child in node.children
                if child.type in ("heredoc_start", "heredoc_end")]  # fmt: skip
        if len(ends) != 2 or ends[0] != ends[1]:
            return True
    return any(_is_unended(child) for child in node.children)


def _gathered(node: Node) -> Iterator[Invocation]:
    if node.type in ("command", "declaration_command", "unset_command", "test_command"):
        skipped = ("file_redirect", "herestring_redirect", "heredoc_redirect", "variable_assignment")
        words = [_word(child) for child in node.children if child.type not in skipped]
        fed = [_word(child.children[-1]) for child in node.children if child.type == "herestring_redirect"]
        further, document = _document(node.parent)
        yield Invocation((*words, *further), fed[-1] if fed else document)
    text = text_of(node)
    # The grammar takes neither these apart nor a substitution within a substitution.
    untaken = node.type in ("expansion", "heredoc_body") and not _is_quoted(node)
    if "`" in text and (untaken or (node.type == "command_substitution" and "\\" in text)):
        for match in _BACKQUOTED.finditer(text):
            inner = invocations(re.sub(r"\\([$`\\])", r"\1", match[1]))
            yield from [Invocation((_UNKNOWN,))] if inner is None else inner
    for child in node.children:
        yield from _gathered(child)


def _document(node: Node | None) -> tuple[list[Word], Word | None]:
    """Of a statement with a here-document: the command's words that stand behind it in its line, and its text."""
    if node is None or node.type != "redirected_statement":
        return [], None
    documents = [child for child in node.children if child.type == "heredoc_redirect"]
    further = [
        _word(child) for each in documents for child in each.named_children
        if child.type in ("word", "number", "string", "raw_string", "concatenation", "simple_expansion", "expansion",
                          "command_substitution", "ansi_c_string")
    ]  # fmt: skip
    for each in reversed(documents):
        for body in each.named_children:
            if body.type == "heredoc_body":
                text = text_of(body)
                return further, Word(text) if _is_quoted(body) or not set(text) & set("$`\\") else _UNKNOWN
    return further, None


def _is_quoted(node: Node) -> bool:
    """Whether a here-document's text stands as it is: `<<'EOF'`."""
    starts = [child for child in (node.parent.children if node.parent else []) if child.type == "heredoc_start"]
    return node.type == "heredoc_body" and any(set("'\"\\") & set(text_of(start)) for start in starts)


def _word(node: Node) -> Word:
    """The word that bash makes of it, quotes and backslashes taken off."""
    text = text_of(node)
    if node.type in ("word", "number"):
        return _cut(text)
    if node.type == "raw_string":
        return Word(text[1:-1])
    if node.type == "string":
        plain = all(child.type in ('"', "string_content") for child in node.children) and "`" not in text
        return Word(re.sub(r'\\([$`"\\])', r"\1", text[1:-1])) if plain else _UNKNOWN
    if node.type == "process_substitution":
        return Word("/dev/fd/", whole=False)
    if node.type in ("concatenation", "command_name"):
        word = Word("")
        for child in node.children:
            part = _word(child)
            word = Word(word.start + part.start, part.whole)
            if not part.whole:
                break
        return word
    return _UNKNOWN if node.is_named else Word(text)


def _cut(text: str) -> Word:
    found = [at for at, letter in enumerate(text) if letter in _GLOB | _SPECIAL]
    start = text[: found[0]] if found else text
    return Word(re.sub(r"\\(.)", r"\1", start, flags=re.DOTALL), whole=not found)


# --- what a command runs ---

# Programs that run the command behind them: how many operands of their own stand before it.
_RUNNERS = {
    "env": 0, "sudo": 0, "doas": 0, "nohup": 0, "nice": 0, "ionice": 0, "timeout": 1, "time": 0, "command": 0,
    "builtin": 0, "exec": 0, "xargs": 0, "stdbuf": 0, "setsid": 0, "chroot": 1, "unshare": 0, "nsenter": 0, "bwrap": 0,
    "firejail": 0, "strace": 0, "ltrace": 0, "gdb": 0, "valgrind": 0, "perf": 1, "flock": 1, "script": 0, "busybox": 0,
    "toybox": 0, "chrt": 1, "taskset": 1, "numactl": 0, "prlimit": 0, "setpriv": 0, "setarch": 1, "runuser": 0,
    "pkexec": 0, "systemd-run": 0, "dbus-run-session": 0, "xvfb-run": 0, "faketime": 1, "entr": 0, "chronic": 0,
    "unbuffer": 0, "ts": 0, "sem": 0, "coproc": 0, "then": 0, "do": 0, "else": 0, "!": 0, "{": 0, "(": 0,
    "docker": 2, "podman": 2, "uv": 1, "poetry": 1, "pipenv": 1, "direnv": 2, "npx": 0, "start-stop-daemon": 0,
}  # fmt: skip
# These join their words, and a shell reads the result.
_JOINING = {"eval": 0, "watch": 0, "ssh": 1, "parallel": 0}
_SHELLS = frozenset(
    {"sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "yash", "csh", "tcsh", "pwsh", "su"}
)
_FIND_RUNS = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_GIT_RUNS = frozenset({"bisect", "submodule", "rebase", "filter-branch", "difftool", "mergetool"})
_INPUT = ("-", "/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_ASSIGNMENT = re.compile(r"\w+\+?=", re.ASCII)
_NUMBER = re.compile(r"[\d.,:-]+[smhd]?|0x[0-9a-f]+", re.IGNORECASE)
_PLAIN = re.compile(r"[\w./:=@%+,-]*")
_HAS_SCRIPT = re.compile(r"[-+][a-zA-Z]*[cC][a-zA-Z]*")  # `-c`, `-lc`
_HAS_VALUE = re.compile(r"[-+][a-zA-Z]*[oO]|--(rcfile|init-file)")


@dataclass(frozen=True, slots=True)
class _Search:
    command: Sequence[str]
    depth: int
    steps: Steps

    def runs(self, invocation: Invocation) -> bool:
        words = invocation.words
        if not words:
            return False
        if self.steps.are_spent():
            return True
        if _begins(words, self.command):
            return True
        name = words[0].start.rpartition("/")[2]
        if name in _SHELLS:
            return self._shell(words[1:], invocation.fed, is_su=name == "su")
        if name in (".", "source"):
            return self._file(words[1:2], invocation.fed)
        if name in _JOINING:
            return self._joined(words[1:], _JOINING[name]) or (name == "parallel" and self._fed(name, words[1:]))
        if name == "trap":
            return bool(words[1:]) and self._script(words[1])
        if name == "find":
            starts = [at + 1 for at, word in enumerate(words) if word.start in _FIND_RUNS]
            return any(self.runs(replace(invocation, words=words[at:])) for at in starts)
        if name == "git":
            return self._git(words[1:])
        if name == "command" and any(re.fullmatch("-[a-z]*[vV][a-z]*", word.start) for word in words[1:2]):
            return False  # it tells of a command, and runs none
        if name == "env" and any(re.match("-[a-zA-Z0]*S|--s", word.start) for word in words[1:]):
            return self._joined([_after_option(word) for word in words[1:]], 0)
        if name == "xargs":
            return self._fed(name, words[1:])
        return name in _RUNNERS and any(self._starts(words[1:], _RUNNERS[name], invocation.fed))

    def _starts(self, words: Sequence[Word], operands: int, fed: Word | None) -> Iterator[bool]:
        """For each word with which the command of a runner may begin: whether it is refused. The word behind an option
        may be its value, or not: both readings count."""
        # Of the runner's own operands, those still to come: if every word behind an option is a value, and if none is.
        most, least = operands, operands
        after_option = False
        for at, word in enumerate(words):
            if word.is_option:
                after_option = word.start != "--" and "=" not in word.start and not word.start[1:].isdigit()
                continue
            if _ASSIGNMENT.match(word.start):
                yield after_option and _is_text(word) and self._script(word)
                after_option = after_option and not word.whole
                continue
            if not (word.whole and _NUMBER.fullmatch(word.start)):
                if least == 0:
                    yield self.runs(Invocation(tuple(words[at:]), fed))
                    yield _is_text(word) and self._script(word)
                if most == 0 and not after_option:
                    return
            most, least = max(0, most - (not after_option)), max(0, least - 1)
            after_option = False

    def _fed(self, name: str, words: Sequence[Word]) -> bool:
        """xargs and parallel put words of their input behind the command."""
        return any(self._starts([*words, _UNKNOWN] if words else [], _RUNNERS.get(name, 0), None))

    def _joined(self, words: Sequence[Word], operands: int) -> bool:
        """Where the command begins is not always known: it may begin with each word."""
        rest = list(words)
        while rest and operands and not rest[0].is_option:
            rest, operands = rest[1:], operands - 1
        if any(not word.whole for word in rest):
            return True
        texts = [" ".join(word.start for word in rest[at:]) for at in range(len(rest))]
        return any(_may_run(text, self.command, self.depth - 1, self.steps) for text in texts)

    def _shell(self, words: Sequence[Word], fed: Word | None, *, is_su: bool) -> bool:
        if any(word.start in ("--version", "--help") for word in words):
            return False
        if any(_HAS_SCRIPT.fullmatch(word.start) or word.start.startswith(("--c", "--init-c")) for word in words):
            scripts = [_after_option(word) for word in words if not _HAS_SCRIPT.fullmatch(word.start)]
            return any(self._script(word) for word in scripts if word.start or not word.whole)
        operands = [
            word
            for before, word in zip([Word(""), *words], words, strict=False)
            if not word.is_option and not _HAS_VALUE.fullmatch(before.start)
        ]
        reads_input = is_su or not operands or any(re.fullmatch("-[a-z]*s", word.start) for word in words)
        return self._file([] if reads_input else operands[:1], fed)

    def _file(self, names: Sequence[Word], fed: Word | None) -> bool:
        """A shell that reads a file, or its input. Files are not looked into."""
        if names and not names[0].start.startswith(_INPUT[1:]) and names[0].start != "-":
            return False
        return True if fed is None else self._script(fed)

    def _script(self, word: Word) -> bool:
        return not word.whole or _may_run(word.start, self.command, self.depth - 1, self.steps)

    def _git(self, words: Sequence[Word]) -> bool:
        """Settings that run a program, aliases, and git's commands that run what they are given."""
        settings = [word for before, word in pairwise(words) if before.start == "-c"]
        for word in settings:
            key, _, value = word.start.partition("=")
            if git_settings.running([key]) and self._script(replace(word, start=value.removeprefix("!"))):
                return True
        if any(word.start.startswith("!") and self._script(replace(word, start=word.start[1:])) for word in words):
            return True
        if not any(word.start in _GIT_RUNS for word in words):
            return False
        tails = [Invocation(tuple(words[at:])) for at in range(1, len(words))]
        scripts = [_after_option(word) for word in words]
        return any(self.runs(tail) for tail in tails) or any(self._script(word) for word in scripts if word.whole)


def _is_text(word: Word) -> bool:
    """Whether a shell that reads this word may see more than a word."""
    return not _PLAIN.fullmatch(word.start)


def _after_option(word: Word) -> Word:
    """`rm x` of `--exec=rm x`, `-Srm x`; another word as it is."""
    if not word.is_option:
        return word
    found = re.match(r"--[\w-]+=|--[\w-]*|-[a-zA-Z0]*S|-x|-", word.start)
    return replace(word, start=word.start[found.end() :] if found else word.start)


# --- one command against a person's words ---


def _begins(words: Sequence[Word], command: Sequence[str]) -> bool:
    """Whether these are the words of the command, options anywhere, by the name of its program."""
    if not words:
        return False
    first, wanted = words[0], command[0]
    if first.whole and wanted != (first.start if "/" in wanted else first.start.rpartition("/")[2]):
        return False
    options = [option for option in command[1:] if option.startswith("-")]
    return all(_has_option(words[1:], option) for option in options) and _follow(
        words[1:], [word for word in command[1:] if not word.startswith("-")]
    )


def _has_option(words: Sequence[Word], option: str) -> bool:
    """`--force` is given by `--force`, `--force=x` and `--forc`; `-rf` by `-rf`, `-fr` and `-r -f`."""
    if any(word.may_be(option) if not word.whole else word.start.partition("=")[0] == option for word in words):
        return True
    if option.startswith("--"):
        return any(len(word.start) > 3 and option.startswith(word.start.partition("=")[0]) for word in words
                   if word.start.startswith("--"))  # fmt: skip
    letters = {letter for word in words if re.match("-[^-]", word.start) for letter in word.start[1:]}
    return set(option[1:]) <= letters


def _follow(rest: Sequence[Word], words: Sequence[str]) -> bool:
    """Whether these operands come first. An option may have a value behind it, or not: both readings count."""
    if not words:
        return True
    for at, word in enumerate(rest):
        if word.may_be(words[0]) and _follow(rest[at + 1 :], words[1:]):
            return True
        is_value = at > 0 and (rest[at - 1].is_option or not rest[at - 1].whole)
        if not word.is_option and word.whole and not is_value:
            return False
    return False
