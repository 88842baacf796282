"""`variet code` as a conversation, in a real terminal, on a scripted model."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import scripted
from tests.support.terminal import Terminal, terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")

EDIT = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": "a - b", "new": "a + b"}}]}


async def left(shown: Terminal) -> int:
    shown.type("\x04")
    return await asyncio.wait_for(shown.process.wait(), 10)


async def test_a_conversation_with_an_approval_by_a_key(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "It **adds** now.\n\n```python\nadd(1, 2)\n```\n"}, {"say": "You are welcome."}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.until("›")
        shown.type("fix add\r")
        await shown.until("+    return a + b")
        await shown.until("or say what instead")
        assert "a - b" in (work / "sums.py").read_text(), "nothing happens before the yes"
        shown.type("y\r")
        await shown.until("edited sums.py")
        await shown.until("It adds now.")
        await shown.until("add(1, 2)")
        shown.type("thanks\r")
        await shown.until("You are welcome.")
        await shown.shows("read before")
        assert await left(shown) == 0
    assert "a + b" in (work / "sums.py").read_text()


async def test_a_no_with_words_reaches_the_model(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "As you wish.", "expect": "use a helper instead"}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.until("›")
        shown.type("fix add\r")
        await shown.until("or say what instead")
        shown.type("use a helper instead\r")
        await shown.until("As you wish.")
        assert await left(shown) == 0
    assert "a - b" in (work / "sums.py").read_text()


async def test_words_while_it_works_steer_and_control_c_stops(tmp_path: Path, work: Path) -> None:
    answers: list[Any] = [
        {"say": "thinking " * 40, "gap_ms": 40, "piece": 9,
         "calls": [{"name": "read", "arguments": {"path": "sums.py"}}]},
        {"say": "word " * 400, "gap_ms": 40, "piece": 5, "expect": "only the second"},
        {"say": "Here again."},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.until("›")
        shown.type("look\r")
        await shown.shows("works (Ctrl-C stops)")
        shown.type("only the second\r")
        await shown.until("told after what runs now")
        await shown.until("→ read sums.py")
        await asyncio.sleep(0.3)
        shown.type("\x03")
        await shown.until("interrupted")
        shown.type("still there?\r")
        await shown.until("Here again.")
        assert await left(shown) == 0
        assert await server.open() == 0


async def test_commands_of_a_conversation(tmp_path: Path, work: Path) -> None:
    script = {
        "tiers": {"deep-coder": {"model": "large"}},
        "answers": [EDIT, {"say": "Done."}, {"say": "Large.", "expect": "took changes back"}, {"say": "a summary"}],
    }
    async with (
        scripted(tmp_path, script) as server,
        terminal(work, "code", "--mode", "auto-edit", VARIET_ENGINE_URL=server.url) as shown,
    ):
        for typed, told in [
            ("/help\r", "Shift-Tab"),
            ("/nothing\r", "there is no /nothing"),
            ("/tier nope\r", "there is no tier or model 'nope'"),
            ("fix add\r", "Done."),
            ("/diff\r", "+    return a + b"),
            ("/undo\r", "put back  sums.py"),
            ("/tier deep-coder\r", "deep-coder (large) answers from here on"),
            ("/mode plan\r", "mode plan"),
            ("go\r", "Large."),
            ("\x1b[Z", "mode ask"),
            ("/context\r", "model large, profile native"),
            ("/compact\r", "a summary"),
            ("/export kept.md\r", "written to kept.md"),
            ("/sess\t", "/sessions"),
            ("\r", "fix add"),
            ("/new\r", "a new session begins"),
            ("/resume\r", "goes on"),
            ("look at @su\t", "@sums.py"),
        ]:
            if typed != "\r":
                await shown.ready()
            shown.type(typed)
            await (shown.until(told) if typed.endswith("\r") else shown.shows(told))
        shown.type("\x03/quit\r")
        assert await asyncio.wait_for(shown.process.wait(), 10) == 0
    assert "a - b" in (work / "sums.py").read_text() and "## fix add" in (work / "kept.md").read_text()


async def test_lines_behind_a_new_session_are_taken_in_it(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "One."}, {"say": "Two.", "expect": "second"}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.ready()
        shown.type("first\r")
        await shown.until("One.")
        await shown.ready()
        shown.type("/new\r")
        shown.type("second\r")
        await shown.until("a new session begins")
        await shown.until("Two.")
        assert "dropped" not in shown.text and "was stopped" not in shown.text
        assert await left(shown) == 0
        assert "first" not in (await server.bodies())[-1]


async def test_progress_of_a_load_is_under_the_prompt(tmp_path: Path, work: Path) -> None:
    slow = {"say": "Loaded.", "progress": [{"stage": "load", "percent": 40, "left_ms": 3000}], "first_ms": 700}
    async with scripted(tmp_path, [slow]) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.until("›")
        shown.type("hi\r")
        await shown.shows("balanced loads 40%, 3 s left")
        await shown.until("Loaded.")
        assert await left(shown) == 0


async def test_without_colour_there_is_none(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [{"say": "**bold** words"}]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url, NO_COLOR="1") as shown,
    ):
        await shown.until("›")
        shown.type("hi\r")
        await shown.until("bold words")
        assert await left(shown) == 0
        colours = [code for codes in re.findall(r"\x1b\[([\d;]*)m", shown.raw) for code in codes.split(";")
                   if len(code) > 1 and code[0] in "349" and code not in ("39", "49")]  # fmt: skip
        assert not colours


async def test_an_engine_that_went_away_is_told_and_the_conversation_stays(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "one"}]) as server:
        url = server.url
        async with terminal(work, "code", VARIET_ENGINE_URL=url) as shown:
            await shown.until("›")
            shown.type("hi\r")
            await shown.until("one")
            shown.type("more\r")
            await shown.until("script is at its end")
            shown.type("/help\r")
            await shown.until("Shift-Tab")
            assert await left(shown) == 0


async def test_a_summary_that_is_stopped_leaves_the_conversation_as_it_was(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "One."}, {"say": "word " * 400, "gap_ms": 40}, {"say": "Two.", "expect": "^and now"}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.ready()
        shown.type("first\r")
        await shown.until("One.")
        await shown.ready()
        shown.type("/compact\r")
        await shown.shows("/compact (Ctrl-C stops)")
        await asyncio.sleep(0.5)
        shown.type("\x03")
        await shown.until("interrupted")
        await shown.ready()
        shown.type("and now?\r")
        await shown.until("Two.")
        assert await left(shown) == 0


async def test_what_other_agents_call_their_commands_is_understood(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [{"say": "One."}]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("/model\r")
        await shown.until("balanced (")
        await shown.ready()
        shown.type("fix  the parser\r")
        await shown.until("One.")
        await shown.ready()
        shown.type("/rename\r")
        await shown.until("it is called: fix the parser")
        await shown.ready()
        shown.type("/rename Parser\r")
        await shown.until("it is called: Parser")
        await shown.ready()
        shown.type("/clear\r")
        await shown.until("a new session begins")
        await shown.ready()
        shown.type("/sessions\r")
        await shown.until("1 turns  Parser")
        await shown.ready()
        shown.type("/exit\r")
        assert await asyncio.wait_for(shown.process.wait(), 20) == 0


async def test_who_comes_back_sees_the_last_turns(tmp_path: Path, work: Path) -> None:
    edit = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": "a - b", "new": "a + b"}}]}
    answers = [{"say": "Zero."}, {"say": "One."}, edit, {"say": "It **adds** now."}]
    async with scripted(tmp_path, answers) as server:
        for words in ("nothing", "first", "fix add"):
            async with terminal(
                work, "code", "--continue", "--mode", "auto-edit", words, VARIET_ENGINE_URL=server.url
            ) as shown:
                assert await asyncio.wait_for(shown.process.wait(), 20) == 0
        async with terminal(work, "code", "--continue", VARIET_ENGINE_URL=server.url) as shown:
            await shown.ready()
            screen = shown.screen()
            assert "(1 turn before; variet sessions export shows all)" in screen and "Zero." not in screen
            assert "› first" in screen and "One." in screen
            assert "› fix add" in screen and "→ 1 call, at last: edit sums.py" in screen and "It adds now." in screen
            assert await left(shown) == 0


async def test_commands_in_the_background_are_listed_and_stopped(tmp_path: Path, work: Path) -> None:
    command = {"command": "echo it listens; sleep 1000", "background": True}
    answers = [{"calls": [{"name": "shell", "arguments": command}]}, {"say": "It runs."}]
    async with (
        scripted(tmp_path, answers) as server,
        terminal(work, "code", "--mode", "full", "--allow", "shell", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("/jobs\r")
        await shown.until("nothing runs in the background")
        await shown.ready()
        shown.type("go\r")
        await shown.until("It runs.")
        await shown.ready()
        shown.type("/jobs\r")
        await shown.until("%1 runs: echo it listens; sleep 1000")
        await shown.until("    it listens")
        await shown.ready()
        shown.type("/jobs stop 2\r")
        await shown.until("no command %2 runs in the background")
        await shown.ready()
        shown.type("/jobs stop %1\r")
        await shown.until("stopped %1")
        await shown.ready()
        shown.type("/jobs\r")
        await shown.until("%1 ended, exit")
        assert await left(shown) == 0
