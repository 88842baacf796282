"""Each way out of the sandbox, tried for real: as whoever runs the tests, and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from variet.agent.sandbox import Sandbox, open_sandbox, probe, programs
from variet.agent.survey import survey
from variet.agent.tools.base import Place, Result
from variet.agent.tools.shell import Shell, ShellArgs
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed
from variet.policy.action import Rule
from variet.policy.decide import refuses_writing

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is Linux's")
NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin"
SECRET = "variet-7731-secret"


@pytest.fixture(params=["as it is", "ordinary user"])
def user(request: pytest.FixtureRequest) -> int | None:
    if request.param in (None, "as it is"):
        return None
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    return NOBODY


@pytest.fixture
def places(tmp_path_factory: pytest.TempPathFactory, user: int | None) -> Iterator[Sandbox]:
    """A workspace beside a home with a secret, all of it the user's."""
    base = Path("/var/tmp") / f"variet-sandbox-{os.getpid()}-{user}"
    shutil.rmtree(base, ignore_errors=True)
    root, home, scratch = base / "home" / "work", base / "home", base / "scratch"
    for path in (root, scratch, home / ".ssh", home / ".pyenv"):
        path.mkdir(parents=True)
    (home / ".ssh" / "id").write_text(SECRET)
    (base / "beside").write_text(SECRET)
    (root / "link").symlink_to(home / ".ssh" / "id")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    if user is not None:
        for path in (base, *base.rglob("*")):
            os.lchown(path, user, user)
    bubblewrap = shutil.which("bwrap")
    assert bubblewrap, "these tests need bubblewrap: run `make test-tools`"
    simplest = [bubblewrap, "--unshare-user", "--ro-bind", "/", "/", "true"]
    if (done := subprocess.run(simplest, user=user, capture_output=True, text=True)).returncode:
        pytest.skip(f"this machine lets nobody make namespaces: {done.stderr.strip()}")
    yield Sandbox(bubblewrap, root, home, scratch)
    shutil.rmtree(base)


