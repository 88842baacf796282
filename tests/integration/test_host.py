"""Conversations that surfaces share: over a real socket, with real processes where they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.agent import call, decision, of, scripted
from tests.support.terminal import terminal
from variet import endpoint, rpc
from variet.agent import sessions
from variet.agent.events import (
    DELTAS,
    ApprovalRequested,
    ApprovalResolved,
    EventBase,
    ModeChanged,
    PromptDropped,
    TextDelta,
    ToolEnded,
    TurnEnded,
    TurnStarted,
)
from variet.agent.host.client import HostClient, rendezvous
from variet.agent.host.hosted import HostedConversation
from variet.agent.host.server import Host
from variet.agent.host.wire import HostErrors, Opening
from variet.agent.state import State
from variet.commands.host import open_conversation
from variet.errors import ConversationBusy, SessionError, VarietError
from variet.rpc import LONGEST_LINE

pytestmark = pytest.mark.usefixtures("home")

EDIT = call("edit", path="sums.py", old="a - b", new="a + b")


@contextlib.asynccontextmanager
async def hosting(idle_s: float | None = None, grace_s: float = 0.2) -> AsyncIterator[Host]:
    """A host in this process."""
    host = Host(rendezvous(), open_conversation, idle_s, grace_s)
    running = asyncio.create_task(host.run())
    while not rendezvous().address():
        await asyncio.sleep(0.01)
    try:
        yield host
    finally:
        host.end()
        await asyncio.wait_for(running, 20)


def asked(url: str, work: Path, **settings: Any) -> Opening:
    return Opening(root=str(work), engine=url, profile="native", **settings)


class Surface:
    """A surface in this process: its line, one conversation, and all that it saw."""

    def __init__(self, name: str, *, start: bool = False) -> None:
        self.client = HostClient(name, start=start)
        self.seen: list[EventBase] = []
        self.problems: list[VarietError] = []

    async def join(self, opening: Opening) -> HostedConversation:
        self.conversation = await HostedConversation.open(self.client, opening, self.problems.append)
        self._reading = asyncio.create_task(self._read())
        return self.conversation

    async def _read(self) -> None:
        async for event in self.conversation.events():
            self.seen.append(event)

    async def until(self, kind: type[Any], count: int = 1) -> Any:
        deadline = asyncio.get_running_loop().time() + 30
        while len(found := of(self.seen, kind)) < count:
            told = f"{[type(event).__name__ for event in self.seen]}, {self.problems}"
            assert asyncio.get_running_loop().time() < deadline, told
            await asyncio.sleep(0.005)
        return found[count - 1]

    async def leave(self) -> None:
        await self.conversation.close()
        await self.client.close()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def vanish(self) -> None:
        """As a crash: the line breaks without a word."""
        self._reading.cancel()
        for task in self.conversation._tasks:
            task.cancel()
        await self.client.close()


async def test_what_is_asked_in_one_surface_is_answered_in_another(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server, hosting():
        terminal, editor = Surface("terminal"), Surface("acp")
        first = await terminal.join(asked(server.url, work, mode="ask"))
        second = await editor.join(asked(server.url, work, session=first.header.id))
        prompt_id = first.submit("fix add")
        question = await terminal.until(ApprovalRequested)
        assert await editor.until(ApprovalRequested) == question
        assert second.pending() == (question.approval,)
        second.decide(decision(question, "approve"))
        resolved = await terminal.until(ApprovalResolved)
        assert (resolved.state, resolved.by) == ("approved", "acp")
        assert (await terminal.until(TurnEnded)).reason == (await editor.until(TurnEnded)).reason == "done"
        assert terminal.seen == editor.seen and first.state == second.state
        begun = of(editor.seen, TurnStarted)[0]
        assert (begun.prompt_id, begun.surface) == (prompt_id, "terminal")
        assert "a + b" in (work / "sums.py").read_text()
        await editor.leave()
        await terminal.leave()


async def test_a_turn_goes_on_without_a_surface_and_waits_where_it_needs_a_yes(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server, hosting(grace_s=0.0):
        one = Surface("terminal")
        conversation = await one.join(asked(server.url, work, mode="ask"))
        conversation.submit("fix add")
        await one.until(TurnStarted)
        await one.vanish()
        async with HostClient("test", start=False) as client:
            while not (await client.sessions())[0].approvals:
                await asyncio.sleep(0.02)
            await asyncio.sleep(1.2)  # twice as long as it takes the host to look who is there
            (kept,) = await client.sessions()
            assert kept.working and kept.surfaces == ()
        back = Surface("terminal")
        again = await back.join(asked(server.url, work, session=conversation.header.id))
        (approval,) = again.pending()
        again.decide(decision(ApprovalRequested(approval=approval), "approve"))
        assert (await back.until(TurnEnded)).reason == "done"
        await back.leave()


async def test_a_surface_joins_in_the_middle_of_an_answer_and_sees_all_of_it(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "word " * 60, "gap_ms": 10, "piece": 5}]) as server, hosting():
        one, late = Surface("terminal"), Surface("acp")
        conversation = await one.join(asked(server.url, work))
        conversation.submit("go")
        await one.until(TextDelta, 10)
        joined = await late.join(asked(server.url, work, session=conversation.header.id))
        assert joined.working
        await late.until(TurnEnded)
        for reader in (one, late):
            assert "".join(event.text for event in of(reader.seen, TextDelta)) == "word " * 60
        assert of(late.seen, TurnStarted) == [], "that stands in the history"
        assert of(list(await joined.history()), TurnStarted)[0].input == "go"
        await late.leave()
        await one.leave()


async def test_a_reader_that_does_not_read_holds_nobody_back_and_finds_all_of_it(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "x" * 400_000, "piece": 200}, {"say": "The end."}]
    async with scripted(tmp_path, answers) as server, hosting():
        quick = Surface("terminal")
        conversation = await quick.join(asked(server.url, work))
        name = conversation.header.id
        reader, writer = await endpoint.dial(rendezvous().address())
        for at, (method, params) in enumerate(
            [
                ("hello", {"surface": "slow"}),
                ("follow", {"session": name, "after": conversation.state.seq, "again": False}),
            ]
        ):
            writer.write(json.dumps({"jsonrpc": "2.0", "id": at, "method": method, "params": params}).encode() + b"\n")
        await asyncio.sleep(0.2)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        conversation.submit("one")
        await quick.until(TurnEnded)
        conversation.submit("two")
        await quick.until(TurnEnded, 2)
        assert len(of(quick.seen, TextDelta)) > 1000
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        got: list[dict[str, Any]] = []
        while not (got and got[-1]["type"] == "turn_ended" and got[-1]["turn_id"] == quick.seen[-1].turn_id):
            message = json.loads(await asyncio.wait_for(reader.readuntil(b"\n"), 20))
            if message.get("method") == "event":
                got.append(message["params"]["event"])
        recorded = [event.seq for event in quick.seen if not isinstance(event, DELTAS)]
        assert [one["seq"] for one in got if one["seq"] in recorded] == recorded
        assert [one["seq"] for one in got] == sorted({one["seq"] for one in got})
        writer.close()
        await quick.leave()


async def test_a_surface_grants_what_is_its_own_to_grant(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "Done."}]
    async with scripted(tmp_path, answers) as server, hosting():
        terminal, pocket = Surface("terminal"), Surface("discord")
        conversation = await terminal.join(asked(server.url, work, mode="ask"))
        other = await pocket.join(asked(server.url, work, session=conversation.header.id))
        conversation.submit("fix add")
        assert (await terminal.until(ApprovalRequested)).approval.scopes == ("once", "session", "always")
        question = await pocket.until(ApprovalRequested)
        assert question.approval.scopes == ("once",)
        other.decide(decision(question, "approve", "session"))
        while not pocket.problems:
            await asyncio.sleep(0.01)
        assert "may not allow for more than: once" in str(pocket.problems[0])
        other.decide(decision(question, "approve"))
        assert (await pocket.until(TurnEnded)).reason == "done"
        await pocket.leave()
        await terminal.leave()


async def test_what_one_surface_changes_the_other_hears(tmp_path: Path, work: Path) -> None:
    script = {"tiers": {"fast": {}, "balanced": {}}, "answers": [EDIT, {"say": "Done."}, {"say": "ok"}]}
    async with scripted(tmp_path, script) as server, hosting():
        one, other = Surface("terminal"), Surface("acp")
        conversation = await one.join(asked(server.url, work, mode="auto-edit", tier="balanced"))
        second = await other.join(asked(server.url, work, session=conversation.header.id))
        conversation.submit("fix add")
        await other.until(TurnEnded)
        second.set_mode("plan")
        assert (await one.until(ModeChanged)).mode == conversation.state.mode == "plan"
        second.rename("Sums")
        await second.set_tier("fast")
        undone = await second.undo()
        assert undone.restored == ("sums.py",) and "+    return a + b" not in (await conversation.changes()).patch
        while conversation.state != second.state or not conversation.state.undone:
            await asyncio.sleep(0.01)
        assert (conversation.state.title, conversation.state.tier) == ("Sums", "fast")
        header, events = sessions.read(conversation.header.id)
        assert State.of(header, "", events).title == "Sums"
        assert (await conversation.history())[-1].seq == events[-1].seq
        assert (await conversation.describe()).messages > 3
        with pytest.raises(VarietError):
            await second.set_tier("no such tier")
        await other.leave()
        await one.leave()


async def test_commands_see_the_environment_of_the_surface_that_opened_the_session(tmp_path: Path, work: Path) -> None:
    answers = [call("shell", command='echo "it is $COLOUR"'), {"say": "ok"}]
    async with scripted(tmp_path, answers) as server, hosting():
        one = Surface("terminal")
        environ = {"PATH": os.environ["PATH"], "COLOUR": "green"}
        conversation = await one.join(asked(server.url, work, mode="full", environ=environ, rules=_any_command()))
        conversation.submit("go")
        await one.until(TurnEnded)
        assert "it is green" in of(one.seen, ToolEnded)[0].content
        await one.leave()


def _any_command() -> tuple[Any, ...]:
    from tests.support.agent import ANY_COMMAND

    return ANY_COMMAND


async def test_a_session_that_nobody_needs_is_closed_and_can_be_opened_elsewhere(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=0.0):
        one = Surface("terminal")
        conversation = await one.join(asked(server.url, work))
        async with HostClient("test", start=False) as client:
            with pytest.raises(ConversationBusy, match="in use by terminal"):
                await client.call("release", session=conversation.header.id)
            await one.leave()
            async with asyncio.timeout(10):
                while await client.sessions():
                    await asyncio.sleep(0.05)
        sessions.resume(conversation.header.id).close()


async def test_a_session_is_released_at_once_where_somebody_asks_for_it(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=60.0):
        one = Surface("terminal")
        conversation = await one.join(asked(server.url, work))
        await one.leave()
        with pytest.raises(SessionError, match="in use"):
            sessions.resume(conversation.header.id)
        async with HostClient("test", start=False) as client:
            await client.call("release", session=conversation.header.id)
        sessions.resume(conversation.header.id).close()


async def test_the_same_session_opened_by_many_at_once_is_one(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=0.0):
        one = Surface("terminal")
        name = (await one.join(asked(server.url, work))).header.id
        await one.leave()
        await asyncio.sleep(1.0)
        many = [Surface(f"s{at}") for at in range(8)]
        joined = await asyncio.gather(*(each.join(asked(server.url, work, session=name)) for each in many))
        assert {each.header.id for each in joined} == {name}
        async with HostClient("test", start=False) as client:
            assert len(await client.sessions()) == 1
        for each in many:
            await each.leave()


# --- what is wrong ---


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("nothing", {}, "knows no nothing"), ("submit", {"session": "x"}, "asked wrongly"),
        ("submit", {"session": "x", "prompt_id": "p", "text": "t", "attached": ""}, "not open"),
        ("open", {"opening": {"root": "/", "engine": 5}}, "asked wrongly"),
        ("follow", {"session": "x", "after": "y", "again": False}, "asked wrongly"),
        ("set_mode", {"session": "x", "mode": "yolo"}, "asked wrongly"),
        ("decide", {"session": "x", "decision": {}}, "asked wrongly"),
        ("hello", {"surface": ["x"]}, "asked wrongly"), ("__init__", {}, "knows no"),
    ],
)  # fmt: skip
async def test_what_is_asked_wrongly_gets_an_error_and_disturbs_nobody(
    method: str, params: dict[str, Any], words: str
) -> None:
    async with hosting(), HostClient("test", start=False) as client:
        with pytest.raises(SessionError, match=words):
            await client.ask(method, **params)
        assert await client.sessions() == []


async def test_what_is_asked_wrongly_repeats_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    opening = {"root": "/", "engine": "x", "key": ["sk-SECRET"], "environ": {"TOKEN": ["SECRET"]}, "SECRET": 1}
    async with hosting(), HostClient("test", start=False) as client:
        with pytest.raises(SessionError, match=r"key: .*variet host stop") as refused:
            await client.ask("open", opening={**opening, "environ": {"TOKEN": ["SECRET"]}})
    assert "sk-SECRET" not in str(refused.value) + caplog.text and "['SECRET']" not in str(refused.value) + caplog.text


async def test_an_engine_that_is_not_there_is_told_and_leaves_nothing_open(tmp_path: Path, work: Path) -> None:
    async with hosting(), HostClient("test", start=False) as client:
        with pytest.raises(VarietError, match=r"reached|answer|connect"):
            await HostedConversation.open(client, asked("http://127.0.0.1:9", work))
        assert await client.sessions() == []


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
async def test_the_socket_is_its_users_alone() -> None:
    async with hosting():
        address = Path(rendezvous().address())
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(rendezvous().file.stat().st_mode) == 0o600
    assert not address.exists() and not rendezvous().file.exists()


async def test_a_command_in_the_sandbox_cannot_reach_the_host(tmp_path: Path, work: Path) -> None:
    """It could answer its own question there."""
    async with hosting():
        address = rendezvous().address()
        reach = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({address!r}); print('REACHED')"
        (work / "reach.py").write_text(reach)
        plain = await asyncio.create_subprocess_exec(
            sys.executable, "reach.py", cwd=work, stdout=asyncio.subprocess.PIPE
        )
        assert (await plain.communicate())[0] == b"REACHED\n", "outside it can be"
        async with scripted(tmp_path, [call("shell", command="python3 reach.py"), {"say": "ok"}]) as server:
            one = Surface("terminal")
            conversation = await one.join(asked(server.url, work, mode="full", environ=dict(os.environ)))
            assert not any("sandbox" in note for note in conversation.notes)
            conversation.submit("go")
            await one.until(TurnEnded)
            (end,) = of(one.seen, ToolEnded)
            assert "FileNotFoundError" in end.content
            await one.leave()


# --- what a hostile reading found ---


async def test_a_session_that_is_released_while_another_one_is_closed_ends_nothing(tmp_path: Path, work: Path) -> None:
    """Both have nobody for as long; the third has a surface in it."""
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=0.3) as host:
        stays = Surface("terminal")
        await stays.join(asked(server.url, work))
        names = []
        for _ in range(3):
            one = Surface("terminal")
            names.append((await one.join(asked(server.url, work))).header.id)
            await one.leave()
        for kept in host._kept.values():
            _slowly(kept.conversation)
        async with HostClient("test", start=False) as client:
            for _ in range(20):
                for name in names:
                    await client.call("release", session=name)
                await asyncio.sleep(0.05)
            assert len(await client.sessions()) == 1
        stays.conversation.submit("go")
        assert (await stays.until(TurnEnded)).reason == "done"
        await stays.leave()


def _slowly(conversation: Any) -> None:
    """It takes a moment to close, as with servers that end slowly."""
    close = conversation.close

    async def slow() -> None:
        await asyncio.sleep(0.3)
        await close()

    conversation.close = slow


async def test_who_asks_for_a_release_and_leaves_gets_it_all_the_same(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=60.0) as host:
        one = Surface("terminal")
        name = (await one.join(asked(server.url, work))).header.id
        await one.leave()
        _slowly(host._kept[name].conversation)
        client = HostClient("test", start=False)
        asking = asyncio.create_task(client.ask("release", session=name))
        await asyncio.sleep(0.1)
        await client.close()
        await asyncio.gather(asking, return_exceptions=True)
        back = Surface("terminal")  # while it is being closed
        assert (await back.join(asked(server.url, work, session=name))).header.id == name
        await back.leave()


async def test_what_is_too_long_for_a_line_is_told_and_breaks_nothing(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "one"}, {"say": "two"}, call("shell", command="yes 0123456789 | head -c 4800000 > big.txt"),
               {"say": "three"}]  # fmt: skip
    async with scripted(tmp_path, {"answers": answers}) as server, hosting() as host:
        one = Surface("terminal")
        conversation = await one.join(asked(server.url, work, mode="full", rules=_any_command()))
        inside = host._kept[conversation.header.id].conversation
        inside.submit("short", attached="\x01" * 1_600_000)  # six bytes each in JSON
        assert (await one.until(TurnEnded)).reason == "done"
        assert of(one.seen, TurnStarted)[0].context == "", "it comes without what was sent along"
        conversation.submit("x", attached="y" * 9_000_000)
        while not one.problems:
            await asyncio.sleep(0.01)
        assert "longer than 8 MB" in str(one.problems[0])
        conversation.submit("two")
        await one.until(TurnEnded, 2)
        conversation.submit("three")
        await one.until(TurnEnded, 3)
        (change,) = (await conversation.changes()).files
        assert change.path == "big.txt" and len(change.patch) > 4_800_000
        assert len(one.problems) == 1
        await one.leave()


async def test_an_event_of_a_newer_host_is_passed_over(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(tmp_path, [{"say": "one"}]) as server, hosting() as host:
        one = Surface("terminal")
        conversation = await one.join(asked(server.url, work))
        (line,) = host._kept[conversation.header.id].lines
        news = {"session": conversation.header.id, "event": {"type": "a_newer_event", "seq": 10**9}}
        await rpc.tell(line.writer, "event", news)
        conversation.submit("go")
        assert (await one.until(TurnEnded)).reason == "done"
        await one.leave()


@pytest.mark.parametrize("surface", ["discord"])
async def test_a_surface_that_may_grant_little_chooses_no_mode_that_grants_more(
    tmp_path: Path, work: Path, surface: str
) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server, hosting():
        terminal_, pocket = Surface("terminal"), Surface(surface)
        conversation = await terminal_.join(asked(server.url, work, mode="ask"))
        name = conversation.header.id
        conversation.submit("fix add")
        await terminal_.until(ApprovalRequested)
        other = await pocket.join(asked(server.url, work, session=name))
        assert [one.scopes for one in other.pending()] == [("once",)]
        assert [one.scopes for one in (await pocket.client.sessions())[0].approvals] == [("once",)]
        other.set_mode("full")
        while not pocket.problems:
            await asyncio.sleep(0.01)
        wider: list[dict[str, Any]] = [{"mode": "auto-edit"}, {"trust": True}, {"rules": _any_command()}]
        for more in wider:
            with pytest.raises(SessionError, match="plan and ask alone"):
                await HostedConversation.open(pocket.client, asked(server.url, work, session=name, **more))
        assert conversation.state.mode == "ask"
        await pocket.leave()
        conversation.cancel()
        await terminal_.until(TurnEnded)
        await terminal_.leave()


async def test_a_surface_says_first_what_it_is(tmp_path: Path) -> None:
    async with hosting():
        line = rpc.Asking(*await endpoint.dial(rendezvous().address()), HostErrors())
        with pytest.raises(SessionError, match="says first what it is"):
            await line.ask("sessions", {})
        await line.ask("hello", {"surface": "test"})
        assert await line.ask("sessions", {}) == []
        await line.close()


async def test_what_is_sent_right_after_a_crash_is_done_once_the_session_is_back(
    tmp_path: Path, work: Path, host_of_its_own: None
) -> None:
    script = {"tiers": {"fast": {}, "balanced": {}}, "answers": [{"say": "one"}, {"say": "two"}]}
    async with scripted(tmp_path, script) as server:
        one = Surface("terminal", start=True)
        conversation = await one.join(asked(server.url, work, tier="fast"))
        await conversation.set_tier("balanced")
        os.kill(host_pid(), signal.SIGKILL)
        conversation.set_mode("plan")
        conversation.rename("Sums")
        await conversation.set_tier("fast")
        await conversation.set_tier("balanced")
        os.kill(host_pid(), signal.SIGKILL)
        conversation.submit("go")
        assert (await one.until(TurnEnded)).reason == "done"
        state = conversation.state
        assert (state.mode, state.title, state.tier) == ("plan", "Sums", "balanced")
        assert json.loads((await server.bodies())[0])["model"] == "balanced"
        await one.leave()


async def test_who_only_joins_opens_nothing(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, hosting(grace_s=0.0):
        one = Surface("terminal")
        name = (await one.join(asked(server.url, work))).header.id
        await one.leave()
        async with HostClient("test", start=False) as client:
            await client.call("release", session=name)
            with pytest.raises(SessionError, match="not open"):
                await HostedConversation.open(client, asked(server.url, work, session=name, only_join=True))
            assert await client.sessions() == []


# --- followed from a terminal ---


async def test_a_terminal_follows_a_session_and_answers_what_it_asks(tmp_path: Path, work: Path, home: Path) -> None:
    answers = [{"say": "Here I am."}, EDIT, {"say": "word " * 40 + "It adds now.", "gap_ms": 5, "piece": 8}]
    async with scripted(tmp_path, answers) as server, hosting():
        editor = Surface("acp")
        conversation = await editor.join(asked(server.url, work, mode="ask"))
        conversation.submit("are you there?")
        await editor.until(TurnEnded)
        async with terminal(work, "sessions", "watch", VARIET_HOME=str(home), VARIET_ENGINE_URL=server.url) as shown:
            await shown.until("› are you there?")
            await shown.until("Here I am.")
            await shown.until("rests (balanced, mode ask); Ctrl-C leaves it")
            conversation.submit("fix add")
            await shown.until("› fix add")
            await shown.until("or say what instead ›")
            shown.type("y\r")
            resolved = await editor.until(ApprovalResolved)
            assert (resolved.state, resolved.by) == ("approved", "variet sessions watch")
            await editor.until(TextDelta, 3)
            shown.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(shown.process.wait(), 10) == 0
        assert (await editor.until(TurnEnded, 2)).reason == "done", "who leaves ends nothing"
        assert "a + b" in (work / "sums.py").read_text()
        await editor.leave()


async def test_a_question_that_is_answered_elsewhere_is_taken_back_from_who_watches(
    tmp_path: Path, work: Path, home: Path
) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "It adds now."}]) as server, hosting():
        editor = Surface("acp")
        conversation = await editor.join(asked(server.url, work, mode="ask"))
        conversation.submit("fix add")
        question = await editor.until(ApprovalRequested)
        name = conversation.header.id
        async with terminal(
            work, "sessions", "watch", name, VARIET_HOME=str(home), VARIET_ENGINE_URL=server.url
        ) as shown:
            await shown.until("or say what instead ›")
            conversation.decide(decision(question, "approve"))
            await shown.until("(approved by acp)")
            await shown.until("It adds now.")
            await editor.leave()
            shown.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(shown.process.wait(), 10) == 0


async def test_what_is_open_is_listed_and_what_is_not_is_said(tmp_path: Path, work: Path, home: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server:
        assert "the host starts when a surface needs it" in (await variet(work, home, "host", "status"))[1]
        code, _, err = await variet(work, home, "sessions", "watch")
        assert code == 1 and "no session of this folder is open" in err
        async with hosting():
            editor = Surface("acp")
            conversation = await editor.join(asked(server.url, work, mode="ask"))
            conversation.submit("fix add")
            await editor.until(ApprovalRequested)
            shown = (await variet(work, home, "host", "status"))[1]
            assert conversation.header.id in shown and "waits for you" in shown and "(acp)" in shown
            (told,) = json.loads((await variet(work, home, "host", "status", "--json"))[1])
            assert told["approvals"][0]["summary"] == "edit sums.py" and told["surfaces"] == ["acp"]
            await editor.leave()
            assert "the host has ended" in (await variet(work, home, "host", "stop"))[1]
        assert "no host runs" in (await variet(work, home, "host", "stop"))[1]


async def test_what_a_session_changed_is_read_beside_it_and_taken_back_once_nobody_needs_it(
    tmp_path: Path, work: Path, home: Path
) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server, hosting(grace_s=60.0):
        editor = Surface("acp")
        conversation = await editor.join(asked(server.url, work, mode="auto-edit"))
        conversation.submit("fix add")
        await editor.until(TurnEnded)
        assert "+    return a + b" in (await variet(work, home, "sessions", "diff"))[1]
        code, _, err = await variet(work, home, "sessions", "undo")
        assert code == 1 and "in use by acp" in err and "a + b" in (work / "sums.py").read_text()
        await editor.leave()
        assert "put back  sums.py" in (await variet(work, home, "sessions", "undo"))[1]
        assert "a - b" in (work / "sums.py").read_text()


async def variet(work: Path, home: Path, *words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", *words, cwd=work, env={**os.environ, "VARIET_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# --- processes ---


def host_pid() -> int:
    return int(json.loads(rendezvous().file.read_text())["pid"])


@pytest.fixture
async def host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The host is a real process. The first surface of the test starts it."""
    monkeypatch.setenv("VARIET_HOST_IDLE_S", "1")
    monkeypatch.setenv("VARIET_HOST_GRACE_S", "0.2")
    yield
    with contextlib.suppress(OSError, ValueError):
        os.kill(host_pid(), signal.SIGKILL)


