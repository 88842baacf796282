"""Turns, undo and sessions in the cases that strangers met: cancelled at once, asked and cancelled, large folders,
files that are not to be replaced, lines of other kinds."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.agent import call, decision, of, open_session, scripted, turn
from variet.agent import checkpoints, opening, sessions
from variet.agent.checkpoints import Checkpoints
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    CheckpointMade,
    InputAdded,
    ModeChanged,
    Notice,
    ToolEnded,
    ToolRunning,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from variet.agent.model import EngineModel
from variet.agent.opening import Wishes
from variet.agent.tools.base import Place
from variet.agent.tools.edit import Edit, EditArgs
from variet.agent.tools.read import Read, ReadArgs
from variet.agent.tools.write import Write, WriteArgs
from variet.agent.workspace import Workspace, lines_of, patch
from variet.connection import Connection

pytestmark = pytest.mark.usefixtures("home")


async def test_a_turn_that_is_cancelled_before_it_began_ends_as_cancelled(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "never heard"}]) as server:
        opened = await open_session(server.url, work)
        events = run_prompt(opened, "go")
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)  # the turn's task is there, and has not taken a step
        opened.cancel()
        told = [await first, *[event async for event in events]]
        assert [type(event) for event in told] == [TurnStarted, TurnEnded]
        assert isinstance(told[-1], TurnEnded) and told[-1].reason == "cancelled"
        again = await turn(opened, "go")
        assert of(again, TurnEnded)[0].reason == "done", "the next turn is not cancelled"
        await opened.close()


async def test_what_is_asked_when_a_turn_is_cancelled_is_told_as_over(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [call("shell", command="touch a")]) as server:
        opened = await open_session(server.url, work, rules=())
        events = []
        async for event in run_prompt(opened, "go"):
            events.append(event)
            if isinstance(event, ApprovalRequested):
                opened.cancel()
        await opened.close()
    asked, resolved = of(events, ApprovalRequested), of(events, ApprovalResolved)
    assert [one.approval_id for one in resolved] == [one.approval.id for one in asked]
    assert resolved[0].by == "cancelled" and not (work / "a").exists()


async def test_what_was_asked_when_a_crash_came_is_told_as_over(tmp_path: Path, work: Path, home: Path) -> None:
    async with scripted(tmp_path, [call("shell", command="touch a"), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work, rules=())
        running = run_prompt(opened, "go")
        async for event in running:
            if isinstance(event, ApprovalRequested):
                break
        log = opened.session.folder / "log.jsonl"
        whole = log.read_bytes()  # as a kill would leave it
        await running.aclose()
        await opened.close()
    log.write_bytes(whole)
    session = sessions.resume(opened.session.header.id)
    (resolved,) = [event for event in session.events if isinstance(event, ApprovalResolved)]
    assert resolved.by == "crash" and resolved.state == "expired"
    session.close()
    again = sessions.resume(opened.session.header.id)
    assert len([event for event in again.events if isinstance(event, ApprovalResolved)]) == 1
    again.close()


async def test_steering_of_a_turn_that_was_cancelled_is_gone_with_it(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "word " * 50, "gap_ms": 40}, {"say": "ok", "expect": "^go on$"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events: list[Any] = []
        async for event in run_prompt(opened, "go"):
            if not events:
                opened.steer("use the other file")
                asyncio.get_running_loop().call_later(0.3, opened.cancel)
            events.append(event)
        (left,) = [one for one in of(events, Notice) if one.code == "steering_left"]
        assert "use the other file" in left.text
        assert not of(await turn(opened, "go on"), InputAdded)
        await opened.close()


async def test_a_call_is_told_as_started_then_running_then_ended(tmp_path: Path, work: Path) -> None:
    async with scripted(
        tmp_path, [call("shell", command="touch a"), call("read", path="sums.py"), {"say": "ok"}]
    ) as server:
        opened = await open_session(server.url, work, rules=())
        events = await turn(opened, "go", lambda event: decision(event, "approve"))
        await opened.close()
    kinds = (ToolStarted, ApprovalRequested, ApprovalResolved, ToolRunning, ToolEnded)
    told = [type(event) for event in events if isinstance(event, kinds)]
    assert told == [*kinds, ToolStarted, ToolRunning, ToolEnded]


@pytest.mark.parametrize("left", ["plan", "auto-edit", "full", "ask"])
async def test_a_session_goes_on_in_the_mode_that_it_was_left_in(tmp_path: Path, work: Path, left: Any) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server:

        async def opened(name: str | None, mode: Any) -> Conversation:
            model = EngineModel(Connection(server.url))
            return await opening.start(work, model, Wishes("balanced"), mode, present=True, name=name)

        first = await opened(None, "ask")
        name = first.session.header.id
        await turn(first, "go")
        first.set_mode("plan")
        first.set_mode(left)
        await first.close()
        for wished, mode in ((None, left), ("full", "full"), (None, "full")):
            again = await opened(name, wished)
            assert again.runtime.permissions.mode == mode
            changes = [event for event in again.session.events if isinstance(event, ModeChanged)]
            assert not changes or changes[-1].mode == mode
            await again.close()


# --- undo ---


async def test_edits_can_be_undone_in_a_folder_that_is_too_large_for_commands(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MOST_FILES", 3)
    for number in range(5):
        (work / f"f{number}").write_text("x")
    answers = [call("shell", command="touch made"), call("shell", command="touch more"),
               call("edit", path="sums.py", old="a - b", new="a + b"), {"say": "ok"}]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, mode="auto-edit")
        events = await turn(opened, "go", lambda event: decision(event, "approve"))
        told = [one for one in of(events, Notice) if one.code == "no_undo"]
        assert len(told) == 1 and "commands" in told[0].text, "said once"
        assert len(of(events, CheckpointMade)) == 1 and (work / "made").exists()
        kept = opened.runtime.checkpoints
        assert kept is not None
        undone = await kept.undo(kept.steps)
        await opened.close()
    assert undone.restored == ("sums.py",) and "a - b" in (work / "sums.py").read_text()


async def test_many_files_are_undone_by_few_processes(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 300
    for number in range(count):
        (work / f"f{number:03}").write_text(f"old {number}\n")
    (work / "link").symlink_to("f000")
    kept = Checkpoints(Workspace(work), tmp_path / "steps.json")
    await kept.open()
    step = await kept.before("c1", "t1", "all")
    for number in range(count):
        (work / f"f{number:03}").write_text(f"new {number}\n" * 3)
    (work / "f007").unlink()
    (work / "made").write_text("x")
    await kept.after(step)
    (work / "f001").write_text("a person's\n")
    calls = 0
    git = Checkpoints._git

    async def counted(self: Checkpoints, *words: str, given: bytes = b"") -> bytes:
        nonlocal calls
        calls += 1
        return await git(self, *words, given=given)

    monkeypatch.setattr(Checkpoints, "_git", counted)
    undone = await kept.undo(kept.steps)
    assert calls < 30, f"{calls} processes for {count} files"
    assert undone.left == {"f001": "it was changed since"} and len(undone.restored) == count
    assert (work / "f007").read_text() == "old 7\n" and (work / "f299").read_text() == "old 299\n"
    assert not (work / "made").exists() and (work / "f001").read_text() == "a person's\n"


async def test_a_folder_that_became_a_link_comes_back_with_all_that_it_held(tmp_path: Path, work: Path) -> None:
    for name in ("a/x", "a/y", "b/z"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(f"{name}\n")
    kept = Checkpoints(Workspace(work), tmp_path / "steps.json")
    await kept.open()
    step = await kept.before("c1", "t1", "link")
    for name in ("x", "y"):
        (work / "a" / name).unlink()
    (work / "a").rmdir()
    (work / "a").symlink_to("b")
    await kept.after(step)
    undone = await kept.undo(kept.steps)
    assert not undone.left and not (work / "a").is_symlink()
    assert (work / "a" / "x").read_text() == "a/x\n" and (work / "b" / "z").read_text() == "b/z\n"


async def test_looking_walks_through_no_folder(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a command that only looks needs no walk")

    async with scripted(tmp_path, [call("shell", command="ls"), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work)
        monkeypatch.setattr("variet.agent.tools.shell.survey", walked)
        monkeypatch.setattr(checkpoints, "scan", walked)
        events = await turn(opened, "go")
        await opened.close()
    (end,) = of(events, ToolEnded)
    assert end.status == "ok" and "sums.py" in end.content and not of(events, CheckpointMade)


# --- files ---


@pytest.mark.parametrize("mode", ["ask", "auto-edit", "full"])
@pytest.mark.parametrize("kind", ["read-only", "other names"])
@pytest.mark.parametrize("tool", ["write", "edit"])
async def test_a_file_that_is_kept_from_writing_asks_in_every_mode(
    tmp_path: Path, work: Path, mode: Any, kind: str, tool: str
) -> None:
    path, other = work / "sums.py", tmp_path / "other"
    if kind == "read-only":
        path.chmod(0o444)
    else:
        os.link(path, other)
    before = path.read_text()
    args = {"content": "new\n"} if tool == "write" else {"old": "a - b", "new": "a + b"}
    for choice in ("reject", "approve"):
        async with scripted(tmp_path, [call(tool, path="sums.py", **args), {"say": "ok"}]) as server:
            opened = await open_session(server.url, work, mode=mode)
            events = await turn(opened, "go", partial(decision, choice=choice))
            await opened.close()
        (asked,) = of(events, ApprovalRequested)
        assert asked.approval.reason.endswith(kind if kind == "read-only" else "1 other names")
        assert "always" not in asked.approval.scopes
        assert (path.read_text() != before) is (choice == "approve")
    if kind == "other names":
        assert other.samefile(path) and other.read_text() == path.read_text(), "the link is kept"
    else:
        assert path.stat().st_mode & 0o777 == 0o444


LINES = st.lists(
    st.text(st.sampled_from("ab \t\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"), max_size=6), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.booleans(), st.integers(0, 7))
async def test_read_edit_and_patches_mean_the_same_lines(
    tmp_path: Path, lines: list[str], ended: bool, at: int
) -> None:
    """Whatever else Unicode takes for a line end: git applies the patch that a person was shown."""
    at %= len(lines)
    lines[at] += "MARK"
    text = "\n".join(lines) + ("\n" if ended else "")
    folder = tmp_path / "lines"
    folder.mkdir(exist_ok=True)
    path = folder / "f.txt"
    path.write_bytes(text.encode())
    workspace = Workspace(folder)
    place = Place(workspace)
    if "\r\n" in text:
        return  # read with \n; written back as it was: test_edit.py
    numbered = (await Read().run(ReadArgs(path="f.txt"), place)).content
    assert any(row.startswith(f"{at + 1:>5}  ") and "MARK" in row for row in numbered.split("\n")), numbered
    assert len(lines_of(text)) == len(lines) - (not ended and lines[-1] == "")
    before = path.read_bytes()
    preview = Edit().preview(EditArgs(path="f.txt", old="MARK", new="SEEN"), workspace)
    await Edit().run(EditArgs(path="f.txt", old="MARK", new="SEEN"), place)
    after = path.read_bytes()
    assert after == before.replace(b"MARK", b"SEEN")
    path.write_bytes(before)
    process = await asyncio.create_subprocess_exec(
        "git", "apply", "--whitespace=nowarn", "-", cwd=folder, stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, wrong = await process.communicate(preview.encode())
    assert process.returncode == 0, (wrong, preview)
    assert path.read_bytes() == after


def test_a_patch_of_a_file_without_a_last_line_end_says_so() -> None:
    assert patch("f", "a\nb", "a\nc\n").endswith("-b\n\\ No newline at end of file\n+c\n")


async def test_writing_says_how_many_lines_git_would_count(work: Path) -> None:
    told = await Write().run(WriteArgs(path="f", content="a\x0cb\u2028c\nd\n"), Place(Workspace(work)))
    assert "2 lines" in told.content


# --- lists ---


def test_a_list_of_sessions_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = sessions.Stored(profile="native", model="m", system="s", request={})
    for number in range(60):
        session = sessions.create(tmp_path, "balanced", stored)
        session.append(TurnStarted(seq=1, turn_id="t1", input=f"question {number}"))
        session.close()
    first = sessions.listed()
    assert len(first) == 60 and {one.title for one in first} == {f"question {number}" for number in range(60)}
    loaded: list[Path] = []
    load = sessions._load

    def counted(path: Path) -> Any:
        loaded.append(path)
        return load(path)

    monkeypatch.setattr(sessions, "_load", counted)
    assert sessions.listed() == first and not loaded
    session = sessions.resume(first[7].header.id)
    loaded.clear()
    session.append(TurnStarted(seq=session.next_seq, turn_id="t2", input="more"))
    session.close()
    assert sessions.listed()[0].turns == 2 and len(loaded) == 1
    for damage in ("{", "[]", json.dumps({first[3].header.id: {"stamp": 3}}), "null"):
        (sessions.root() / "index.json").write_text(damage)
        assert len(sessions.listed()) == 60, "an index that is damaged costs a reading, no more"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sleep 30 & echo started", True), ("(sleep 30 &) ; echo x", True), ("for i in 1; do sleep 9 & done", True),
        ("sleep 0.01 & wait; echo x", False), ("echo 1 && echo 2 2>&1", False), ("echo 'a & b' \"&\"", False),
        ("echo x &> out", False), ("cat <<E\na & b\nE", False),
    ],
)  # fmt: skip
async def test_a_model_hears_that_what_it_left_in_the_background_has_ended(
    tmp_path: Path, work: Path, command: str, says: bool
) -> None:
    async with scripted(tmp_path, [call("shell", command=command), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work)
        (end,) = of(await turn(opened, "go"), ToolEnded)
        await opened.close()
    assert ("in the background has ended with it" in end.content) == says
