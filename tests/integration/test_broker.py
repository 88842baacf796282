"""The broker as people and programs meet it: a real process, a real socket, a real terminal, other users."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import PIN, broker, here, person
from tests.support.carrier import Diary
from tests.support.terminal import terminal
from variet.agent.sandbox import open_sandbox
from variet.agent.survey import Survey
from variet.approval import Decision
from variet.assistant.broker.approvers import Approvers
from variet.assistant.broker.client import BrokerClient
from variet.assistant.broker.server import BrokerServer
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem
from variet.errors import VarietError


def variet(home: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "variet", *words], input=typed, capture_output=True, text=True, timeout=60,
        env={**os.environ, "VARIET_HOME": str(home), "VARIET_BROKER_IDLE_S": "1"},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIET_BROKER_IDLE_S", "1")


async def test_it_starts_by_itself_once_and_ends_when_nobody_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    clients = [BrokerClient() for _ in range(4)]
    told = await asyncio.gather(*(client.call("hello") for client in clients))
    assert all(not one["has_pin"] and not one["own_user"] and "mail.send" in one["acts"] for one in told)
    pid = json.loads(here(tmp_path).rendezvous.file.read_text())["pid"]
    with pytest.raises(VarietError, match="a broker runs already"):
        BrokerServer(here(tmp_path), lambda _: {})
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PYTEST_CURRENT_TEST" not in environment, "it gets no more of the environment than it needs"
    for client in clients:
        await client.close()
    while here(tmp_path).rendezvous.file.exists():
        await asyncio.sleep(0.05)
    assert not here(tmp_path).log.read_text()


async def test_what_waits_outlives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    asked = {"client": "cli", "conversation": "", "tool": "search.fetch", "target": "https://a.example/x"}
    async with BrokerClient() as client:
        judged = await client.call("judge", **asked)
        assert judged["answer"] == "ask"
        os.kill(json.loads(here(tmp_path).rendezvous.file.read_text())["pid"], signal.SIGKILL)
        waited = await client.wait("cli", "", judged["approval"]["id"], 2)  # by another broker
        assert waited.state == "pending"
        assert (await client.call("judge", **asked))["approval"] == judged["approval"]


async def test_only_who_showed_that_they_may_decide_decides(tmp_path: Path) -> None:
    diary = Diary()
    mine = here(tmp_path)
    async with (
        broker(tmp_path, {"mail.send": diary}),
        BrokerClient(mine, start=False) as model,
        person(tmp_path) as owner,
    ):
        approval = await model.propose("cli", "", "mail.send", {"text": "hello"})
        yes = Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice="approve")
        for method, params in (
                ("decide", yes.model_dump()), ("list", {}), ("get", {"approval_id": approval.id}), ("changes", {}),
                ("rules.add", {"tool": "mail.archive", "answer": "allow"}), ("rules.list", {}), ("audit.lines", {}),
                ("surfaces.add", {"name": "mine"}), ("readers.forget", {"name": "cli"}), ("surfaces.list", {}),
            ):  # fmt: skip
            with pytest.raises(ToolProblem) as raised:
                await model.call(method, **params)
            assert raised.value.code == "locked", method
        for method, params, code in (
                ("unlock", {"pin": "1234"}, "wrong_pin"), ("present", {"secret": "guess"}, "wrong_pin"),
                ("pin.set", {"old": "1234", "pin": "mine"}, "wrong_pin"), ("approve", {}, "bad_request"),
                ("propose", {"tool": "mail.send", "asked": {}, "approved": True}, "bad_request"),
            ):  # fmt: skip
            with pytest.raises(ToolProblem) as raised:
                await model.call(method, **params)
            assert raised.value.code == code, method
        assert diary.done == []
        await owner.decide(yes)
        done = await model.wait("cli", "", approval.id, 10)
        assert done.state == "done" and done.decided_by == "person" and len(diary.done) == 1
        events = [line["event"] for line in await owner.call("audit.lines")]
        assert events.count("refused") == 10 and events.count("unlock_refused") == 1


async def test_a_paired_surface_decides_and_no_more(tmp_path: Path) -> None:
    async with broker(tmp_path, {"mail.send": Diary()}), person(tmp_path) as owner:
        secret = await owner.call("surfaces.add", name="discord")
        async with BrokerClient(here(tmp_path), start=False) as surface:
            assert await surface.call("present", secret=secret) == "discord"
            approval = await owner.propose("cli", "", "mail.send", {"text": "hello"})
            [(_, heard)] = await surface.call("changes")
            assert heard["id"] == approval.id
            for method, params in (
                ("rules.add", {"tool": "mail.archive", "answer": "allow"}), ("surfaces.add", {"name": "another"}),
                ("readers.list", {}), ("audit.lines", {}),
            ):  # fmt: skip
                with pytest.raises(ToolProblem, match="who showed"):
                    await surface.call(method, **params)
            decision = Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice="reject")
            assert (await surface.decide(decision)).decided_by == "discord"
        assert await owner.call("surfaces.drop", name="discord")
        async with BrokerClient(here(tmp_path), start=False) as surface:
            with pytest.raises(ToolProblem, match="no surface has this secret"):
                await surface.call("present", secret=secret)


async def test_pins_are_guessed_slowly_even_from_many_sides_and_over_restarts(tmp_path: Path) -> None:
    now_ms = 1_800_000_000_000
    for _ in range(2):
        store = Store(tmp_path / "store.sqlite3")
        approvers = Approvers(store, lambda: now_ms)
        if not approvers.has_pin:
            approvers.set_pin(PIN)
            for _ in range(5):
                with pytest.raises(ToolProblem, match="that is not your PIN"):
                    approvers.check_pin("0000")
        with pytest.raises(ToolProblem, match="Wait 30 s"):
            approvers.check_pin(PIN)
        store.close()
    store = Store(tmp_path / "store.sqlite3")
    approvers = Approvers(store, lambda: now_ms)
    now_ms += 30_000
    with pytest.raises(ToolProblem, match="not your PIN"):
        approvers.check_pin("0001")
    with pytest.raises(ToolProblem, match="Wait 60 s"):
        approvers.check_pin(PIN)
    now_ms -= 86_400_000  # the clock is set back by a day
    with pytest.raises(ToolProblem, match="Wait 60 s"):
        approvers.check_pin(PIN)
    now_ms += 60_000
    approvers.check_pin(PIN)
    approvers.check_pin(PIN)
    with pytest.raises(ToolProblem, match="6 to 200"):
        approvers.set_pin("12345")
    assert PIN.encode() not in (tmp_path / "store.sqlite3").read_bytes()
    store.close()


async def test_a_person_goes_through_what_waits_in_a_terminal(tmp_path: Path) -> None:
    diary = Diary()
    async with broker(tmp_path, {"mail.send": diary}), BrokerClient(here(tmp_path), start=False) as model:
        async with terminal(tmp_path, "approvals", "pin", VARIET_HOME=str(tmp_path)) as screen:
            await screen.until("New PIN:")
            screen.type(f"{PIN}\r")
            await screen.until("Repeat")
            screen.type(f"{PIN}\r")
            await screen.until("set")
            assert PIN not in screen.raw
        await model.propose("cli", "", "mail.send", {"text": "one\u202e\x1b[2Jtxt"})
        await model.propose("cli", "", "mail.send", {"text": "two"})
        async with terminal(tmp_path, "approvals", VARIET_HOME=str(tmp_path)) as screen:
            await screen.until("PIN:")
            screen.type("wrong\r")
            await screen.until("not your PIN")
            await screen.until("PIN:")
            screen.type(f"{PIN}\r")
            await screen.until("[1 of 2] Write one<U+202E>")
            await screen.until("asked for by cli, by mail.send")
            await screen.until("with the account me@example.org")
            await screen.until("| text: one<U+202E>")
            await screen.until("[q]uit")
            screen.type("y\r")
            await screen.until("done")
            await screen.until("[2 of 2] Write two")
            screen.type("n\r")
            await screen.until("Why?")
            screen.type("rather not\r")
            await screen.until("rejected")
            await screen.until("nothing else waits")
        assert [json.loads(one)["text"][:3] for one in diary.done] == ["one"]


async def test_programs_of_the_person_use_the_same_commands(tmp_path: Path) -> None:
    async with broker(tmp_path, {"mail.send": Diary()}), BrokerClient(here(tmp_path), start=False) as model:
        pin = f"{PIN}\n"

        async def ran(*words: str, typed: str = pin) -> subprocess.CompletedProcess[str]:
            return await asyncio.to_thread(variet, tmp_path, *words, typed=typed)

        none = await ran("approvals", "list")
        assert none.returncode == 1 and "there is no PIN yet" in none.stderr and "variet approvals pin" in none.stderr
        assert (await ran("approvals", "pin")).returncode == 0
        one = await model.propose("cli", "", "mail.send", {"text": "one"})
        listed: Any = json.loads((await ran("approvals", "list", "--json")).stdout)
        assert [found["id"] for found in listed] == [one.id] and listed[0]["preview"] == "text: one"
        assert "text: one" in (await ran("approvals", "show", one.id)).stdout
        changed = await ran("approvals", "approve", one.id, "--sha256", "0" * 64)
        assert changed.returncode == 1 and "not what you saw" in changed.stderr
        approved = await ran("approvals", "approve", one.id, "--json", "--sha256", one.payload_sha256)
        assert json.loads(approved.stdout)["state"] == "done"
        late = await ran("approvals", "reject", one.id)
        assert late.returncode == 1 and "it is done" in late.stderr
        assert "kept: allow mail.archive" in (await ran("approvals", "rules", "add", "mail.archive")).stdout
        refused = await ran("approvals", "rules", "add", "mail.send")
        assert refused.returncode == 1 and "always asks" in refused.stderr
        assert (await ran("approvals", "rules")).stdout == "allow mail.archive\n"
        assert (await ran("approvals", "rules", "remove", "allow mail.archive")).returncode == 0
        assert "deciding" not in (await ran("audit", "show")).stdout
        assert (await ran("audit", "verify")).stdout == "every line is as it was written\n"
        lines = here(tmp_path).audit.read_text().splitlines()
        here(tmp_path).audit.write_text("\n".join([*lines[:2], *lines[3:], ""]))
        assert (await ran("audit", "verify")).returncode == 1
        wrong = await ran("approvals", "list", typed="nonsense\n")
        assert wrong.returncode == 1 and "not your PIN" in wrong.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become somebody else")
async def test_another_user_of_the_machine_is_not_heard(tmp_path: Path) -> None:
    async with broker(tmp_path) as server:
        server._where = here(tmp_path).__class__(here(tmp_path).folder, peer_uid=0)
        address = json.loads(here(tmp_path).rendezvous.file.read_text())["socket"]
        hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {}}) + "\n"
        code = (
            "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]);"
            "s.sendall(sys.argv[2].encode()); print(s.recv(100))"
        )

        async def tried() -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, address, hello, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            said, wrong = await process.communicate()
            return (said or wrong.splitlines()[-1]).decode()

        assert "PermissionError" in await tried()
        Path(address).chmod(0o777)
        Path(address).parent.chmod(0o755)
        try:
            heard = await tried()
            assert heard.strip() == "b''" or "Error" in heard
        finally:
            Path(address).parent.chmod(0o700)
        async with person(tmp_path) as owner:
            strangers = [line for line in await owner.call("audit.lines") if line["event"] == "stranger"]
            assert [line["uid"] for line in strangers] == [65534]


ATTACK = """
import json, os, socket, subprocess, sys
folder, address, action = sys.argv[1:4]
got = []
for path in ("store.sqlite3", "audit.jsonl", "secrets.sealed", "socket.json"):
    try:
        open(os.path.join(folder, path), "rb").read(1)
        got.append(path)
    except OSError:
        pass