def said(
    places: Sandbox, command: str, user: int | None, *, network: bool = False, timeout_s: float = 30,
    refused: Callable[[str], bool] | None = None,
) -> str:  # fmt: skip
    words = [*places.words({"PATH": PATH}, survey(places.root, refused), network=network), "bash", "-c", command]
    done = subprocess.run(
        words, user=user, group=user, extra_groups=[] if user else None, cwd=places.root, timeout=timeout_s,
        env={"PATH": PATH, "API_KEY": SECRET}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_work_inside_goes_on(places: Sandbox, user: int | None) -> None:
    told = said(
        places, "echo hello > a && cat a && python3 -c 'print(6 * 7)' && git status --short && echo x > /tmp/t", user
    )
    assert told.split() == ["hello", "42", "??", "a", "??", "link"] and (places.root / "a").read_text() == "hello\n"
    assert (places.scratch / "t").exists(), "its /tmp is kept between commands"


@pytest.mark.parametrize(
    "command",
    [
        "cat ~/.ssh/id", "cat link", "cat ../.ssh/id", "cat ../../beside", "env", "cat /proc/1/environ",
        "cat /proc/*/environ", f"grep -rs -D skip {SECRET} / --exclude-dir={{usr,opt,sys,proc}}",
        f"cat /etc/shadow && echo {SECRET}", f"ls /root && echo {SECRET}", "cat /proc/1/root/etc/shadow",
        f"cat /run/docker.sock /var/run/docker.sock && echo {SECRET}",
    ],
)  # fmt: skip
def test_nothing_secret_is_seen(places: Sandbox, user: int | None, command: str) -> None:
    assert SECRET not in said(places, command, user)


@pytest.mark.parametrize(
    "command",
    [
        "touch /usr/x", "touch /etc/x", "touch /x", "echo x >> /etc/passwd", "mount -t tmpfs x /usr", "umount /usr",
        "mount -o remount,rw /usr && touch /usr/x", "unshare -rm mount -o remount,rw /usr && touch /usr/x",
        "mknod x b 8 0", "chroot / true", "echo x > .git/hooks/pre-commit", "echo x >> .git/config",
        "git config core.pager evil", "mv .git .old && mkdir .git", "rm -rf .git/hooks", "rmdir .git/hooks",
        "mv .git/hooks h", "echo x > .git/commondir", "ln -s /usr/bin x && touch x/y", "hostname evil",
        "test -w /proc/sys/kernel/core_pattern", "test -w /proc/sysrq-trigger", "test -s /proc/keys",
        "test -s /proc/kcore", "test -b /dev/sda", "date -s 2000-01-01", "chown 12345 link",
        "setpriv --reuid=1 --clear-groups true",
    ],
)  # fmt: skip
def test_nothing_outside_is_changed(places: Sandbox, user: int | None, command: str) -> None:
    assert "REACHED" not in said(places, f"{{ {command}; }} && echo REACHED", user)
    assert not Path("/usr/x").exists() and not Path("/etc/x").exists() and not Path("/x").exists()
    assert not (places.root / ".git" / "hooks" / "pre-commit").exists() and not (places.root / ".old").exists()


def test_other_processes_are_neither_seen_nor_reached(places: Sandbox, user: int | None) -> None:
    sleeper = subprocess.Popen(["sleep", "60"], user=user, group=user)
    try:
        told = said(places, f"kill -9 {sleeper.pid}; ls /proc | grep -c '^[0-9]'; kill -9 -1", user)
        assert sleeper.poll() is None, told
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_network_is_there_only_when_it_was_allowed(places: Sandbox, user: int | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo REACHED"
        assert "REACHED" not in said(places, connect, user)
        assert "REACHED" in said(places, connect, user, network=True)


def test_sockets_of_this_machine_are_out_of_reach(places: Sandbox, user: int | None) -> None:
    abstract, file = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    path = places.home / "agent.sock"
    try:
        abstract.bind("\0variet-sandbox-test")
        file.bind(str(path))
        path.chmod(0o777)
        for one in (abstract, file):
            one.listen()
        for address in ("'\\0variet-sandbox-test'", f"'{path}'"):
            told = said(
                places, f"python3 -c \"import socket; socket.socket(1).connect({address}); print('REACHED')\"", user
            )
            assert "REACHED" not in told
    finally:
        abstract.close()
        file.close()


def test_what_a_persons_rule_keeps_no_command_changes(places: Sandbox, user: int | None) -> None:
    root = places.root
    for name in ("migrations/deep/1.sql", "keep.txt", "migrations.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("old")
    if user is not None:
        for path in root.rglob("*"):
            os.lchown(path, user, user)
    rules = (Rule("a", "write", "migrations/*", "deny"), Rule("b", "edit", "*.txt", "deny"),
             Rule("c", "write", "*.md", "allow"))  # fmt: skip

    def refused(target: str) -> bool:
        return refuses_writing(target, rules)

    assert set(survey(root, refused).kept) == {root / "migrations", root / "keep.txt"}
    tries = ("echo new > migrations/deep/1.sql", "echo new > migrations/2.sql", "rm -rf migrations", "mv migrations m",
             "mv keep.txt k", "rm -f keep.txt", "sed -i s/old/new/ keep.txt", "echo new > migrations.md")  # fmt: skip
    said(places, "; ".join(tries), user, refused=refused)
    now = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*.[stm]*") if path.is_file()}
    told = {name: text.strip() for name, text in now.items() if ".git/" not in name}
    assert told == {"migrations/deep/1.sql": "old", "keep.txt": "old", "migrations.md": "new"}


def test_no_capability_is_left_and_none_comes_back(places: Sandbox, user: int | None) -> None:
    told = said(places, "grep Cap /proc/self/status; unshare -r grep CapEff /proc/self/status", user)
    kept = [line.split() for line in told.splitlines() if line.startswith("Cap") and "CapInh" not in line]
    assert all(int(value, 16) == 0 for _, value in kept[:4]), told


async def test_nothing_runs_on_after_a_command(tmp_path: Path, places: Sandbox) -> None:
    shell = Shell(places)
    mark = "variet-left-over-7351"
    command = f"(setsid nohup bash -c 'exec -a {mark} sleep 300' >/dev/null 2>&1 &) ; sleep 0.3; echo done"
    result = await shell.run(ShellArgs(command=command), Place(Workspace(places.root)))
    assert "done" in result.content
    for _ in range(100):
        if not any(mark in " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("something runs on")
    await shell.close()


async def test_a_virtual_environment_beside_the_workspace_can_be_used(places: Sandbox) -> None:
    folder = Path(sys.executable).parent
    assert folder.parent in programs(str(folder), places.root, places.home)


def test_shims_are_shown_with_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "pyenv" / "shims").mkdir(parents=True)
    shown = programs(str(tmp_path / "pyenv" / "shims"), tmp_path / "work", tmp_path / "home")
    assert shown == [tmp_path / "pyenv"]


def test_nothing_that_holds_a_home_is_shown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "work" / "bin").mkdir(parents=True)
    path = os.pathsep.join(
        [str(tmp_path), str(home), str(home / "work"), str(home / "work" / "bin"), "relative", "/none"]
    )
    assert programs(path, home / "work", home) == []


async def test_a_home_folder_gets_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (await open_sandbox(tmp_path))[0] is None


async def test_a_bubblewrap_that_holds_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n')
    fake.chmod(0o755)
    assert (await probe(Path.cwd()))[0], "the real one holds here"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path, why = await probe(Path.cwd())
    assert path == "" and "does not hold" in why


@pytest.mark.parametrize("user", [None], indirect=True)
async def test_git_may_write_its_repository_and_no_other_command(
    places: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", PATH)
    shell, place = Shell(places), Place(Workspace(places.root))

    async def run(command: str) -> bool:
        return not (await shell.run(ShellArgs(command=command), place)).failed

    assert await run("git add link && git commit -q -m x --author 'a <a@b>'") is False, "nobody said who commits"
    assert await run("git add link"), "its index is written"
    for command in ("echo x > .git/commondir", "git add link; echo x > .git/x", "git config a.b c",
                    "git add link > .git/y",
                    "git -c alias.z='!touch .git/z' z", "git rebase --exec 'touch .git/e' HEAD"):  # fmt: skip
        await run(command)
    assert not {"commondir", "x", "y", "z", "e"} & {one.name for one in (places.root / ".git").iterdir()}
    assert "[a]" not in (places.root / ".git" / "config").read_text()
    await shell.close()


def git(places: Sandbox, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(places.root), *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
async def shell(places: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], Awaitable[Result]]]:
    """Runs a command as the agent does."""
    monkeypatch.setenv("PATH", PATH)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    made, place = Shell(places), Place(Workspace(places.root))
    yield lambda command: made.run(ShellArgs(command=command), place)
    await made.close()


Run = Callable[[str], Awaitable[Result]]
alone = pytest.mark.parametrize("user", [None], indirect=True)


@alone
async def test_no_hook_of_a_repository_runs_where_git_may_write(places: Sandbox, shell: Run) -> None:
    """The model may have written what a hook runs: `git commit` would run it with `.git` writable."""
    script = places.root / "lint.sh"
    script.write_text("#!/bin/sh\necho '[core] pager = evil' >> .git/extra; git config include.path extra\n")
    script.chmod(0o755)
    for name in ("pre-commit", "post-commit", "reference-transaction"):
        hook = places.root / ".git" / "hooks" / name
        hook.write_text("#!/bin/sh\n./lint.sh\n")
        hook.chmod(0o755)
    config = (places.root / ".git" / "config").read_bytes()
    done = await shell("git add -A && git commit -q -m x")
    assert not done.failed and "hooks of this repository were not run: post-commit, pre-commit" in done.content
    assert (places.root / ".git" / "config").read_bytes() == config and not (places.root / ".git" / "extra").exists()
    git(places, "config", "core.hooksPath", "tracked-hooks")
    (places.root / "tracked-hooks").mkdir()
    (places.root / "tracked-hooks" / "pre-commit").write_text("#!/bin/sh\ntouch .git/ran\n")
    (places.root / "tracked-hooks" / "pre-commit").chmod(0o755)
    assert not (await shell("git add -A && git commit -q -m y")).failed
    assert not (places.root / ".git" / "ran").exists()


@alone
@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({"filter.x.clean": "touch .git/ran; cat"}, "git add -A"),
        ({"filter.x.process": "touch .git/ran"}, "git add -A"),
        ({"merge.x.driver": "touch .git/ran"}, "git merge -q topic"),
        ({"alias.st": "!touch .git/ran"}, "git add -A"), ({"include.path": "../evil"}, "git add -A"),
        ({"includeIf.gitdir:/.path": "../evil"}, "git add -A"), ({"core.editor": "touch .git/ran"}, "git commit"),
        ({"gpg.program": "./evil", "commit.gpgSign": "true"}, "git commit -q --allow-empty -m x"),
        ({"core.sshCommand": "touch .git/ran"}, "git fetch"), ({"diff.x.textconv": "touch .git/ran"}, "git add -A"),
        ({"core.alternateRefsCommand": "touch .git/ran"}, "git fetch"), ({"gc.recentObjectsHook": "x"}, "git add -A"),
        ({"submodule.x.update": "!touch .git/ran"}, "git checkout -q ."), ({"remote.o.uploadpack": "x"}, "git fetch o"),
        ({"a.setting.of.tomorrow": "x"}, "git add -A"),
    ],
)  # fmt: skip
async def test_where_settings_may_run_a_program_git_writes_nothing(
    places: Sandbox, shell: Run, settings: dict[str, str], command: str
) -> None:
    for key, value in settings.items():
        git(places, "config", key, value)
    done = await shell(command)
    assert done.failed and "would make it run programs" in done.content, done.content
    assert not (places.root / ".git" / "ran").exists() and not (places.root / ".git" / "index").exists()