async def test_the_first_surface_starts_the_host_and_it_ends_when_idle(
    tmp_path: Path, work: Path, host_of_its_own: None
) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server:
        one, other = Surface("terminal", start=True), Surface("acp", start=True)
        first, _ = await asyncio.gather(one.join(asked(server.url, work)), other.join(asked(server.url, work)))
        pid = host_pid()
        first.submit("go")
        await one.until(TurnEnded)
        await one.leave()
        await other.leave()
        async with asyncio.timeout(20):
            while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.1)
    assert not rendezvous().file.exists()


async def test_the_host_killed_at_any_event_loses_nothing_that_was_logged(
    tmp_path: Path, work: Path, host_of_its_own: None
) -> None:
    answers = [call("read", path="sums.py"), EDIT, call("shell", command="echo x > made"), {"say": "Done."}]
    for at in range(0, 100, 3):
        (work / "sums.py").write_text("def add(a, b):\n    return a - b\n")
        folder = tmp_path / str(at)
        folder.mkdir()
        async with scripted(folder, {"answers": [*answers, *[{"say": "ok"}] * 3]}) as server:
            one = Surface("terminal", start=True)
            opening = asked(server.url, work, mode="auto-edit", rules=_any_command())
            conversation = await one.join(opening)
            prompt_id = conversation.submit("go")
            async with asyncio.timeout(20):
                while len(one.seen) <= at and not of(one.seen, TurnEnded):
                    await asyncio.sleep(0)
            whole = bool(of(one.seen, TurnEnded))
            os.kill(host_pid(), signal.SIGKILL)
            end = await one.until(TurnEnded)
            assert end.reason == ("done" if whole else "cancelled")
            assert {event.prompt_id for event in of(one.seen, TurnStarted)} == {prompt_id}
            conversation.submit("are you there?")
            assert (await one.until(TurnEnded, 2)).reason == "done"
            places = [event.seq for event in one.seen if not isinstance(event, DELTAS)]
            assert places == sorted(set(places)), "each event once, in its order"
            _, events = sessions.read(conversation.header.id)
            seen = [event for event in one.seen if not isinstance(event, DELTAS) and event.parent_id is None]
            logged = [event for event in events if event.seq >= seen[0].seq]
            assert [type(event) for event in seen] == [type(event) for event in logged] and seen == logged
            assert conversation.state.turn_id == "" and conversation.pending() == ()
            await one.leave()
        if whole:
            break
    assert at > 10


