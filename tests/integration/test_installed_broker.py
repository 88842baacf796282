"""A broker that is a user of its own, by a real systemd in a copy of this machine; its person's shell attacks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.support.google import CLIENTS, EMAIL, Google, google, message
from tests.support.machine import REPOSITORY, Machine, NoMachine, lacking, machine
from variet.assistant.broker import unit

LACKING = lacking() or ("" if shutil.which("gnome-keyring-daemon") else "no Secret Service here: `make test-tools`")
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

PYTHON = Path(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
PIN, NEW_PIN = "quiet green lamp", "another quiet lamp"
SHELL = str(REPOSITORY / "tests" / "support" / "shell.py")
EVERYTHING = """
import importlib, justext, pkgutil, variet.agent, variet.assistant, variet.surfaces
for room in (variet.agent, variet.assistant, variet.surfaces):
    for one in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        importlib.import_module(one.name)
"""
HELLO = f"""
import socket
line = socket.socket(socket.AF_UNIX)
line.settimeout(10)
line.connect("{unit.SOCKET}")
line.sendall(b'{{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {{}}}}\\n')
print(line.recv(100))
"""
SANDBOXED = """
import asyncio, os, pathlib, subprocess, sys
from variet.agent.sandbox import open_sandbox
from variet.agent.survey import Survey
work = pathlib.Path.home() / "work"
work.mkdir()
sandbox, why = asyncio.run(open_sandbox(work))
assert sandbox, why
words = sandbox.words({"PATH": os.environ["PATH"]}, Survey())
sys.exit(subprocess.run([*words, "/usr/bin/python3", "-c", sys.argv[1]], cwd=work).returncode)
"""
SESSION = "printf pass | gnome-keyring-daemon --unlock --components=secrets >/dev/null && "

# What a shell can do to a broker that runs as its own user, and to one that is installed: docs/security.md.
TO_ITS_OWN_USER_S = [
    "read what waits, the rules, the PIN's hash", "write a rule or a decision into its store", "read its log",
    "change its log", "read the sealed file", "read tokens from the keyring", "end it", "read its memory",
    "read its environment", "change its program", "change what says where it is", "listen in its place",
    "get what reads mail, for an hour",
]  # fmt: skip
TO_AN_INSTALLED_ONE = ["get what reads mail, for an hour"]


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Machine]:
    """Ada works here, and Bob has an account."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(machine(tmp_path))
        except NoMachine as why:
            pytest.skip(f"no copy of this machine can be made here: {why}")
        made.user("ada")
        made.user("bob")
        if not PYTHON.exists() and sys.base_prefix.startswith(("/root/", "/home/")):  # the system's is in a home here
            made.must("cp", "-a", sys.base_prefix, "/opt/python")
            made.must("ln", "-s", f"/opt/python/bin/{PYTHON.name}", str(PYTHON))
        made.must("chown", "-R", "ada", str(REPOSITORY / "src"))  # as a checkout is: its person's
        yield made


def waiting(copy: Machine, user: str) -> str:
    """The id of a page that a client asked for, and that waits for a yes."""
    script = """
import asyncio
from variet.assistant.broker.client import BrokerClient
async def main():
    async with BrokerClient() as client:
        judged = await client.call("judge", client="cli", tool="search.fetch", target="https://a.example/x")
        print(judged["approval"]["id"])
asyncio.run(main())
"""
    return copy.must(sys.executable, "-c", script, user=user).strip()


def attacked(copy: Machine, action: str, program: str, before: str = "") -> list[str]:
    """What Ada's shell could do, in a session of hers with a keyring that is open."""
    script = f"{SESSION} {before} {sys.executable} {SHELL} {action} {program}"
    did: list[str] = json.loads(copy.must("dbus-run-session", "--", "sh", "-c", script, user="ada"))
    return did


