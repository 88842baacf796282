"""Refusals of commands against bash itself: a line that makes bash run `rm` is never let through."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from variet.policy import refusals

BASH = shutil.which("bash") or ""
# Each makes of a line another that runs it, with bash and the programs that every Linux has.
WRAPPERS: list[Callable[[str], str]] = [
    lambda line: f"sh -c {shlex.quote(line)}",
    lambda line: f"bash --noprofile -xlc {shlex.quote(line)}",
    lambda line: f"bash -o posix -c {shlex.quote(line)} x y",
    lambda line: f"bash --norc -x -c -- {shlex.quote(line)}",
    lambda line: f"X={shlex.quote(line)}; bash -ec \"$X\"",
    lambda line: f"X={shlex.quote(line)}; $BASH <<< $X",
    lambda line: f"X={shlex.quote(line)}; eval $X",
    lambda line: f"eval {' '.join(shlex.quote(word) for word in line.split(' '))}",
    lambda line: f"printf '%s\\n' {shlex.quote(line)} | sh",
    lambda line: f"printf '%s\\n' {shlex.quote(line)} | bash -s",
    lambda line: f"printf '%s\\n' {shlex.quote(line)} | bash /dev/stdin",
    lambda line: f"bash <(printf '%s\\n' {shlex.quote(line)})",
    lambda line: f". <(printf '%s\\n' {shlex.quote(line)})",
    lambda line: f"bash < <(printf '%s\\n' {shlex.quote(line)})",
    lambda line: f"bash <<'END'\n{line}\nEND\n",
    lambda line: f"cat <<'END' | bash\n{line}\nEND\n",
    lambda line: f"bash <<< {shlex.quote(line)}",
    lambda line: f"echo $({line})",
    lambda line: f"echo \"$({line})\"",
    lambda line: "echo `" + line.replace("\\", "\\\\").replace("`", "\\`") + "`",
    lambda line: "echo ${X:-`" + line.replace("\\", "\\\\").replace("`", "\\`").replace("}", "\\}") + "`}",
    lambda line: "cat <<END\n`" + line.replace("\\", "\\\\").replace("`", "\\`") + "`\nEND\n",
    lambda line: f"cat <<END\n$({line})\nEND\n",
    lambda line: f"if true; then\n{line}\nfi",
    lambda line: f"for i in 1; do\n{line}\ndone",
    lambda line: f"f() {{\n{line}\n}}; f",
    lambda line: f"(\n{line}\n)",
    lambda line: f"ls; {line}",
    lambda line: f"true && {line}",
    lambda line: f"trap {shlex.quote(line)} EXIT",
    lambda line: f"env -S {shlex.quote('sh -c ' + shlex.quote(line))}",
    lambda line: f"timeout 5 sh -c {shlex.quote(line)}",
    lambda line: f"T=5; timeout -k 1 $T sh -c {shlex.quote(line)}",
    lambda line: f"env -i A=1 B=$HOME PATH=\"$PATH\" sh -c {shlex.quote(line)}",
    lambda line: f"nice -n 3 nohup setsid -w sh -c {shlex.quote(line)}",
    lambda line: f"flock -x lock -c {shlex.quote(line)}",
    lambda line: f"flock lock sh -c {shlex.quote(line)}",
    lambda line: f"stdbuf -o L sh -c {shlex.quote(line)}",
    lambda line: f"find . -maxdepth 0 -exec sh -c {shlex.quote(line)} \\;",
    lambda line: f"echo {shlex.quote(shlex.quote(line))} | xargs sh -c",
    lambda line: f"echo x | xargs -I {{}} -n 1 sh -c {shlex.quote(line)}",
    lambda line: f"command -p env sh -c {shlex.quote(line)}",
    lambda line: f"git -c alias.x={shlex.quote('!' + line + ' #')} x",
    lambda line: f"exec -a x bash -c {shlex.quote(line)}",
    lambda line: f"while read -r x; do eval \"$x\"; done <<'END'\n{line}\nEND\n",
]  # fmt: skip
LINES = [
    "rm x", "r\\m x", "'rm' x", "$'rm' x", "R=r; ${R}m x", "/fake/rm x".replace("/fake", "$FAKE"), "env rm x",
    "timeout 5 rm x", "echo x | xargs rm", "echo rm | xargs -I {} {} x", "echo rm | xargs env", "time rm x",
    "! rm x", "coproc rm x; wait", "X=1 rm x", "find . -maxdepth 0 -exec rm {} +", "exec rm x", "rm<x", "{ rm x; }",
    "nohup rm x", "taskset 1 rm x", "chrt -o 0 rm x", "setpriv rm x", "r?", "rm\t-rf x", "builtin command rm x",
    "env -S 'timeout 5' rm x", "env -iS'env PATH='\"$PATH\"' rm x'",
    "git bisect start >/dev/null; env git --version; rm x",
]  # fmt: skip


@st.composite
def wrapped(draw: st.DrawFn) -> str:
    line = draw(st.sampled_from(LINES))
    for wrap in draw(st.lists(st.sampled_from(WRAPPERS), max_size=3)):
        line = wrap(line)
    return line


def runs_rm(text: str, folder: Path) -> bool:
    """Whether bash runs a program named `rm`, in a folder whose search path begins with a harmless one."""
    programs, log, here = folder / "programs", folder / "log", folder / "here"
    for each in (programs, here):
        each.mkdir(exist_ok=True)
    (programs / "rm").write_text(f"#!/bin/sh\necho x >> {log}\n")
    (programs / "rm").chmod(0o755)
    (here / "x").write_text("")
    (here / "rm").write_text("")
    log.unlink(missing_ok=True)
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    where = {"PATH": path, "FAKE": str(programs), "HOME": str(folder), "GIT_DIR": "/nowhere"}
    subprocess.run(
        [BASH, "-c", "--", text], cwd=here, env=where, stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    return log.exists()


@pytest.mark.skipif(not BASH, reason="there is no bash to compare with")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrapped())
@example("bash <<X\n`rm x`\nX")
@example("bash 0<<X\n$(printf r)m x\nX")
def test_a_line_that_makes_bash_run_a_refused_command_is_refused(tmp_path: Path, text: str) -> None:
    if not refusals.may_run(text, ("rm",)):
        assert not runs_rm(text, tmp_path), text


@pytest.mark.skipif(not BASH, reason="there is no bash to compare with")
@pytest.mark.parametrize("at", range(len(WRAPPERS)))
def test_each_wrapper_runs_what_it_wraps_and_is_seen(tmp_path: Path, at: int) -> None:
    """Else the property above would prove nothing."""
    text = WRAPPERS[at]("rm x")
    assert runs_rm(text, tmp_path) and refusals.may_run(text, ("rm",))
    unknown = any(mark in text.lower() for mark in ('"$x"', "$x", "$t ", "| ", "<("))  # what it runs cannot be known
    assert unknown or not refusals.may_run(WRAPPERS[at]("ls x"), ("rm",))


@pytest.mark.parametrize(
    "text",
    ["find . -name *.py", "find . -name rm", "find $x -type f", "time make $x", "env A=$x python y", "timeout 5 ls rm",
     "command -v rm", "xargs grep rm", "timeout $T make", "git commit -m 'use `rm` or rm x'", "git log --grep rm",
     "npm run rm", "bash run.sh rm", ". $VENV/bin/activate", "bash --version", "flock lock make rm", "echo 'rm x'",
     "nice -n 5 python rm.py", "ssh host ls", "git -c user.name=rm commit", "ls | xargs wc -l", "trap - INT",
     "git -c user.name=$N commit -m x", "cat <<X\nrm x\nX", "env ls rm",
     "bash -c 'ls' x"],
)  # fmt: skip
def test_a_line_that_names_a_refused_command_without_running_it_goes_through(text: str) -> None:
    assert not refusals.may_run(text, ("rm",))


@pytest.mark.parametrize(
    ("command", "text"),
    [("git push --force", "git push --forc"), ("git push --force", "git push $x"), ("git push", "git $x"),
     ("rm -rf", "rm -fr x"), ("rm -rf", "rm -r -f x"), ("git push -f", "git push -uf origin x"),
     ("git push", "git bisect run git push"), ("rm", "git submodule foreach 'rm x'"), 
     ("rm", "git rebase --exec 'rm x' a"),
     ("rm", "git -c core.pager='rm x' log"), ("rm", "git config alias.x '!rm x'"), ("rm", "watch 'ls; rm x'"),
     ("rm", "ssh -p 22 host rm x"), ("rm", "parallel rm ::: x"), ("rm", "sudo -n -u bob rm x"), ("rm", "su -c 'rm x'"),
     ("rm", "csh -c 'rm x'"), ("rm", "fish --command='rm x'"), ("rm", "busybox rm x"), ("rm", "script -c 'rm x' log"),
     ("rm", "runuser -u bob -- rm x"), ("rm", "pkexec rm x"), ("rm", "ls | sh"), ("rm", "docker run image rm x"),
     ("git push", "env git <<X push\nX"), ("/bin/rm", "/bin/r? x"), ("npm publish", "npx -y npm publish")],
)  # fmt: skip
def test_a_refused_command_is_seen(command: str, text: str) -> None:
    assert refusals.may_run(text, tuple(command.split()))


@pytest.mark.parametrize(
    ("command", "text"),
    [("git push --force", "git push --force-with-lease"), ("git push", "git stash push"), ("rm -rf", "rm -r x"),
     ("git push -f", "git push -u origin f"), ("git push", "git log push"), ("npm publish", "npm run publish")],
)  # fmt: skip
def test_another_command_is_none(command: str, text: str) -> None:
    assert not refusals.may_run(text, tuple(command.split()))


def test_what_is_no_bash_is_looked_through_for_the_words() -> None:
    assert refusals.may_name("Remove-Item x; rm x", ("rm",)) and refusals.may_name("& $x", ("rm",))
    assert not refusals.may_name("Get-ChildItem x", ("rm",))


@pytest.mark.parametrize(
    "text",
    ["sudo -a " * 400 + "x", "eval " + "a " * 4000, "watch -n 5 " + "'a b' " * 1500, "ls;" * 6000, "x" * 30_000 + "$y",
     "$(" * 3000 + "ls" + ")" * 3000],
    ids=["doubts", "words", "scripts", "commands", "characters", "depth"],
)  # fmt: skip
def test_what_is_too_large_to_be_looked_through_is_refused(text: str) -> None:
    assert refusals.may_run(text, ("rm",))
