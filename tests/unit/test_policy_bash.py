"""The shell policy against bash itself: what it takes for a plain command, bash reads as the same words; what counts as
looking writes nothing when it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from variet.policy import shell

BASH = shutil.which("bash") or ""
pytestmark = pytest.mark.skipif(not BASH, reason="there is no bash to compare with")

# Every builtin is taken away but `printf`, nothing is on the search path: so each command is "not found", and logged.
_LOGS = """
for name in $(compgen -b); do [ "$name" = printf ] || names="$names $name"; done
command_not_found_handle() { printf '%s\\0' "$#" "$@" >> "$VARIET_LOG"; }
PATH=/nowhere
builtin enable -n $names
"""

_BLANKS = [" ", " ", " ", "  ", "\t"]
_QUOTED = ["'a b'", '"a b"', "'", '"', "''", '""', "'a", 'b"', "\\ ", "\\'", "\\\n", "\\", "\\\\", "a\\\nb", "'\\\n'",
           '"\\\n"', "$'a\\nb'", '$"a"', "$'", "'a'b\"c\""]  # fmt: skip
_EXPANDED = ["$x", "${x}", "$(id)", "`id`", "$((1+1))", "~", "~root", "{a,b}", "{1..3}", "*", "?", "[ab]", "!!", "!a",
             "@(a|b)", "<(id)", "${x:-a}", "$[1+1]"]  # fmt: skip
_OPERATORS = [";", "&&", "||", "|", "&", "\n", "|&", ";;", "(", ")", "{", "}", "!", "((", "))", "[[", "]]"]
_REDIRECTS = ["> out", ">> out", ">out", "2>&1", ">/dev/null", "> /dev/null", "&>/dev/null", "<in", "< /dev/null",
              "<<X", "<<'X'", "<<-X", "<<<a", ">&2", "2>", ">|out", "<>out", "{fd}>out", "3>out", ">a >/dev/null",
              "X"]  # fmt: skip
_WORDS = ["ls", "cat", "echo", "sort", "grep", "git", "status", "rm", "tee", "find", "head", "a", "b", "-", "-l", "-o",
          "out", "--", "--output=out", "a=b", "=", "#", "a#b", "if", "then", "fi", "for", "in", "do", "done", "time",
          "case", "esac", "function", "coproc", "é", "漢", "\u00a0", "\u3000", "\u2028", "\x0b", "\x0c", "\r", "\x85",
          "1", "2", "%", "^", "+", ",", ":", "@", "-exec", "-delete", "-r", "-n"]  # fmt: skip
TEXTS = st.lists(
    st.one_of(*map(st.sampled_from, (_BLANKS, _BLANKS, _WORDS, _WORDS, _QUOTED, _EXPANDED, _OPERATORS, _REDIRECTS))),
    max_size=14,
).map("".join)

_LOOKING = [
    "ls -la src", "cat a.py | head -5", "git status && git diff --stat", "grep -rn 'a b' src", "sort -k2 -u a",
    "pwd; echo done", "find . -name '*.py' -type f", 'grep "x y" a 2>/dev/null', "wc -l a b", "cut -d: -f1 a",
    "git log --oneline | cat", "cat a 2>&1", "head -20 a", "grep -rnA3 -e x --include='*.py' .", "tail -n 3 a",
    "diff -u a b", "rg -n x -g '*.py'", "find . -maxdepth 2", "ls >/dev/null 2>&1", "sort -r a out", "uniq a out",
    "sort - o out a", "nl a", "tr a b", "stat -c %s a", "du -sh .", "realpath a", "cmp a b",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A command that looks, with some of its characters changed."""
    text = draw(st.sampled_from(_LOOKING))
    pieces = st.sampled_from([*_QUOTED, *_EXPANDED, *_OPERATORS, *_REDIRECTS, *_WORDS, *_BLANKS, ""])
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 2)))
        text = text[:begin] + draw(pieces) + text[end:]
    return text


def words_of_bash(text: str, folder: Path, locale: str) -> Counter[tuple[str, ...]]:
    log, rules = folder / "log", folder / "rules"
    log.unlink(missing_ok=True)
    rules.write_text(_LOGS)
    where = {"BASH_ENV": str(rules), "VARIET_LOG": str(log), "LC_ALL": locale, "PATH": "/nowhere"}
    (folder / "here").mkdir(exist_ok=True)
    subprocess.run(
        [BASH, "-c", "--", text],
        cwd=folder / "here",
        env=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
    )
    fields = log.read_bytes().decode(errors="surrogateescape").split("\0")[:-1] if log.exists() else []
    found: Counter[tuple[str, ...]] = Counter()
    while fields:
        count = int(fields[0])
        found[tuple(fields[1 : 1 + count])] += 1
        fields = fields[1 + count :]
    return found


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(TEXTS, mutated()))
@example("sort -\\\no out in")
@example("cat a\\\nb")
@example("echo a \\\n b")
@example(">a >/dev/null cat b")
@example("cat a -2>&1")
@example("ls 1/dev/nul>&22>&1")
@example("then")
@example("%ls -la")
@example("ls 'a\\\nb'")
def test_what_is_clear_is_read_by_bash_as_the_same_words(tmp_path: Path, locale: str, text: str) -> None:
    parsed = shell.parse(text)
    if not parsed.clear or parsed.globs or any("printf" in words[0] for words in parsed.commands):
        return
    real = words_of_bash(text, tmp_path, locale)
    ours = Counter(words for words in parsed.commands if "/" not in words[0])  # a path is not looked for
    assert not real - ours, (text, real, ours)
    if "||" not in text and "&&" not in text:
        assert real == ours, (text, real, ours)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(mutated(), TEXTS))
@example("sort -\\\no out in")
@example(">a >/dev/null cat b")
def test_what_looks_writes_nothing(tmp_path: Path, text: str) -> None:
    if not shell.harmless(shell.parse(text)):
        return
    here = tmp_path / "here"
    if not here.exists():
        here.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=here, check=True)
        for name in ("a", "b", "a.py", "in"):
            (here / name).write_text("x y\nz\n")
    before = _state(here)
    where = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "GIT_OPTIONAL_LOCKS": "0"}
    subprocess.run(
        [BASH, "-c", "--", text], cwd=here, env=where, stdin=subprocess.DEVNULL, capture_output=True, timeout=20
    )
    assert _state(here) == before, text


def _state(folder: Path) -> dict[str, bytes]:
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