async def signed_in(copy: Machine, strict: Google, purpose: str, pin: str = PIN) -> str:
    client_id, client_secret = CLIENTS[purpose]
    told = {"installed": {"client_id": client_id, "client_secret": client_secret}}
    copy.write(f"/home/ada/{purpose}.json", json.dumps(told))
    words = copy.words(
        sys.executable, "-m", "variet", "auth", "google", f"--{purpose}", "--client", f"/home/ada/{purpose}.json",
        "--no-browser", user="ada",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stderr and process.stdout
    process.stdin.write(f"{pin}\n".encode())
    seen = ""
    while not (address := re.search(r"http://\S+", seen)):
        line = await process.stderr.readline()
        assert line, seen
        seen += line.decode()
    assert (await strict.visit(address[0])).status_code == 200
    said = (await process.stdout.read()).decode()
    assert await process.wait() == 0, said
    return said


def served(copy: Machine, server: str, strict: Google) -> StdioServerParameters:
    words = copy.words(
        sys.executable, "-m", "variet", "mcp", server, user="ada",
        environment={"VARIET_GOOGLE_URL": strict.url, "VARIET_PATIENCE_S": "0"},
    )  # fmt: skip
    return StdioServerParameters(command=words[0], args=words[1:])


async def called(copy: Machine, strict: Google, tool: str, **asked: Any) -> str:
    async with stdio_client(served(copy, "mail", strict)) as streams, ClientSession(*streams) as client:
        await client.initialize()
        return str((await client.call_tool(tool, asked)).content)


@pytest.fixture
async def strict() -> AsyncIterator[Google]:
    async with google() as made:
        yield made


async def test_what_a_shell_does_to_a_broker_of_its_own_user(copy: Machine, strict: Google) -> None:
    google = {"VARIET_GOOGLE_URL": strict.url}
    pin = copy.variet("approvals", "pin", user="ada", typed=f"{PIN}\n{PIN}\n", environment=google)
    assert pin.stdout == "set\n", pin.stderr
    await signed_in(copy, strict, "read")
    action = waiting(copy, "ada")
    put = "import keyring; keyring.set_password('variet-broker', 'google-write', '1//token')"  # as the broker does
    did = attacked(copy, action, f"{REPOSITORY}/src/variet/cli.py", f'{sys.executable} -c "{put}" && ')
    assert did == TO_ITS_OWN_USER_S


@pytest.mark.long
async def test_a_broker_that_is_installed_works_and_a_shell_does_nothing_to_it(copy: Machine, strict: Google) -> None:
    copy.write(
        f"/etc/systemd/system/{unit.NAME}.service.d/test.conf",
        f"[Service]\nEnvironment=VARIET_GOOGLE_URL={strict.url}\n",
    )
    installed = copy.variet("broker", "install", "--user", "ada", typed=f"{PIN}\n{PIN}\n")
    assert installed.returncode == 0, installed.stderr
    assert installed.stdout == "the broker runs as variet-broker, for ada: `variet broker status` asks it\n"
    copy.must("systemd-analyze", "verify", str(unit.FILE))
    copy.must("systemd-analyze", "security", "--offline=yes", "--threshold=15", str(unit.FILE))
    told = copy.variet("broker", "status", user="ada").stdout
    assert told == "it runs as a user of its own; PIN: set; 0 actions wait\n"

    copy.must(str(unit.PROGRAM / "bin" / "python"), "-I", "-c", EVERYTHING)

    # It does what a broker does.
    assert "kept in the sealed file" in await signed_in(copy, strict, "read")
    await signed_in(copy, strict, "write")
    await strict.mail(message("Lunch?", "Noon?\n\nAda"))
    assert "Lunch?" in await called(copy, strict, "search", query="lunch")
    sending = {"to": ["zoe@example.com"], "subject": "Yes", "body": "Noon is fine."}
    assert "approval_required" in await called(copy, strict, "send", **sending)
    [waits] = json.loads(copy.variet("approvals", "list", "--json", user="ada", typed=f"{PIN}\n").stdout)
    action = waits["id"]

    # Its person's shell cannot touch it, and neither can one in the agent's sandbox, nor another user.
    program = str(unit.PROGRAM / "lib" / PYTHON.name / "site-packages" / "variet" / "cli.py")
    assert attacked(copy, action, program) == TO_AN_INSTALLED_ONE
    assert "version" in copy.run(sys.executable, "-c", HELLO, user="ada").stdout
    heard = copy.run(sys.executable, "-c", HELLO, user="bob")
    assert heard.stdout == "b''\n" or re.search("BrokenPipe|ConnectionReset", heard.stderr), heard
    sandboxed = copy.run(sys.executable, "-c", SANDBOXED, HELLO, user="ada")
    assert "FileNotFoundError" in sandboxed.stderr, sandboxed

    # Its PIN, which the shell tried to guess, decides.
    late = copy.variet("approvals", "approve", action, user="ada", typed=f"{PIN}\n")
    assert late.returncode == 0, late.stderr
    [sent] = await strict.sent()
    assert (sent["To"], sent["From"]) == ("zoe@example.com", EMAIL)

    # It starts again by itself, opens what is sealed by itself, and keeps a new PIN from root alone.
    copy.must("systemctl", "kill", "--signal=KILL", unit.NAME)
    assert "Lunch?" in await called(copy, strict, "search", query="lunch")
    assert copy.variet("broker", "pin", typed=f"{NEW_PIN}\n").stdout == "set\n"
    assert copy.variet("approvals", "list", user="ada", typed=f"{PIN}\n").returncode == 1
    assert copy.variet("approvals", "list", user="ada", typed=f"{NEW_PIN}\n").stdout == "nothing waits\n"
    again = copy.variet("broker", "install", "--user", "ada")
    assert again.returncode == 0, again.stderr
    assert "Lunch?" in await called(copy, strict, "search", query="lunch")
    shown = copy.variet("audit", "show", user="ada", typed=f"{NEW_PIN}\n").stdout
    assert "stranger" in shown and "pin_set by=root" in shown, shown
    log = copy.variet("audit", "verify", user="ada", typed=f"{NEW_PIN}\n")
    assert log.stdout == "every line is as it was written\n"

    # What it keeps is nobody else's, after it was taken away too.
    by_copy = [str(unit.PROGRAM / "bin" / "variet"), "broker"]
    assert f"sudo {by_copy[0]} broker uninstall" in copy.run(*by_copy, "uninstall", user="ada").stderr
    copy.must(*by_copy, "uninstall")
    other = copy.variet("broker", "install", "--user", "bob", typed=f"{PIN}\n")
    assert other.returncode == 1 and "is that of ada" in other.stderr and "uninstall --purge" in other.stderr

    # What was made is unmade.
    purged = copy.variet("broker", "uninstall", "--purge")
    assert purged.returncode == 0, purged.stderr
    assert copy.run("id", unit.USER).returncode == 1
    left = copy.run("find", "/etc", "/usr/local", "/var/lib", "/run", "-name", "*variet*").stdout.split()
    assert left == [f"/etc/systemd/system/{unit.NAME}.service.d", "/etc/variet"], left
    assert "as your own user" in copy.variet("broker", "status", user="ada").stdout
