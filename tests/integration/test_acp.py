"""`variet acp`: driven by somebody else's client, and by the SDK's for what that one does not do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import acp
import psutil
import pytest
from acp import RequestError, schema

from tests.support.agent import scripted
from variet.agent.sessions import Stored, create

ACPX = Path(__file__).parents[1] / "support" / "node" / "node_modules" / "acpx" / "dist" / "cli.js"
EDIT = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": "a - b", "new": "a + b"}}]}
READ = {"calls": [{"name": "read", "arguments": {"path": "sums.py"}}]}


def environment(work: Path, url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VARIET_")}
    home = work.parent
    return {**clean, "VARIET_HOME": str(home / "home"), "VARIET_ENGINE_URL": url, "HOME": str(home)}


# --- somebody else's client ---


async def acpx(work: Path, url: str, *words: str, permissions: str = "--approve-all") -> list[dict[str, Any]]:
    """What acpx and the agent said to each other."""
    agent = f"{sys.executable} -m variet acp"
    process = await asyncio.create_subprocess_exec(
        shutil.which("node") or "node", str(ACPX), "--cwd", str(work), "--agent", agent, permissions,
        "--format", "json", *words, cwd=work, env=environment(work, url),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    lines = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
    assert lines, err.decode()
    return lines


def updates(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [line["params"]["update"] for line in lines if line.get("method") == "session/update"]
    return [one for one in found if one["sessionUpdate"] == kind]


async def test_a_third_party_client_drives_an_edit_with_a_permission(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "It adds now."}]) as server:
        lines = await acpx(work, server.url, "exec", "fix add")
    (asked,) = [line for line in lines if line.get("method") == "session/request_permission"]
    (diff,) = asked["params"]["toolCall"]["content"]
    assert diff["type"] == "diff" and "a - b" in diff["oldText"] and "a + b" in diff["newText"]
    (card,) = updates(lines, "tool_call")
    assert (card["kind"], card["title"]) == ("edit", "edit sums.py")
    assert card["locations"] == [{"path": str(work / "sums.py")}]
    done = updates(lines, "tool_call_update")[-1]
    assert done["status"] == "completed" and done["content"][0]["type"] == "diff"
    assert "".join(one["content"]["text"] for one in updates(lines, "agent_message_chunk")) == "It adds now."
    assert updates(lines, "usage_update")[-1]["size"] == 32768
    # The last answer; what the session can do may be told later still.
    answers = [line["result"] for line in lines if "result" in line]
    assert answers[-1]["stopReason"] == "end_turn"
    assert "a + b" in (work / "sums.py").read_text()


async def test_a_third_party_client_that_denies_changes_nothing(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "As you wish.", "expect": "refused"}]) as server:
        await acpx(work, server.url, "exec", "fix add", permissions="--deny-all")
    assert "a - b" in (work / "sums.py").read_text()


async def test_a_third_party_client_keeps_a_session_and_sets_its_options(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "One."}, {"say": "Two."}]
    async with scripted(tmp_path, answers) as server:
        await acpx(work, server.url, "sessions", "new")
        try:
            for words in (("set-mode", "auto-edit"), ("set", "tier", "deep-coder"), ("first",), ("second",)):
                assert not [line for line in await acpx(work, server.url, *words) if "error" in line]
        finally:
            await acpx(work, server.url, "sessions", "close")
        bodies = [json.loads(body) for body in await server.bodies()]
    assert [body["model"] for body in bodies] == ["deep-coder"] * 3
    assert len(bodies[2]["messages"]) == 6, "one conversation"
    assert "a + b" in (work / "sums.py").read_text()


# --- the SDK's client ---


class Editor:
    """Keeps what it is told; answers permissions with `choice`."""

    def __init__(self) -> None:
        self.updates: list[Any] = []
        self.choice = "once"
        self.asked: list[Any] = []
        self.fault: Exception | None = None

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.updates.append(update)

    async def request_permission(self, session_id: str, tool_call: Any, options: Any, **_: Any) -> Any:
        self.asked.append(tool_call)
        if self.fault is not None:
            raise self.fault
        return schema.RequestPermissionResponse(
            outcome=schema.AllowedOutcome(outcome="selected", option_id=self.choice)
        )

    def on_connect(self, conn: Any) -> None: ...

    def of(self, kind: str) -> list[Any]:
        return [one for one in self.updates if one.session_update == kind]

    def text(self) -> str:
        return "".join(one.content.text for one in self.of("agent_message_chunk"))


@asynccontextmanager
async def connected(work: Path, url: str, *words: str) -> AsyncIterator[tuple[Any, Editor]]:
    editor = Editor()
    async with acp.spawn_agent_process(
        editor, sys.executable, "-m", "variet", "acp", *words, env=environment(work, url), cwd=work,  # type: ignore[arg-type]
        use_unstable_protocol=True,
    ) as (agent, _):  # fmt: skip
        await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        yield agent, editor


async def prompt(agent: Any, session: str, text: str) -> Any:
    return await agent.prompt(session_id=session, prompt=[acp.text_block(text)])


async def test_sessions_are_listed_loaded_and_go_on(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [READ, {"say": "Seen."}, {"say": "Still here."}]) as server:
        async with connected(work, server.url) as (agent, editor):
            made = await agent.new_session(cwd=str(work), mcp_servers=[])
            await prompt(agent, made.session_id, "look at it")
            assert editor.of("session_info_update")[0].title == "look at it"
        async with connected(work, server.url) as (agent, editor):
            (listed,) = (await agent.list_sessions(cwd=str(work))).sessions
            assert (listed.session_id, listed.title) == (made.session_id, "look at it")
            await agent.load_session(cwd=str(work), session_id=made.session_id, mcp_servers=[])
            await asyncio.sleep(0.3)
            assert [one.content.text for one in editor.of("user_message_chunk")] == ["look at it"]
            assert editor.text() == "Seen." and editor.of("tool_call")[0].title == "read sums.py"
            await prompt(agent, made.session_id, "and now?")
            assert editor.text() == "Seen.Still here."
        bodies = [json.loads(body) for body in await server.bodies()]
    assert bodies[2]["messages"][: len(bodies[1]["messages"])] == bodies[1]["messages"]


async def test_a_cancel_ends_the_turn(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [{"say": "word " * 2000, "gap_ms": 20}]) as server,
        connected(work, server.url) as (agent, editor),
    ):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        turn = asyncio.create_task(prompt(agent, made.session_id, "talk"))
        while not editor.text():
            await asyncio.sleep(0.02)
        second = asyncio.create_task(prompt(agent, made.session_id, "a second one"))
        await asyncio.sleep(0.2)
        await agent.cancel(session_id=made.session_id)
        ends = await asyncio.wait_for(asyncio.gather(turn, second), 10)
        assert [one.stop_reason for one in ends] == ["cancelled", "cancelled"]
        assert await server.open() == 0 and len(await server.bodies()) == 1


async def test_an_extension_shows_changes_and_takes_a_hunk_back(tmp_path: Path, work: Path) -> None:
    (work / "sums.py").write_text("".join(f"line {at}\n" for at in range(40)))
    twice = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": f"line {at}\n", "new": f"new {at}\n"}}
                       for at in (3, 33)]}  # fmt: skip
    answers = [READ, twice, {"say": "Done."}, {"say": "I see.", "expect": "took changes back.*sums.py"}]
    async with scripted(tmp_path, answers) as server, connected(work, server.url, "--mode", "auto-edit") as found:
        agent, _ = found
        name = (await agent.new_session(cwd=str(work), mcp_servers=[])).session_id
        await prompt(agent, name, "go")
        changes = await agent.ext_method("variet/changes", {"sessionId": name})
        (file,) = changes["files"]
        assert file["path"] == "sums.py" and len(file["hunks"]) == 2 and len(file["turns"]) == 1
        undone = await agent.ext_method("variet/undo", {"sessionId": name, "hunks": [file["hunks"][0]["id"]]})
        assert undone == {"restored": ["sums.py"], "left": {}}
        text = (work / "sums.py").read_text()
        assert "line 3\n" in text and "new 33\n" in text
        await prompt(agent, name, "what now?")
        undone = await agent.ext_method("variet/undo", {"sessionId": name, "turnId": file["turns"][0]})
        assert undone == {"restored": ["sums.py"], "left": {}}, "behind one of its hunks, too"
        assert (work / "sums.py").read_text() == "".join(f"line {at}\n" for at in range(40))
        mistakes: list[dict[str, Any]] = [{"which": "some"}, {"paths": 5}, {"hunks": [{}]}]
        for wrong in mistakes:
            with pytest.raises(RequestError, match="Invalid params"):
                await agent.ext_method("variet/undo", {"sessionId": name, **wrong})


async def test_sessions_are_listed_page_by_page(tmp_path: Path, work: Path, home: Path) -> None:
    made = [create(work, "fast", Stored(profile="native", model="m", system="s", request={})) for _ in range(120)]
    for one in made:
        one.close()
    async with scripted(tmp_path, [{"say": "ok"}]) as server, connected(work, server.url) as (agent, _):
        names: list[str] = []
        pages, cursor = 0, None
        while pages == 0 or cursor:
            page = await agent.list_sessions(cwd=str(work), cursor=cursor)
            names += [one.session_id for one in page.sessions]
            pages, cursor = pages + 1, page.next_cursor
        assert pages == 3 and sorted(names) == sorted(one.header.id for one in made)
        with pytest.raises(RequestError, match="Invalid params"):
            await agent.list_sessions(cwd=str(work), cursor="never")


async def test_extensions_are_advertised_and_name_a_session_and_tell_its_queue(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "word " * 200, "gap_ms": 20}]
    async with scripted(tmp_path, answers) as server, connected(work, server.url) as (agent, editor):
        told = (await agent.initialize(protocol_version=1)).agent_capabilities.field_meta["variet"]["extensions"]
        assert "_variet/changes" in told and "_variet/queue" in told
        name = (await agent.new_session(cwd=str(work), mcp_servers=[])).session_id
        turns = [asyncio.create_task(prompt(agent, name, words)) for words in ("one", "two", "three")]
        while not editor.text():
            await asyncio.sleep(0.02)
        waiting = (await agent.ext_method("variet/queue", {"sessionId": name}))["prompts"]
        assert [(one["text"], one["from"]) for one in waiting] == [("two", "acp"), ("three", "acp")]
        named = await agent.ext_method("variet/rename", {"sessionId": name, "title": " A  title "})
        assert named == {"title": "A title"}
        while editor.of("session_info_update")[-1].title != "A title":
            await asyncio.sleep(0.02)
        await agent.cancel(session_id=name)
        assert {one.stop_reason for one in await asyncio.gather(*turns)} == {"cancelled"}
        for method in told:
            with pytest.raises(RequestError, match="Invalid params"):
                await agent.ext_method(method[1:], {"sessionId": "never"})


async def test_an_extension_lists_what_runs_in_the_background_and_stops_it(tmp_path: Path, work: Path) -> None:
    background = {"calls": [{"name": "shell", "arguments": {"command": "echo up; sleep 1000", "background": True}}]}
    async with scripted(tmp_path, [background, {"say": "ok"}]) as server, connected(work, server.url) as (agent, _):
        name = (await agent.new_session(cwd=str(work), mcp_servers=[])).session_id
        await prompt(agent, name, "go")
        (job,) = (await agent.ext_method("variet/jobs", {"sessionId": name}))["jobs"]
        assert job == {"number": 1, "command": "echo up; sleep 1000", "exitCode": None, "output": "up\n"}
        (job,) = (await agent.ext_method("variet/jobs", {"sessionId": name, "stop": 1}))["jobs"]
        assert job["exitCode"] is not None


async def test_a_prompt_that_comes_during_a_turn_is_worked_on_behind_it(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "word " * 20, "gap_ms": 20}, {"say": "The second.", "expect": "^a second one$"}]
    async with scripted(tmp_path, answers) as server, connected(work, server.url) as (agent, editor):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        first = asyncio.create_task(prompt(agent, made.session_id, "talk"))
        while not editor.text():
            await asyncio.sleep(0.02)
        end = await prompt(agent, made.session_id, "a second one")
        assert first.done() and end.stop_reason == "end_turn"
    assert editor.text().endswith("word The second.")


async def test_loads_are_a_card_and_plans_are_plans(tmp_path: Path, work: Path) -> None:
    plan = {"calls": [{"name": "plan", "arguments": {"steps": ["[x] one", "[>] two", "three"]}}],
            "progress": [{"stage": "load", "percent": 40}, {"stage": "load", "percent": 80}]}  # fmt: skip
    async with scripted(tmp_path, [plan, {"say": "ok"}]) as server, connected(work, server.url) as (agent, editor):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        await prompt(agent, made.session_id, "go")
    assert editor.of("tool_call")[0].title == "Loading balanced 40%"
    assert editor.of("tool_call_update")[0].title == "Loading balanced 80%"
    states = [(one.content, one.status) for one in editor.of("plan")[0].entries]
    assert states == [("one", "completed"), ("two", "in_progress"), ("three", "pending")]


async def test_commands_and_extensions_take_back_what_was_changed(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "ok"}, {"say": "I see.", "expect": "took changes back"}]
    async with scripted(tmp_path, answers) as server, connected(work, server.url) as (agent, editor):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        await prompt(agent, made.session_id, "fix")
        await prompt(agent, made.session_id, "/diff")
        assert "+    return a + b" in editor.text()
        assert "a + b" in (await agent.ext_method("variet/diff", {"sessionId": made.session_id}))["patch"]
        undone = await agent.ext_method("variet/undo", {"sessionId": made.session_id})
        assert undone == {"restored": ["sums.py"], "left": {}} and "a - b" in (work / "sums.py").read_text()
        await prompt(agent, made.session_id, "go on")
        assert editor.text().endswith("I see.")


async def test_what_the_editor_sends_along_is_read(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server, connected(work, server.url) as (agent, _):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        uri = (work / "sums.py").as_uri()
        blocks = [
            acp.text_block("what is "), acp.resource_link_block("sums.py", uri), acp.text_block("?"),
            acp.resource_block(acp.embedded_text_resource(uri, "unsaved words")),
        ]  # fmt: skip
        await agent.prompt(session_id=made.session_id, prompt=blocks)
        (body,) = await server.bodies()
    told = json.loads(body)["messages"][-1]["content"]
    assert f"what is @{work / 'sums.py'}?" in told and "unsaved words" in told


async def test_servers_of_the_editor_are_used(tmp_path: Path, work: Path) -> None:
    server_file = Path(__file__).parents[1] / "support" / "mcp_server.py"
    greet = {"calls": [{"name": "call_tool", "arguments": {"name": "theirs.greet", "args": {"name": "Ada"}}}]}
    async with (
        scripted(tmp_path, [greet, {"say": "ok", "expect": "hello Ada"}]) as server,
        connected(work, server.url) as (agent, editor),
    ):
        given = schema.McpServerStdio(name="theirs", command=sys.executable, args=[str(server_file)], env=[])
        made = await agent.new_session(cwd=str(work), mcp_servers=[given])
        await prompt(agent, made.session_id, "greet")
        assert editor.asked[0].title == 'theirs.greet(name="Ada")'


async def test_a_mistake_is_told(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "x"}]) as server, connected(work, server.url) as (agent, _):
        with pytest.raises(RequestError, match="Invalid params"):
            await agent.new_session(cwd="relative", mcp_servers=[])
        with pytest.raises(RequestError, match="no session"):
            await agent.load_session(cwd=str(work), session_id="nope", mcp_servers=[])
        with pytest.raises(RequestError, match="Invalid params"):
            await prompt(agent, "nope", "x")
        with pytest.raises(RequestError, match="Method not found"):
            await agent.ext_method("variet/nothing", {})


async def test_no_engine_is_told_to_the_editor(work: Path) -> None:
    async with connected(work, "http://127.0.0.1:1") as (agent, _):
        with pytest.raises(RequestError, match="variet up"):
            await agent.new_session(cwd=str(work), mcp_servers=[])


async def test_an_editor_that_vanishes_leaves_nothing_running(tmp_path: Path, work: Path) -> None:
    command = {"calls": [{"name": "shell", "arguments": {"command": "echo $$ > pid; exec sleep 98765"}}]}
    async with scripted(tmp_path, [command]) as server:
        async with connected(work, server.url) as (agent, _):
            made = await agent.new_session(cwd=str(work), mcp_servers=[])
            turn = asyncio.create_task(prompt(agent, made.session_id, "wait"))
            while not (work / "pid").exists() or not (work / "pid").read_text().strip():
                await asyncio.sleep(0.02)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        log = next((work.parent / "home" / "state" / "sessions").iterdir()) / "log.jsonl"
        for _ in range(200):
            if '"turn_ended"' in log.read_text():
                break
            await asyncio.sleep(0.05)
    assert '"cancelled"' in log.read_text()
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "98765"]]
    assert not left, "nor the command that ran"


@pytest.mark.parametrize("fault", [RequestError.internal_error(), RequestError.method_not_found("x"), ValueError("x")])
async def test_an_editor_that_fails_to_ask_its_person_says_no(tmp_path: Path, work: Path, fault: Exception) -> None:
    async with (
        scripted(tmp_path, [EDIT, {"say": "Well then.", "expect": "could not ask"}]) as server,
        connected(work, server.url) as (agent, editor),
    ):
        editor.fault = fault
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        answer = await asyncio.wait_for(prompt(agent, made.session_id, "fix add"), 20)
        assert answer.stop_reason == "end_turn" and "a - b" in (work / "sums.py").read_text()


async def test_a_prompt_and_its_cancel_in_one_packet_end_as_cancelled(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "word " * 200, "gap_ms": 40}]) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "acp", cwd=work, env=environment(work, server.url),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin and process.stdout

        def line(method: str, params: Any, number: int | None) -> bytes:
            told = {"jsonrpc": "2.0", "method": method, "params": params}
            return json.dumps(told if number is None else {**told, "id": number}).encode() + b"\n"

        async def answer(number: int) -> Any:
            assert process.stdout
            while (told := json.loads(await process.stdout.readline())).get("id") != number:
                pass
            return told["result"]

        process.stdin.write(line("initialize", {"protocolVersion": 1, "clientCapabilities": {}}, 1))
        await answer(1)
        process.stdin.write(line("session/new", {"cwd": str(work), "mcpServers": []}, 2))
        session = (await answer(2))["sessionId"]
        words = {"sessionId": session, "prompt": [{"type": "text", "text": "talk"}]}
        cancel = line("session/cancel", {"sessionId": session}, None)
        for number in (3, 4):
            process.stdin.write(line("session/prompt", words, number) + cancel)
            assert (await asyncio.wait_for(answer(number), 10))["stopReason"] == "cancelled"
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)


async def test_a_card_is_pending_then_in_progress_then_completed(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [EDIT, READ, {"say": "ok"}]) as server,
        connected(work, server.url) as (agent, editor),
    ):
        made = await agent.new_session(cwd=str(work), mcp_servers=[])
        await prompt(agent, made.session_id, "fix add")
        cards: dict[str, list[str]] = {}
        for update in editor.of("tool_call") + editor.of("tool_call_update"):
            if update.status:
                cards.setdefault(update.tool_call_id, []).append(update.status)
    assert list(cards.values()) == [["pending", "in_progress", "completed"]] * 2


async def test_all_of_a_call_is_in_the_dialog(tmp_path: Path, work: Path) -> None:
    text = "".join(f"{number:04}" for number in range(500)) + "\n```\nhidden?"
    greet = {"calls": [{"name": "call_tool", "arguments": {"name": "theirs.greet", "args": {"name": text}}}]}
    server_file = Path(__file__).parents[1] / "support" / "mcp_server.py"
    async with scripted(tmp_path, [greet, {"say": "ok"}]) as server, connected(work, server.url) as (agent, editor):
        given = schema.McpServerStdio(name="theirs", command=sys.executable, args=[str(server_file)], env=[])
        made = await agent.new_session(cwd=str(work), mcp_servers=[given])
        editor.choice = "no"
        await prompt(agent, made.session_id, "greet")
        (shown,) = editor.asked[0].content
    assert text[:2000] in shown.content.text and "hidden?" in shown.content.text
    assert shown.content.text.rstrip().endswith("````"), "what it holds does not end its fence"