@alone
@pytest.mark.parametrize("kind", ["link", "file"])
async def test_where_git_leads_elsewhere_git_writes_nothing(places: Sandbox, shell: Run, kind: str) -> None:
    """Its settings are those of another folder, which may run a program."""
    (places.root / ".git").rename(places.root / "other")
    if kind == "link":
        (places.root / ".git").symlink_to("other")
    else:
        (places.root / ".git").write_text("gitdir: other\n")
    done = await shell("git add -A")
    assert done.failed and "leads to another folder" in done.content, done.content
    assert not (places.root / "other" / "index").exists()


@alone
async def test_a_filter_that_attributes_name_lets_git_write_nothing(places: Sandbox, shell: Run) -> None:
    """Without the filter something else would be committed than the person means."""
    (places.root / ".gitattributes").write_text("*.bin filter=lfs\n")
    assert (await shell("git add -A")).failed and not (places.root / ".git" / "index").exists()


@alone
@pytest.mark.parametrize("command", ["git push bare HEAD:x", "git push origin HEAD:x", "git fetch origin",
                                     "git fetch bare", "git pull bare HEAD"])  # fmt: skip
async def test_a_repository_of_the_workspace_is_no_remote(places: Sandbox, shell: Run, command: str) -> None:
    """Its own hooks would run, with the `.git` that git may write. The person's git runs them."""
    bare = places.root / "bare"
    git(places, "init", "-q", "--bare", str(bare))
    (bare / "HEAD").write_text("ref: refs/heads/x\n")
    for name in ("pre-receive", "update", "post-receive", "reference-transaction"):
        (bare / "hooks" / name).write_text(f"#!/bin/sh\ntouch {places.root}/.git/ran\n")
        (bare / "hooks" / name).chmod(0o755)
    git(places, "remote", "add", "origin", str(bare))
    assert not (await shell("git add link && git commit -q -m x")).failed
    done = await shell(command)
    assert done.failed and "the user can reach" in done.content, done.content
    assert not (places.root / ".git" / "ran").exists()
    git(places, "push", "-q", "bare", "HEAD:x")
    assert (places.root / ".git" / "ran").exists()


