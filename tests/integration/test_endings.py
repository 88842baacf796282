"""Nothing that the agent starts lives on, however the agent ends: by SIGTERM, SIGHUP or SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.agent import scripted
from tests.support.terminal import terminal
from variet import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
ENDS = [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A search path without bubblewrap: commands run without a sandbox."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("bash", "sh", "sleep", "git", "setsid", "nohup", "touch", "env"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


def sleepers(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter(["cmdline", "status"]):
        words = one.info["cmdline"] or []
        if words[:1] == ["sleep"] and mark in words:
            found.append(one)
    return found


async def until(condition: Callable[[], bool], limit_s: float = 15.0) -> bool:
    for _ in range(int(limit_s / 0.02)):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


# Three processes: the command itself, one in the background, one outside the command's process group.
def command(mark: str) -> str:
    return f"sleep {mark} & setsid nohup sleep {mark} >/dev/null 2>&1 & sleep {mark}"


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("words", [(), ("wait",)], ids=["conversation", "prompt"])
async def test_a_command_ends_with_its_agent(
    tmp_path: Path, work: Path, bare_path: str, words: tuple[str, ...], number: signal.Signals
) -> None:
    """A conversation and a single prompt alike."""
    mark = f"{3 + len(words)}{os.getpid()}{int(number)}"
    call = {"calls": [{"name": "shell", "arguments": {"command": command(mark)}}]}
    async with (
        scripted(tmp_path, [call]) as server,
        terminal(work, "code", *words, VARIET_ENGINE_URL=server.url, PATH=bare_path) as shown,
    ):
        if not words:
            await shown.ready()
            shown.type("wait\r")
        await shown.until("or say what instead ›")
        shown.type("y\r")
        assert await until(lambda: len(sleepers(mark)) == 3)
        os.kill(shown.process.pid, number)
        await asyncio.wait_for(shown.process.wait(), 20)
        assert await until(lambda: not sleepers(mark)), sleepers(mark)
    if number != signal.SIGKILL:
        log = next((tmp_path / "home" / "state" / "sessions").glob("*/log.jsonl")).read_text()
        assert '"turn_ended"' in log and "cancelled" in log, "the turn was ended in order"


@pytest.mark.parametrize("number", [ENDS[0], *(pytest.param(one, marks=pytest.mark.long) for one in ENDS[1:])])
async def test_commands_and_servers_end_with_an_editors_agent(
    tmp_path: Path, work: Path, bare_path: str, number: signal.Signals
) -> None:
    """The server ignores the end of its input and SIGTERM, and it starts another program."""
    mark, deaf = f"5{os.getpid()}{int(number)}", tmp_path / "deaf.sh"
    deaf.write_text(f"trap '' TERM HUP\nsetsid sleep {mark} &\nwhile :; do sleep {mark}; done\n")
    call = {"calls": [{"name": "shell", "arguments": {"command": f"sleep {mark}"}}]}
    async with scripted(tmp_path, [call]) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "acp", cwd=work, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "VARIET_HOME": str(tmp_path / "home"),
            "VARIET_ENGINE_URL": server.url, "PATH": bare_path},
        )  # fmt: skip
        assert process.stdin and process.stdout
        sent = 0

        async def ask(method: str, params: object) -> dict[str, object]:
            nonlocal sent
            sent += 1
            assert process.stdin and process.stdout
            line = json.dumps({"jsonrpc": "2.0", "id": sent, "method": method, "params": params})
            process.stdin.write(f"{line}\n".encode())
            while True:
                told = json.loads(await process.stdout.readline())
                if told.get("method") == "session/request_permission":
                    yes = {"outcome": {"outcome": "selected", "optionId": "once"}}
                    answer = json.dumps({"jsonrpc": "2.0", "id": told["id"], "result": yes})
                    process.stdin.write(f"{answer}\n".encode())
                elif told.get("id") == sent:
                    return dict(told["result"])

        await ask("initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        servers = [{"name": "deaf", "command": str(Path(bare_path) / "bash"), "args": [str(deaf)], "env": []}]
        opened = await ask("session/new", {"cwd": str(work), "mcpServers": servers})
        words = {"sessionId": opened["sessionId"], "prompt": [{"type": "text", "text": "wait"}]}
        turn = asyncio.create_task(ask("session/prompt", words))
        assert await until(lambda: len(sleepers(mark)) == 3, 30), sleepers(mark)
        process.send_signal(number)
        await asyncio.wait_for(process.wait(), 30)
        turn.cancel()
        assert await until(lambda: not sleepers(mark)), sleepers(mark)


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_a_keeper_ends_as_its_command_does(script: str, code: int) -> None:
    assert subprocess.run(processes.behind_keeper(["sh", "-c", script]), check=False).returncode == code


# A system without sigtimedwait and without Linux' subreapers, as far as Python shows: macOS.
ELSEWHERE = """
import runpy, signal, sys
del signal.sigtimedwait
sys.platform = "darwin"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("sleep 0.2", 0)])
def test_a_keeper_works_on_other_systems(script: str, code: int) -> None:
    mark = f"7{os.getpid()}"
    words = processes.behind_keeper(["sh", "-c", f"sleep {mark} & {script}"])
    words[3:3] = ["-c", ELSEWHERE]
    assert subprocess.run(words, check=False, timeout=20).returncode == code
    assert not sleepers(mark)


async def test_a_keeper_of_another_system_ends_its_command_when_it_is_asked_to() -> None:
    mark = f"8{os.getpid()}"
    words = processes.behind_keeper(["sh", "-c", f"sleep {mark} & sleep {mark}"])
    words[3:3] = ["-c", ELSEWHERE]
    process = await asyncio.create_subprocess_exec(*words)
    assert await until(lambda: len(sleepers(mark)) == 2)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 128 + signal.SIGTERM
    assert await until(lambda: not sleepers(mark))


def test_a_keeper_leaves_nothing_of_a_command_that_ended() -> None:
    mark = f"6{os.getpid()}"
    words = processes.behind_keeper(["sh", "-c", f"setsid sleep {mark} & (sleep {mark} &) ; true"])
    assert subprocess.run(words, check=False, timeout=20).returncode == 0
    assert not sleepers(mark)


def test_a_keeper_of_nobody_starts_nothing(tmp_path: Path) -> None:
    words = processes.behind_keeper(["touch", str(tmp_path / "ran")])
    words[words.index(str(os.getpid()))] = "1"
    assert subprocess.run(words, check=False).returncode == 1 and not (tmp_path / "ran").exists()


def test_input_and_output_go_through_a_keeper() -> None:
    done = subprocess.run(processes.behind_keeper(["cat"]), input=b"hello", capture_output=True, check=True)
    assert done.stdout == b"hello"


def test_a_pipe_whose_reader_has_enough_ends() -> None:
    """Python ignores SIGPIPE; what it starts must not."""
    words = processes.behind_keeper(
        ["bash", "-c", "yes | head -1; echo ${PIPESTATUS[@]}; grep SigIgn /proc/self/status"]
    )
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["y", "141 0"] and not int(lines[2].split()[1], 16) & (1 << 12)