_SURFACE = """
import asyncio, os, sys
from tests.integration.test_host import Surface, asked
from pathlib import Path

async def main(url, root, last):
    one = Surface("terminal")
    conversation = await one.join(asked(url, Path(root), mode="auto-edit"))
    print(conversation.header.id, flush=True)
    conversation.submit("go")
    async for event in conversation.events():
        if event.seq >= last or event.type == "turn_ended":
            os.kill(os.getpid(), 9)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_a_surface_killed_at_any_event_ends_nothing(tmp_path: Path, work: Path) -> None:
    async with hosting(grace_s=30.0):
        for last in (1, 2, 4, 6, 9, 12, 99):
            (work / "sums.py").write_text("def add(a, b):\n    return a - b\n")
            folder = tmp_path / str(last)
            folder.mkdir()
            async with scripted(folder, [call("read", path="sums.py"), EDIT, {"say": "Done."}]) as server:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _SURFACE, server.url, str(work), str(last), stdout=asyncio.subprocess.PIPE,
                    cwd=Path(__file__).parents[2],
                )  # fmt: skip
                name = (await process.communicate())[0].decode().split()[0]
                back = Surface("terminal")
                conversation = await back.join(asked(server.url, work, session=name))
                async with asyncio.timeout(20):
                    while conversation.state.working or not conversation.state.turns:
                        await asyncio.sleep(0.01)
                assert of(list(await conversation.history()), TurnEnded)[-1].reason == "done", last
                assert "a + b" in (work / "sums.py").read_text()
                await back.leave()


async def test_a_host_that_is_told_to_end_ends_its_turns_in_order(
    tmp_path: Path, work: Path, host_of_its_own: None
) -> None:
    span = f"1000.{os.getpid()}"  # by which its command is known: in a sandbox it has another id
    answers = [call("shell", command=f"touch begun; sleep {span}"), {"say": "ok"}]
    async with scripted(tmp_path, answers) as server:
        one = Surface("terminal", start=True)
        conversation = await one.join(asked(server.url, work, mode="full", rules=_any_command()))
        conversation.submit("go")
        conversation.submit("behind it")
        while not _running("sleep", span):
            await asyncio.sleep(0.02)
        pid, name = host_pid(), conversation.header.id
        await one.vanish()
        os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(20):
            while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.05)
    _, events = sessions.read(name)
    assert of(events, TurnEnded)[-1].reason == "cancelled" and of(events, PromptDropped)[-1].reason == "closed"
    async with asyncio.timeout(10):  # nothing outlives it
        while _running("sleep", span):
            await asyncio.sleep(0.05)


def _running(*words: str) -> bool:
    return any(one.info["cmdline"] == list(words) for one in psutil.process_iter(["cmdline"]))


def test_a_line_is_long_enough_for_a_large_change() -> None:
    assert LONGEST_LINE >= 8_000_000
