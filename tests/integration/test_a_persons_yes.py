"""A person's yes in a real terminal: nothing is decided before Enter, words never approve, all of it is shown first."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import scripted
from tests.support.terminal import Terminal, terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")

EDIT = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": "a - b", "new": "a + b"}}]}
DONE = {"say": "Well then."}
QUESTION = "or say what instead ›"


def unchanged(work: Path) -> bool:
    return "a - b" in (work / "sums.py").read_text()


async def asked(shown: Terminal, words: str = "fix add") -> None:
    await shown.ready()
    shown.type(f"{words}\r")
    await shown.shows(QUESTION)


async def left(shown: Terminal) -> None:
    await shown.ready()
    shown.type("\x04")
    assert await asyncio.wait_for(shown.process.wait(), 10) == 0


async def test_words_that_begin_with_a_key_approve_nothing(tmp_path: Path, work: Path) -> None:
    told = ["stop, use another file", "add a test as well", "yes but call it plus", "no", "n", "never",
            "session by session", "always ask me", "more context please", "end it", "y?"]  # fmt: skip
    expected = [{} if words in ("n", "no") else {"expect": words.replace("?", "\\?")} for words in told]
    answers = [{**EDIT, **more} for more in ({}, *expected[:-1])]
    async with (
        scripted(tmp_path, [*answers, {**DONE, **expected[-1]}]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await asked(shown)
        for words in told:
            await shown.shows(QUESTION)
            for at, letter in enumerate(words, 1):
                shown.type(letter)
                await shown.shows(f"{QUESTION} {words[:at]}".rstrip())
            assert unchanged(work)
            shown.type("\r")
            await shown.until("⊘")
        await shown.until("Well then.")
        await left(shown)
    assert unchanged(work)


async def test_a_line_begun_before_the_question_answers_nothing(tmp_path: Path, work: Path) -> None:
    slow = {**EDIT, "say": "thinking " * 30, "gap_ms": 40, "piece": 9}
    answers = [slow, {"say": "Well then.", "expect": "y"}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await shown.ready()
        shown.type("fix add\r")
        await shown.shows("works (Ctrl-C stops)")
        shown.type("y")
        await shown.shows(QUESTION)
        assert f"{QUESTION} y" in shown.screen(), "what was begun stays"
        shown.type("\r")
        await shown.until("it answers nothing")
        assert unchanged(work)
        shown.type("no\r")
        await shown.until("Well then.")
        await left(shown)
    assert unchanged(work)


def slow_git(folder: Path) -> tuple[Path, str]:
    """(a file, PATH): as long as the file is there, git compares nothing, as on a slow disk."""
    hold, real = folder / "hold", shutil.which("git")
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *diff*) while [ -e {hold} ]; do sleep 0.05; done;; esac\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    return hold, f"{program.parent}{os.pathsep}{os.environ['PATH']}"


async def test_a_yes_typed_while_a_slow_command_runs_answers_no_later_question(tmp_path: Path, work: Path) -> None:
    hold, path = slow_git(tmp_path)
    second = {"calls": [{"name": "edit", "arguments": {"path": "sums.py", "old": "a + b", "new": "a * b"}}]}
    slow = {**second, "say": "thinking " * 30, "gap_ms": 40, "piece": 9}
    answers = [EDIT, {"say": "First."}, slow, {"say": "As you like.", "expect": "y"}]
    async with (
        scripted(tmp_path, answers) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url, PATH=path) as shown,
    ):
        await asked(shown)
        shown.type("y\r")
        await shown.until("First.")
        await shown.ready()
        shown.type("again\r")
        await shown.shows("works (Ctrl-C stops)")
        hold.touch()
        shown.type("/diff\r")
        await asyncio.sleep(0.2)
        shown.type("y\r")
        await shown.until("waits for /diff")
        await shown.shows(QUESTION)
        hold.unlink()
        await shown.until("it answers nothing")
        assert "a + b" in (work / "sums.py").read_text()
        shown.type("no\r")
        await shown.until("As you like.")
        await left(shown)
    assert "a + b" in (work / "sums.py").read_text()


async def test_a_slow_command_leaves_the_prompt_and_can_be_stopped(tmp_path: Path, work: Path) -> None:
    hold, path = slow_git(tmp_path)
    async with (
        scripted(tmp_path, [EDIT, {"say": "First."}, {"say": "Second.", "expect": "and now"}]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url, PATH=path) as shown,
    ):
        await asked(shown)
        shown.type("y\r")
        await shown.until("First.")
        await shown.ready()
        hold.touch()
        shown.type("/diff\r")
        await shown.shows("/diff (Ctrl-C stops)")
        shown.type("and now?\r")
        await shown.until("waits for /diff")
        shown.type("\x03")
        await shown.until("dropped what waited: 1")
        await shown.until("/diff was stopped")
        await shown.ready()
        shown.type("and now?\r")
        await shown.until("Second.")
        hold.unlink()
        await left(shown)


async def test_keys_typed_while_text_is_printed_are_those_keys(tmp_path: Path, work: Path) -> None:
    """The prompt goes for each printed line: a key in that moment is a key of the next prompt."""
    async with (
        scripted(tmp_path, [{"say": "line\n\n" * 400, "gap_ms": 1, "piece": 12}]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("print\r")
        await shown.until("line")
        for _ in range(400):
            shown.type("\x01")  # to the beginning of the line: shown as ^A by a terminal that echoes
            await asyncio.sleep(0.002)
        assert "^A" not in shown.text, "the terminal itself echoes nothing"
        await left(shown)


async def test_letters_of_a_search_in_earlier_prompts_answer_nothing(tmp_path: Path, work: Path) -> None:
    slow = {**EDIT, "say": "thinking " * 30, "gap_ms": 40, "piece": 9}
    async with (
        scripted(tmp_path, [slow, DONE]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("fix add\r")
        await shown.shows("works (Ctrl-C stops)")
        shown.type("\x12y")  # Ctrl-R
        await shown.until("+    return a + b")
        await asyncio.sleep(0.3)
        shown.type("\r")
        await asyncio.sleep(0.3)
        assert unchanged(work)
        shown.type("\x03")
        await shown.until("interrupted")
    assert unchanged(work)


async def test_a_yes_typed_before_the_last_page_stands_there_counts_for_nothing(tmp_path: Path, work: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(90))
    write = {"calls": [{"name": "write", "arguments": {"path": "new.txt", "content": lines}}]}
    async with (
        scripted(tmp_path, [write, DONE]) as server,
        terminal(work, "code", rows=24, VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("write it\r")
        await shown.shows("[e]nd shows all")
        shown.type("e\r")
        await asyncio.sleep(0.01)
        shown.type("y\r")
        await shown.until("line 89")
        await shown.shows(QUESTION)
        await asyncio.sleep(0.3)
        assert not (work / "new.txt").exists()
        shown.type("y\r")
        await shown.until("Well then.")
        await left(shown)
    assert (work / "new.txt").read_text() == lines


async def test_always_is_confirmed_and_then_kept(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [EDIT, DONE]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await asked(shown)
        shown.type("a\r")
        await shown.shows("for good, in later sessions too?")
        assert unchanged(work)
        shown.type("n\r")
        await shown.shows(QUESTION)
        assert unchanged(work)
        shown.type("always\r")
        await shown.shows("for good, in later sessions too?")
        shown.type("y\r")
        await shown.until("Well then.")
        await left(shown)
    assert not unchanged(work)
    assert "sums.py" in "".join(one.read_text() for one in (tmp_path / "home").rglob("*rules*") if one.is_file())


async def test_a_long_change_is_shown_to_its_end_before_a_yes(tmp_path: Path, work: Path) -> None:
    text = "".join(f"value_{number} = {number}\n" for number in range(300))
    write = {"calls": [{"name": "write", "arguments": {"path": "long.py", "content": text}}]}
    async with (
        scripted(tmp_path, [write, DONE]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("write it\r")
        await shown.shows("Enter shows [m]ore")
        shown.type("y\r")
        await shown.until("no yes before the end")
        assert not (work / "long.py").exists()
        shown.type("\r")
        await shown.until("value_40")
        await shown.until("68 of 303 lines")  # before it stands there, a line answers nothing
        shown.type("end\r")
        await shown.until("value_299")
        await shown.shows(QUESTION)
        shown.type("y\r")
        await shown.until("Well then.")
        await left(shown)
    assert (work / "long.py").read_text() == text


async def test_a_paste_is_not_typed_to_a_question(tmp_path: Path, work: Path) -> None:
    """Marked as a paste by the terminal, or not."""
    answers = [EDIT, {"say": "Well then.", "expect": "y\\nand then"}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await asked(shown)
        shown.type("y\rand then\r")
        await shown.until("Well then.")
        await left(shown)
    assert unchanged(work)
    answers = [EDIT, {"say": "Well then."}]
    async with scripted(tmp_path, answers) as server, terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown:
        await asked(shown)
        shown.type("\x1b[200~y\nyes\n\x1b[201~")
        await shown.shows("yes")
        assert unchanged(work)
        shown.type("\r")
        await shown.until("Well then.")
        await left(shown)
    assert unchanged(work)


async def test_two_questions_are_two_answers(tmp_path: Path, work: Path) -> None:
    both = {"calls": [{"name": "shell", "arguments": {"command": f"touch {name}"}} for name in ("first", "second")]}
    async with (
        scripted(tmp_path, [both, DONE]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await asked(shown)
        shown.type("y\ry\r")
        await shown.until("? $ touch second")
        await shown.shows(QUESTION)
        assert not (work / "second").exists(), "an answer is of the question that stood there"
        shown.type("n\r")
        await shown.until("Well then.")
        await left(shown)


async def test_a_whole_argument_of_a_foreign_tool_is_shown(tmp_path: Path, work: Path) -> None:
    text = "".join(f"{number:04}" for number in range(500))
    notes = {"command": sys.executable, "args": [str(Path(__file__).parent.parent / "support" / "notes_server.py")],
             "env": {"NOTES": str(tmp_path / "notes")}}  # fmt: skip
    settings = tmp_path / "home" / "config" / "agent.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"mcpServers": {"notes": notes}}))
    call = {"calls": [{"name": "call_tool", "arguments": {"name": "notes.add", "args": {"text": text}}}]}
    async with (
        scripted(tmp_path, [call, DONE]) as server,
        terminal(work, "code", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.ready()
        shown.type("note it\r")
        await shown.shows(QUESTION)
        assert text in re.sub(r"\s*\n  \| ", "", shown.text)
        shown.type("n\r")
        await shown.until("Well then.")
        await left(shown)


@pytest.mark.parametrize("words", ["stop, use another file", "add a test", "yes, but elsewhere", "n"])
async def test_one_prompt_asks_by_the_line_too(tmp_path: Path, work: Path, words: str) -> None:
    answers: list[Any] = [EDIT, DONE]
    async with (
        scripted(tmp_path, answers) as server,
        terminal(work, "code", "fix add", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.until(QUESTION)
        shown.type(f"{words}\n")
        await shown.until("Well then.")
        await asyncio.wait_for(shown.process.wait(), 10)
    assert unchanged(work)


async def test_what_was_typed_ahead_of_one_prompts_question_answers_nothing(tmp_path: Path, work: Path) -> None:
    slow = {**EDIT, "say": "thinking " * 20, "gap_ms": 40, "piece": 9}
    async with (
        scripted(tmp_path, [slow, DONE]) as server,
        terminal(work, "code", "fix add", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.until("thinking")
        shown.type("y\ny\n")
        await shown.until(QUESTION)
        shown.type("y\nyes\n")
        await shown.until("nothing was decided")
        assert unchanged(work)
        shown.type("y\n")
        await shown.until("Well then.")
        await asyncio.wait_for(shown.process.wait(), 10)
    assert not unchanged(work)


async def test_a_line_that_ends_without_enter_approves_nothing(tmp_path: Path, work: Path) -> None:
    async with (
        scripted(tmp_path, [EDIT, DONE]) as server,
        terminal(work, "code", "fix add", VARIET_ENGINE_URL=server.url) as shown,
    ):
        await shown.until(QUESTION)
        shown.type("y\x04")
        await asyncio.sleep(0.3)  # past the time in which more would be taken for a paste
        shown.type("\x04")
        await shown.until("Well then.")
        await asyncio.wait_for(shown.process.wait(), 10)
    assert unchanged(work)
