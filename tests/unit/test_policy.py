"""What an action may do: decided from plain facts, never less strict for want of one."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from variet.policy import git_settings, shell
from variet.policy.action import MODES, Action, Facts, Mode, Rule, Sink
from variet.policy.decide import decide


def command(text: str, *, inside: bool = True) -> Sink:
    return Sink("shell", (text,), inside=inside, command=shell.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "ls", "ls -la src", "cat a.py | head -5", "git status && git diff --stat", "grep -rn 'a b' src",
        "pwd; echo done",
        "find . -name '*.py' -type f", 'grep "x y" a 2>/dev/null', "wc -l a b", "git log --oneline | cat",
        "cat a 2>&1", "head -20 a", "grep -rnA3 -e x --include='*.py' .", "git diff --cached -U5", "sort -k2 -u a",
        "git log -p -n 3 -- a", "rg -n x -g '*.py'", "find . -maxdepth 2", "ls >/dev/null 2>&1",
    ],
)  # fmt: skip
def test_looking_around_is_harmless(text: str) -> None:
    assert shell.harmless(shell.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "", "(" * 500 + "ls" + ")" * 500,
        "rm a", "ls > a", "cat a >> b", "echo $(rm a)", "echo `rm a`", "ls; rm a", "ls | xargs rm", "cat $HOME/x",
        "cat ~/.ssh/id_rsa", "find . -delete", "find . -exec rm {} ;", "find . -fprint x", "sort -o a a", "LS=1 ls",
        "PAGER=sh git log", "git -c core.pager=x log", "git push", "git diff --output=x", "git diff --ext-diff",
        "rg --pre sh x", "python -c 1", "if ls; then rm a; fi", "for i in 1; do ls; done", "f() { ls; }; f", "(rm a)",
        "{ rm a; }", "ls &", "eval ls", "cat <(rm a)", "cat < a", "cat *", "cat a?", "l\\s", "'l's; rm a",
        "ls \\\n; rm a",
        "echo {a,b}", "ls 'unclosed", "cat <<X\n$(rm a)\nX", "exec ls", "sudo ls", "env ls", "timeout 1 rm a",
        "ls\nrm a", "! rm a", "time rm a", "echo !!", "[[ -f a ]] && rm a", "a=$(rm b)", "export A=1", "cat a >&b",
        "ls # what", "echo evil > victim /dev/null", "echo <$(touch x) /dev/null", "echo a\r#$(touch x)", 
        "echo a\x0b#b",
        "echo a \\ #$(touch x)", "test -v 'a[$(touch x)]'", "printf -v 'a[$(touch x)]' x", "echo x >&\u00b2",
        "sort -ro a b", "sort --outp=a b", "sort --comp=./evil b", "sort -T. b", "grep -nR x .", "rg -nL x", "rg -z x",
        "find . -follow", "find -L . -name x", "diff -rN a b", "cd sub && cat l", "cd", "ls\u00a0x", "ls \u202ex",
        "git -C . status", "git log --output=x", "git diff -Ox", "git status --col", "tail --fol a", 
        "git diff --no-index a b",
        "wc --files0-from=a", "[ -f a ]", "find . -fls x", "nl --unknown a", "grep -f a b", "du --files0-from=a",
        "grep -R x .", "tail -f a > b", "$X", '"$X" a', 'echo "$(rm a)"', "printf x > y", "coproc rm a",
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_harmless_is_not(text: str) -> None:
    assert not shell.harmless(shell.parse(text))


@pytest.mark.parametrize(
    "text",
    ["git log -L -- --output=o12", "rg -e -- --pre=./p.sh t", "rg -g -- --pre=x t", "rg --regexp -- --pre=x t",
     "sort -k -- -o out a", "head -n -- a"],
)  # fmt: skip
def test_two_dashes_that_are_a_value_end_no_options(text: str) -> None:
    assert not shell.harmless(shell.parse(text))


@pytest.mark.parametrize("text", [">a >/dev/null cat b", "cat b >/dev/null >a", "2>a 2>&1 ls", "ls >&1 >a"])
def test_every_redirect_of_a_command_counts(text: str) -> None:
    assert not shell.harmless(shell.parse(text)) and not shell.parse(text).clear


@pytest.mark.parametrize("text", ["make clean", "npm init", "make init", "gitk", "./git add", "git", "sudo git add x"])
def test_only_git_is_only_git(text: str) -> None:
    assert not shell.only_git(shell.parse(text))


def test_quotes_are_taken_off_words() -> None:
    assert shell.parse("""git commit -m 'a b' "c d" e'f'""").commands == (("git", "commit", "-m", "a b", "c d", "ef"),)


_PIECES = ["ls", "rm", "cat", "echo", "a", " ", " ", "$(", "${", "`", "(", ")", "{", "}", "|", ";", "&", "<", ">", "'",
           '"', "\\", "\n", "*", "!", "#", "=", "~", "[", "]", "-", "<<X", "X", "if", "then", "fi", "&&", "$x",
           "$'", "\r", "\x0b", "/dev/null", "\u00b2", "\\ ", "[$(rm a)]", "-v", "test", "printf", "sort", "-o", "cd",
           ">&", "2>"]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to compare with")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_what_is_held_for_harmless_does_no_harm_in_a_real_bash(tmp_path: Path, text: str) -> None:
    if not shell.harmless(shell.parse(text)):
        return
    programs, here = tmp_path / "bin", tmp_path / "here"
    if not programs.exists():
        programs.mkdir()
        here.mkdir()
        (programs / "rm").write_text(f"#!/bin/sh\n: > {tmp_path}/harm\n")
        (programs / "rm").chmod(0o755)
    where = {"PATH": f"{programs}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", text], cwd=here, env=where, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert not (tmp_path / "harm").exists() and not list(here.iterdir())


def judged(sink: Sink, mode: Mode = "ask", *rules: Rule, **facts: Any) -> str:
    tool = {"read": "read", "write": "write", "shell": "shell"}.get(sink.kind, "other")
    return decide(Action(tool, sink, mode), replace(Facts(rules), **facts)).answer


@pytest.mark.parametrize(
    ("mode", "read", "write", "looks", "runs", "outside"),
    [
        ("plan", "allow", "deny", "allow", "deny", "deny"),
        ("ask", "allow", "ask", "allow", "ask", "ask"),
        ("auto-edit", "allow", "allow", "allow", "ask", "ask"),
        ("full", "allow", "allow", "allow", "ask", "ask"),
    ],
)
def test_modes(mode: Mode, read: str, write: str, looks: str, runs: str, outside: str) -> None:
    assert judged(Sink("read", ("a",)), mode) == read
    assert judged(Sink("write", ("a",)), mode) == write
    assert judged(command("ls"), mode) == looks
    assert judged(command("make"), mode) == runs, "without a sandbox, in `full` too"
    assert judged(Sink("write", ("/etc/x",), inside=False), mode) == outside
    assert judged(Sink("think"), mode) == "allow"


def test_a_sandbox_lets_full_run_commands_and_no_other_mode() -> None:
    answers = {mode: judged(command("make"), mode, sandboxed=True) for mode in MODES}
    assert answers == {"plan": "deny", "ask": "ask", "auto-edit": "ask", "full": "allow"}


def test_looking_outside_or_in_a_folder_that_is_not_trusted_asks() -> None:
    assert judged(command("cat /etc/passwd", inside=False), "full") == "ask"
    assert judged(command("git status"), "full", trusted=False) == "ask"
    assert judged(Sink("read", ("/etc/passwd",), inside=False), "full") == "ask"


def test_what_runs_by_itself_later_asks_in_every_mode() -> None:
    assert judged(Sink("write", (".git/hooks/pre-commit",), guarded=True), "full", sandboxed=True) == "ask"


def test_rules_speak_of_words_not_of_letters() -> None:
    allow = Rule("r", "shell", "git commit", "allow")
    assert judged(command("git commit -m x"), "ask", allow) == "allow"
    assert judged(command("git commits"), "ask", allow) == "ask"
    assert judged(command("git commit && ls"), "ask", allow) == "allow", "what else there is only looks"
    assert judged(command("git commit && make"), "ask", allow) == "ask", "a rule allows its own command, not its line"
    assert judged(command("git commit -m $(make)"), "ask", allow) == "ask", "nor what cannot be seen"
    assert judged(command("git commit > x"), "ask", allow) == "ask"
    assert judged(command("git commit"), "plan", allow) == "deny", "plan changes nothing, whatever the rules"


def test_refusals_count_for_any_part_and_before_all_else() -> None:
    deny, allow = Rule("d", "shell", "git push", "deny"), Rule("a", "shell", "", "allow")
    assert judged(command("ls && git push"), "full", allow, deny) == "deny"
    assert judged(command("x=$(git push)"), "full", allow, deny) == "deny"
    assert judged(Sink("read", ("secrets/a",)), "full", Rule("d", "read", "secrets", "deny")) == "deny"
    assert judged(Sink("write", ("db/migrations/1.sql",)), "full", Rule("d", "*", "db/*", "deny")) == "deny"


_SINKS = [
    Sink("read", ("a",)), Sink("read", ("/a",), inside=False), Sink("write", ("a",)), Sink("think"),
    Sink("write", ("/a",), inside=False), Sink("write", (".git/config",), guarded=True), Sink("tool", ("x",)),
    Sink("network", ("host",)), command("ls"), command("make"), command("ls /", inside=False), command("$X"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sink", "mode", "trusted", "sandboxed"), [*itertools.product(_SINKS, MODES, (True, False), (True, False))]
)
def test_nobody_there_is_a_refusal_and_less_trust_never_allows_more(
    sink: Sink, mode: Mode, trusted: bool, sandboxed: bool
) -> None:  # fmt: skip
    here = judged(sink, mode, trusted=trusted, sandboxed=sandboxed)
    alone = judged(sink, mode, trusted=trusted, sandboxed=sandboxed, person_present=False)
    assert alone == ("deny" if here == "ask" else here)
    strict = ["allow", "ask", "deny"]
    assert strict.index(judged(sink, mode, trusted=False, sandboxed=sandboxed)) >= strict.index(
        judged(sink, mode, trusted=True, sandboxed=sandboxed)
    )
    assert strict.index(judged(sink, mode, trusted=trusted)) >= strict.index(
        judged(sink, mode, trusted=trusted, sandboxed=True)
    )


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("git add -A && git commit -qm 'x y'", True), ("git init", True), ("git push -u origin main", True),
        ("git fetch", True), ("git checkout -b new", True), ("git merge --no-ff topic", True), ("git status", True),
        ("git push --receive-pack='sh x' . main:x", False), ("git push . main:x", False), ("git fetch ext::sh", False),
        ("git merge -s evil topic", False), ("git merge -X theirs b", False), ("git rebase --exec x main", False),
        ("git rebase -i main", False), ("git -c a.b=c commit", False), ("git commit -F x", False),
        ("git init --template=x", False), ("git add a; make", False), ("git push ../other main", False),
        ("git config a.b c", False), ("git submodule update", False), ("git bisect run x", False),
    ],
)  # fmt: skip
def test_git_alone_may_write_its_repository_and_only_in_ways_that_run_nothing(text: str, own: bool) -> None:
    assert shell.only_git(shell.parse(text)) is own


def test_words_behind_options_may_be_paths() -> None:
    assert set(shell.paths_of(shell.parse("cat -- -l; grep --include=/etc/x a"))) >= {"-l", "/etc/x"}


@pytest.mark.parametrize(
    ("pattern", "text", "mode", "answer"),
    [
        ("git push", "git -C . push", "full", "deny"), ("git push", "git --no-pager push", "full", "deny"),
        ("git push", "sh -c 'git  push'", "full", "deny"), ("git push", "git pull", "full", "allow"),
        ("git push", "git --attr-source HEAD push", "full", "deny"), ("git push", "git stash push", "full", "allow"),
        ("git push", "git commit -m push", "full", "allow"),
        ("git push --force", "git push -v --force", "full", "deny"),
        ("git push --force", "git push", "full", "allow"), ("git push --force", "git push --force=x", "full", "deny"),
        ("npm publish", "npm --silent publish", "full", "deny"), ("rm", "npm run format", "full", "allow"),
        ("rm", "r\\m x", "full", "deny"), ("rm", "'r'm x", "full", "deny"), ("rm", "r''m x", "full", "deny"),
        ("rm", "/bin/rm x", "full", "deny"), ("rm", "r\\\nm x", "full", "deny"), ("rm", "ls; (rm x)", "full", "deny"),
        ("rm", "f() { rm x; }; f", "full", "deny"), ("rm", "for i in a; do rm $i; done", "full", "deny"),
        ("rm", "for i in a; do cat $i; done", "full", "allow"), ("rm", "echo $(rm x)", "full", "deny"),
        ("rm", "echo `rm x`", "full", "deny"), ("rm", "cat <<X\n$(rm x)\nX", "full", "deny"),
        ("rm", "find . -exec rm {} +", "full", "deny"), ("rm", "ls | xargs -n 1 rm", "full", "deny"),
        ("rm", "env -i A=1 rm x", "full", "deny"), ("rm", "sudo -u bob rm x", "full", "deny"),
        ("rm", "timeout 5 nice rm x", "full", "deny"), ("rm", "bash -lc 'cd x && rm y'", "full", "deny"),
        ("rm", "eval 'r''m x'", "full", "deny"), ("rm", "eval $x", "full", "deny"), ("rm", "$x y", "full", "deny"),
        ("rm", '"$x" y', "full", "deny"), ("rm", "r? x", "full", "deny"), ("rm", "{rm,x}", "full", "deny"),
        ("rm", "echo rm", "full", "allow"), ("rm", "grep -rn rm .", "full", "allow"), ("rm", "ls rm", "full", "allow"),
        ("rm", "git rm x", "full", "allow"), ("rm", "cargo build # rm", "full", "allow"),
        ("rm", "if (( ; rm x", "full", "deny"), ("rm", "if (( ; ls x", "full", "allow"),
        ("rm", "$'rm' x", "full", "deny"),
    ],
)  # fmt: skip
def test_a_refusal_of_a_command_is_not_got_around(pattern: str, text: str, mode: Mode, answer: str) -> None:
    assert judged(command(text), mode, Rule("r", "shell", pattern, "deny"), sandboxed=True) == answer


def test_a_refusal_to_write_speaks_of_edits_too() -> None:
    rule = Rule("r", "write", "migrations/*", "deny")
    action = Action("edit", Sink("write", ("migrations/1.py",)), "full")
    assert decide(action, Facts((rule,))).answer == "deny"


@pytest.mark.parametrize(
    ("text", "network", "answer"),
    [("rm -rf build", False, "allow"), ("rm -rf build src", False, "ask"), ("rm -rf build", True, "ask"),
     ("rm -rf  build", False, "ask"), ("rm -rf build; ls", False, "ask")],
)  # fmt: skip
def test_a_yes_for_the_session_is_for_exactly_that(text: str, network: bool, answer: str) -> None:
    rule = Rule("r", "shell", "rm -rf build", "allow", exact=True, network=False)
    sink = Sink("shell", (text,), command=shell.parse(text), network=network)
    assert judged(sink, "ask", rule) == answer


def test_a_yes_for_a_file_named_like_a_pattern_is_for_that_file() -> None:
    rule = Rule("r", "write", "*", "allow", exact=True)
    assert judged(Sink("write", ("*",)), "ask", rule) == "allow"
    assert judged(Sink("write", (".git/hooks/x",), guarded=True), "ask", rule) == "ask"


EVERYDAY = [
    "core.repositoryformatversion", "core.filemode", "core.bare", "core.logallrefupdates", "core.fsmonitor",
    "core.hookspath", "remote.origin.url", "remote.origin.fetch", "remote.origin.gh-resolved", "remote.a.b.url",
    "branch.main.remote", "branch.main.merge", "branch.main.vscode-merge-base",
    "branch.feature/x.y.github-pr-owner-number",
    "user.name", "user.email", "submodule.lib/x.url", "submodule.lib/x.active", "remote.origin.promisor",
    "remote.origin.partialclonefilter", "pull.rebase", "push.autosetupremote", "rerere.enabled", "commit.gpgsign",
    "core.sparsecheckout", "lfs.repositoryformatversion", "remote.pushdefault", "core.autocrlf",
    "extensions.worktreeconfig", "lfs.url", "lfs.https://example.org/x.git/info/lfs.locksverify", "core.excludesfile",
    "commit.template", "submodule.a/b.ignore", "fetch.recursesubmodules", "merge.renormalize", "github.user",
    "gitflow.branch.master", "uploadpack.allowfilter",
]  # fmt: skip
RUNNING = [
    "filter.lfs.clean", "filter.x.process", "alias.st", "core.editor", "core.pager", "core.sshcommand", "core.gitproxy",
    "core.alternaterefscommand", "core.askpass", "core.attributesfile", "core.worktree", "include.path",
    "includeif.gitdir:/.path", "diff.x.textconv", "diff.x.command", "diff.external", "merge.x.driver", "gpg.program",
    "gpg.ssh.program", "gpg.ssh.defaultkeycommand", "credential.helper", "credential.https://x.helper", "pager.log",
    "sequence.editor", "remote.o.uploadpack", "remote.o.receivepack", "remote.o.vcs", "remote.o.proxy",
    "submodule.x.update", "branch.main.mergeoptions", "protocol.ext.allow", "uploadpack.packobjectshook",
    "gc.recentobjectshook", "receive.procreceiverefs", "trailer.x.command", "sendemail.smtpserver",
    "difftool.x.cmd", "mergetool.x.cmd", "man.viewer", "init.templatedir", "url.x.insteadof", "http.proxy",
    "interactive.difffilter", "instaweb.httpd", "browser.x.cmd", "a.setting.of.tomorrow", "format.x\nalias.y",
]  # fmt: skip


@pytest.mark.parametrize("key", EVERYDAY)
def test_everyday_settings_let_git_write(key: str) -> None:
    assert git_settings.running([key]) == []


@pytest.mark.parametrize("key", RUNNING)
def test_settings_that_may_run_a_program_do_not(key: str) -> None:
    assert git_settings.running([key]) == [key]