try:
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    got.append("socket")
except OSError:
    pass
for words in (["approvals", "approve", action], ["approvals", "rules", "add", "mail.archive"], ["approvals", "pin"]):
    for pin in ("", "1234"):
        command = [sys.executable, "-m", "variet", *words]
        done = subprocess.run(command, input=pin + "\\nmine\\n", text=True, capture_output=True)
        if not done.returncode:
            got.append(" ".join(words))
print(json.dumps(sorted(set(got))))
"""


async def test_a_shell_of_an_agent_decides_nothing_and_in_the_sandbox_finds_nothing(tmp_path: Path) -> None:
    """What docs/security.md says of a broker that runs as its person."""
    diary, home, work = Diary(), tmp_path / "home", tmp_path / "work"
    work.mkdir()
    (work / "attack.py").write_text(ATTACK)
    async with broker(home, {"mail.send": diary}), person(home) as owner:
        approval = await owner.propose("cli", "", "mail.send", {"text": "hello"})
        address = json.loads(here(home).rendezvous.file.read_text())["socket"]
        command = [sys.executable, str(work / "attack.py"), str(here(home).folder), address, approval.id]

        async def tried(*before: str) -> Any:
            process = await asyncio.create_subprocess_exec(
                *before, *command, cwd=work, env={**os.environ, "VARIET_HOME": str(home)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            said, wrong = await process.communicate()
            assert process.returncode == 0, wrong.decode()
            return json.loads(said)

        bare = await tried()
        assert bare == ["audit.jsonl", "socket", "socket.json", "store.sqlite3"], "it decides nothing"
        sandbox, why = await open_sandbox(work)
        assert sandbox is not None, why
        try:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            assert await tried(*sandbox.words({"PATH": path, "VARIET_HOME": str(home)}, Survey())) == []
        finally:
            sandbox.close()
        assert (await owner.get(approval.id)).state == "pending" and diary.done == []
        assert await owner.call("rules.list") == []