@alone
@pytest.mark.parametrize("folder", ["node_modules", "node_modules/a", "node_modules/@b/c", "venv", "venv/lib"])
async def test_a_repository_within_installed_packages_is_set_aside(places: Sandbox, shell: Run, folder: str) -> None:
    (places.root / folder).mkdir(parents=True)
    done = await shell(f"git init -q {folder}/x && mv {folder}/x/.git {folder}/.git")
    assert f"({folder}/.git was made by this command" in done.content, done.content
    assert not (places.root / folder / ".git").exists()


@alone
@pytest.mark.parametrize("count", [51, 600])
async def test_a_command_changes_no_guarded_name_however_many_there_are(
    places: Sandbox, shell: Run, count: int
) -> None:
    for number in range(count):
        folder = places.root / f"part{number:04}"
        folder.mkdir()
        (folder / "AGENTS.md").write_text("old")
    done = await shell("for one in */AGENTS.md; do echo new > $one; done")
    assert "Read-only" in done.content
    assert {one.read_text() for one in places.root.glob("*/AGENTS.md")} == {"old"}


@alone
async def test_where_names_are_too_many_nothing_is_run(
    places: Sandbox, shell: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("variet.agent.survey.MOST_NAMES", 3)
    for number in range(5):
        (places.root / f"d{number}").mkdir()
        (places.root / f"d{number}" / ".envrc").write_text("old")
    with pytest.raises(ToolFailed, match="too many for a sandbox"):
        await shell("touch made")
    assert not (places.root / "made").exists()
    assert "d4" in (await shell("ls")).content, "what only looks can change none of them"


@alone
async def test_a_virtual_environment_is_not_changed_by_commands(places: Sandbox, shell: Run) -> None:
    for name in (".venv", "venv", "part/.venv"):
        (places.root / name / "bin").mkdir(parents=True)
        (places.root / name / "pyvenv.cfg").write_text("home = /usr/bin\n")
    await shell("for one in .venv venv part/.venv; do echo x > $one/bin/python; rm -rf $one/pyvenv.cfg; done")
    for name in (".venv", "venv", "part/.venv"):
        assert not (places.root / name / "bin" / "python").exists() and (places.root / name / "pyvenv.cfg").exists()


@alone
@pytest.mark.parametrize("kind", ["link", "file", "link to a link"])
async def test_what_a_git_leads_to_is_kept_like_a_git(places: Sandbox, shell: Run, kind: str) -> None:
    """The person's next `git status` would obey it."""
    root = places.root
    (root / ".git").rename(root / "real")
    if kind == "file":
        (root / ".git").write_text("gitdir: ./real\n")
    elif kind == "link":
        (root / ".git").symlink_to("real")
    else:
        (root / "other").symlink_to("real")
        (root / ".git").symlink_to("other")
    before = (root / "real" / "config").read_bytes()
    for command in ("git config -f real/config core.fsmonitor ./evil", "echo x > real/hooks/post-merge",
                    "rm -f .git; mkdir -p evil; ln -s evil .git", "echo 'gitdir: ./evil' > .git"):  # fmt: skip
        await shell(command)
    assert (root / "real" / "config").read_bytes() == before and not (root / "real" / "hooks" / "post-merge").exists()
    assert (root / ".git" / "config").exists() if kind != "file" else (root / ".git").read_text() == "gitdir: ./real\n"


@alone
async def test_a_link_that_a_command_made_to_a_repository_is_set_aside(places: Sandbox, shell: Run) -> None:
    shutil.rmtree(places.root / ".git")
    done = await shell("mkdir evil && git init -q --bare evil && ln -s evil .git")
    assert "was made by this command" in done.content and not (places.root / ".git").is_symlink()


@alone
async def test_what_only_looks_takes_no_program_of_the_workspace(places: Sandbox) -> None:
    programs = places.root / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("ls", "git"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {places.root}/ran\n")
        (programs / name).chmod(0o755)
    for sandbox in (places, None):
        one = Shell(sandbox)
        for command in ("ls", "git status", "git log | cat"):
            await one.run(ShellArgs(command=command), Place(Workspace(places.root)))
        await one.close()
    assert not (places.root / "ran").exists()


@alone
async def test_without_a_sandbox_a_change_of_what_git_obeys_is_told(places: Sandbox) -> None:
    one = Shell(None)
    place = Place(Workspace(places.root))
    changes = {"git config core.pager evil": "config", "echo x > .git/hooks/post-merge": "hooks/post-merge",
               "echo '* filter=x' > .git/info/attributes": "info/attributes"}  # fmt: skip
    for command, name in changes.items():
        told = (await one.run(ShellArgs(command=command), place)).content
        assert f"/.git/{name}, which git obeys" in told
    assert "git obeys" not in (await one.run(ShellArgs(command="touch x; git add x"), place)).content
    await one.close()


async def test_a_command_that_begins_with_a_dash_is_no_option_of_bash(places: Sandbox) -> None:
    one = Shell(None)
    told = await one.run(ShellArgs(command="-x; echo done"), Place(Workspace(places.root)))
    assert "done" in told.content
    await one.close()


async def test_a_command_gets_no_secret_of_the_environment(places: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("HARMLESS", SECRET)
    for sandbox in (places, None):
        shell = Shell(sandbox)
        command = "cat /proc/1/environ 2>/dev/null; env" if sandbox else "env"
        result = await shell.run(ShellArgs(command=command), Place(Workspace(places.root)))
        assert result.content.count(SECRET) == (1 if "HARMLESS" in result.content else 0)
        await shell.close()
