"""`shell`: a command in the workspace, with a time limit; its output, the middle left out where it is long.

Every command runs in a process group of its own, which ends with it: at the limit, when the person interrupts, and
for those in the background when the session ends.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import AliasChoices, Field

from variet import processes
from variet.agent import programs
from variet.agent.events import ToolKind
from variet.agent.sandbox import Sandbox
from variet.agent.survey import Survey, changed_settings, put_back, set_aside, survey
from variet.agent.tools.base import Args, Job, Place, Result
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed
from variet.policy import git_settings
from variet.policy import shell as reading
from variet.policy.action import Sink

_GONE = "(what it left in the background has ended with it; a command with background=true goes on)"
_HEAD, _TAIL = 4_000, 8_000  # characters that are kept of an output
_TIMEOUT_S, _MOST_S = 120, 1800
_GRACE_S = 2.5  # longer than a keeper's patience
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASS|PWD$|CREDENTIAL|AUTH|COOKIE|SESSION_BUS|SSH_|GPG_|VARIET_|_PAT$|_DSN$|_URL$|_URI$|WEBHOOK",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"GIT_AUTHOR_|GIT_COMMITTER_", re.IGNORECASE)
_QUIET = {
    "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0", "TERM": "dumb", "NO_COLOR": "1",
    "EDITOR": ":", "GIT_EDITOR": ":", "GIT_SEQUENCE_EDITOR": ":",  # there is no person to type into an editor
}  # fmt: skip
# What a repository within the workspace says of itself runs nothing.
_GIT_ALWAYS = {"safe.bareRepository": "explicit", "core.fsmonitor": "false"}
# A repository on the disk may be of the workspace: its hooks would run, and git tells them none of the settings above.
_FAR = "http:https:ssh:git"
_NOT_ON_DISK = "(git fetches from and pushes to other machines alone here: what lies on this disk, the user can reach)"
_HOOKS = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-push", "post-checkout", "post-merge",
          "pre-rebase", "post-rewrite", "pre-merge-commit")  # fmt: skip
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows
_JOB = re.compile(r"(kill|output) +%?(\d+)$")


class ShellArgs(Args):
    command: str = Field(validation_alias=AliasChoices("command", "cmd", "script", "bash"))
    timeout_s: int = Field(_TIMEOUT_S, ge=1, validation_alias=AliasChoices("timeout_s", "timeout"))
    network: bool = Field(False, description="Needs the network")
    background: bool = Field(
        False, description="For servers", validation_alias=AliasChoices("background", "run_in_background")
    )


@dataclass
class Output:
    """The beginning and the end of what a command says."""

    head: str = ""
    length: int = 0
    _tail: deque[str] = field(default_factory=deque)
    _tail_length: int = 0

    def add(self, text: str) -> None:
        self.length += len(text)
        room = _HEAD - len(self.head)
        if room > 0:
            self.head, text = self.head + text[:room], text[room:]
        if not text:
            return
        self._tail.append(text)
        self._tail_length += len(text)
        while self._tail_length - len(self._tail[0]) >= _TAIL:
            self._tail_length -= len(self._tail.popleft())

    def told(self) -> str:
        tail = "".join(self._tail)[-_TAIL:]
        left = self.length - len(self.head) - len(tail)
        return f"{self.head}\n… ({left:,} characters left out) …\n{tail}" if left > 0 else self.head + tail


@dataclass
class _Running:
    """A command in the background."""

    number: int
    command: str
    process: asyncio.subprocess.Process
    output: Output
    reader: asyncio.Task[None]

    def shown(self) -> Job:
        code = self.process.returncode
        return Job(number=self.number, command=self.command, exit_code=code, output=self.output.told()[-_TAIL:])

    def state(self) -> str:
        code = self.process.returncode
        return "runs" if code is None else f"ended, exit {code}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a command is run. `before`: how the workspace stands, None where it only looks. `git`: it may write `.git`.
    `outside`: no program of the workspace is found for it. `note`: a line for the model. `hint`: the same where the
    command failed."""

    before: Survey | None
    git: bool = False
    outside: bool = False
    note: str = ""
    hint: str = ""


class Shell:
    name = "shell"
    description = "Run a bash command in the workspace."
    kind: ToolKind = "execute"
    changes = True
    args = ShellArgs

    def __init__(self, sandbox: Sandbox | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._sandbox = sandbox
        self._environ = environ
        self._jobs: dict[int, _Running] = {}
        # Of commands in the background: how the workspace stood before the first of them.
        self._watched: tuple[Path, Survey] | None = None

    def sink(self, args: ShellArgs, workspace: Workspace) -> Sink:
        if self._of_jobs(args.command):
            return Sink("think")
        if os.name == "nt":
            command = reading.Parsed(args.command, (), False, "PowerShell is not looked through", bash=False)
        else:
            command = reading.parse(args.command)
        inside = all(workspace.inside(workspace.resolve(word)) for word in reading.paths_of(command) if word)
        return Sink("shell", (args.command,), inside=inside, command=command, network=args.network)

    def summary(self, args: ShellArgs) -> str:
        return f"$ {args.command}"

    async def run(self, args: ShellArgs, place: Place) -> Result:
        if self._of_jobs(args.command):
            return await self._job(args.command.strip())
        output = Output()
        root = place.workspace.root
        plan = await self._planned(args, place)
        process = await self._start(args, place, plan)
        reader = asyncio.ensure_future(_read(process, output, (lambda _: None) if args.background else place.say))
        if args.background:
            number = max(self._jobs, default=0) + 1
            self._jobs[number] = _Running(number, args.command, process, output, reader)
            if plan.before is not None and self._watched is None:
                self._watched = (root, plan.before)
            await asyncio.wait([reader], timeout=1.0)
            how = f"`output %{number}` shows what it says, `kill %{number}` ends it, `jobs` lists all"
            return Result(f"%{number} {self._jobs[number].state()}; {how}\n{output.told()}".rstrip())
        limit_s = min(args.timeout_s, _MOST_S)
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
                await asyncio.wait([reader], timeout=_GRACE_S)  # a grandchild may hold the pipe open
        except TimeoutError:
            await end(process)
            told = output.told().rstrip()
            hint = "give timeout_s, or background=true for what does not end"
            return Result(f"{told}\n(stopped after {limit_s} s; {hint})".lstrip(), failed=True)
        finally:
            await end(process)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        made = await asyncio.to_thread(self._made, root, plan)
        gone = _GONE if reading.leaves_running(reading.parse(args.command)) else ""
        parts = (output.told().rstrip(), f"(exit {code})", *made, gone, plan.note, plan.hint if code else "")
        return Result("\n".join(part for part in parts if part), failed=code != 0)

    async def _planned(self, args: ShellArgs, place: Place) -> _Plan:
        """Raises ToolFailed where a sandbox could not guard all that it must."""
        parsed, root = reading.parse(args.command), place.workspace.root
        if os.name != "nt" and self.sink(args, place.workspace).inside and reading.harmless(parsed):
            return _Plan(None, outside=True)
        before = await asyncio.to_thread(survey, root, place.refused)
        if self._sandbox is None or not reading.only_git(parsed):
            return _Plan(before)
        running = await _running_settings(root)
        if running:
            hint = (f"(git could not write .git: {', '.join(running[:5])} would make it run programs. "
                    "The user can run this command)")  # fmt: skip
            return _Plan(before, outside=True, hint=hint)
        hooks = sorted(path.name for path in _hooks(root) if path.name in _HOOKS and os.access(path, os.X_OK))
        note = f"(hooks of this repository were not run: {', '.join(hooks)})" if hooks else ""
        return _Plan(before, git=True, outside=True, note=note, hint=_NOT_ON_DISK if reading.far_git(parsed) else "")

    def _made(self, root: Path, plan: _Plan) -> list[str]:
        """Puts away what a command left that other programs obey. Returns a line for each."""
        if plan.before is None:
            return []
        after = survey(root)
        if self._sandbox is None:
            return changed_settings(plan.before, after)
        lines = put_back(plan.before, after)
        return lines if plan.git else [*lines, *set_aside(root, plan.before, after)]

    async def _start(self, args: ShellArgs, place: Place, plan: _Plan) -> asyncio.subprocess.Process:
        folder = place.workspace.root
        seen = environment(self._environ, folder)
        if os.name == "nt":
            words = [shutil.which("pwsh") or "powershell", "-NoProfile", "-NonInteractive", "-Command", args.command]
        else:
            words = [programs.find("bash", folder) or "/bin/sh", "-c", "--", args.command]  # `-x` is no option
        if plan.outside:  # programs of the workspace do not stand in for the real ones
            seen["PATH"] = programs.outside(seen.get("PATH", ""), folder)
        if plan.git:
            seen |= _git_told({**_GIT_ALWAYS, **git_settings.OVERRULED}) | {"GIT_ALLOW_PROTOCOL": _FAR}
        if self._sandbox is not None:
            words = [*self._sandbox.words(seen, plan.before, network=args.network, git=plan.git), *words]
        else:
            words = processes.behind_keeper(words)  # in the sandbox the kernel ends all of it
        try:
            process = await asyncio.create_subprocess_exec(
                *words, cwd=folder, env=seen, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, start_new_session=os.name != "nt", creationflags=_NEW_GROUP,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise ToolFailed(f"the command could not be started: {error}") from None
        if os.name == "nt":
            processes.leash().hold(process.pid)
        return process

    def jobs(self) -> list[Job]:
        """Its commands in the background, in their order."""
        return [job.shown() for job in self._jobs.values()]

    async def stop_job(self, number: int) -> bool:
        """Whether a command of this number ran, and was ended."""
        job = self._jobs.get(number)
        if job is None or job.process.returncode is not None:
            return False
        await end(job.process)
        return True

    async def close(self) -> None:
        """End what runs in the background."""
        for job in self._jobs.values():
            await end(job.process)
            job.reader.cancel()
        await asyncio.gather(*(job.reader for job in self._jobs.values()), return_exceptions=True)
        self._jobs.clear()
        if self._watched is not None and self._sandbox is not None:
            root, before = self._watched
            await asyncio.to_thread(lambda: (put_back(before, after := survey(root)), set_aside(root, before, after)))

    def _of_jobs(self, command: str) -> bool:
        return command.strip() == "jobs" or bool(_JOB.match(command.strip()) and self._jobs)

    async def _job(self, command: str) -> Result:
        match = _JOB.match(command)
        if match is None:
            rows = [f"%{job.number} {job.state()}: {job.command}" for job in self._jobs.values()]
            return Result("\n".join(rows) or "nothing runs in the background")
        job = self._jobs.get(int(match[2]))
        if job is None:
            raise ToolFailed(f"there is no job %{match[2]}", next_step="`jobs` lists them")
        if match[1] == "kill":
            await end(job.process)
        return Result(f"%{job.number} {job.state()}\n{job.output.told()}".rstrip())


def environment(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What a command gets to see: no secrets, no pager, and the workspace's own virtual environment first."""
    clean = {
        name: value
        for name, value in given.items()
        if name == "PWD" or _NO_SECRET.match(name) or not _SECRET.search(name)
    }
    programs = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    if programs.is_dir():
        clean["PATH"] = f"{programs}{os.pathsep}{clean.get('PATH', '')}"
        clean["VIRTUAL_ENV"] = str(programs.parent)
    return {**clean, **_utf8(clean), **_QUIET, **_git_told(_GIT_ALWAYS)}


def _utf8(given: Mapping[str, str]) -> dict[str, str]:
    """What is parsed as UTF-8 is read by bash as UTF-8."""
    locale = given.get("LC_ALL") or given.get("LC_CTYPE") or given.get("LANG") or ""
    plain = locale in ("", "C", "POSIX") or "utf8" in locale.lower().replace("-", "")
    return {} if plain else {"LC_ALL": "C.UTF-8"}


def _git_told(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings that git takes from its environment, after all others."""
    told = {"GIT_CONFIG_COUNT": str(len(settings))}
    for at, (key, value) in enumerate(settings.items()):
        told |= {f"GIT_CONFIG_KEY_{at}": key, f"GIT_CONFIG_VALUE_{at}": value}
    return told


def _hooks(root: Path) -> list[Path]:
    folder = root / ".git" / "hooks"
    return list(folder.iterdir()) if folder.is_dir() else []


async def _running_settings(root: Path) -> list[str]:
    """What may make git run a program if it works on this repository. Settings that cannot be read may."""
    git = root / ".git"
    if git.is_symlink() or git.is_file():
        return [".git, which leads to another folder,"]
    for path in (root / ".gitattributes", root / ".git" / "info" / "attributes"):
        with contextlib.suppress(OSError):
            if "filter=" in path.read_text(encoding="utf-8", errors="replace"):
                return [f"a filter of {path.relative_to(root)}"]
    program, running = programs.find("git", root), []
    for name in ("config", "config.worktree"):
        path = root / ".git" / name
        if program is None or not path.is_file():
            continue
        process = await asyncio.create_subprocess_exec(
            program, "config", "--file", str(path), "--name-only", "--null", "--list", cwd="/",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        told, _ = await process.communicate()
        if process.returncode:
            return [f".git/{name}, which cannot be read"]
        running += git_settings.running(told.decode(errors="replace").split("\0")[:-1])
    return running


async def _read(process: asyncio.subprocess.Process, output: Output, say: object) -> None:
    assert process.stdout is not None and callable(say)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while data := await process.stdout.read(1 << 16):
        text = decoder.decode(data)
        output.add(text)
        say(text)


async def end(process: asyncio.subprocess.Process) -> None:
    """The whole group: asked first, then made to."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "nt":
                subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)  # noqa: ASYNC221
            else:
                os.killpg(process.pid, number)
        if process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _GRACE_S)
