"""`variet code` as people and scripts run it: a real process, a scripted model, real pipes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import call, scripted
from tests.support.engine import EngineProcess, embedded_config, light_config, running
from variet.agent.events import EVENTS
from variet.agent.prompt.system import ASSISTANT, CODING
from variet.agent.tools import assistant_tools, coding_tools

CEILING_TOKENS = {"code": 1_200, "assistant": 1_500}


async def variet(url: str, work: Path, *words: str, given: str | None = None, **env: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    process = await start(url, work, *words, given=given is not None, **env)
    out, err = await process.communicate(given.encode() if given is not None else None)
    return process.returncode or 0, out.decode(), err.decode()


async def start(url: str, work: Path, *words: str, given: bool = False, **env: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VARIET_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", *words, cwd=work,
        env={**clean, "VARIET_HOME": str(work.parent / "home"), "VARIET_ENGINE_URL": url, **env},
        stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


EDIT = call("edit", path="sums.py", old="a - b", new="a + b")


async def test_words_go_to_standard_output_and_what_happens_beside_it(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "It adds now."}]) as server:
        code, out, err = await variet(server.url, work, "code", "--mode", "auto-edit", "fix add")
    assert (code, out) == (0, "It adds now.\n")
    assert "edit sums.py" in err and "+    return a + b" in err and "\x1b" not in out + err
    assert "+" in (work / "sums.py").read_text()


async def test_events_for_programs_are_lines_of_the_contract(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "Done."}]) as server:
        code, out, _ = await variet(server.url, work, "code", "--mode", "auto-edit", "--json", "fix add")
    events = [EVENTS.validate_json(line) for line in out.splitlines()]
    assert code == 0 and events[0].type == "turn_started" and events[-1].type == "turn_ended"


async def test_what_would_ask_is_refused_where_nobody_is_there(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [EDIT, {"say": "I may not.", "expect": "nobody is here"}]) as server:
        code, out, _ = await variet(server.url, work, "code", "fix add")
    assert code == 0 and "a - b" in (work / "sums.py").read_text() and out == "I may not.\n"


async def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "a line\n" * 4000, "piece": 70, "gap_ms": 5}]) as server:
        process = await start(server.url, work, "code", "talk")
        assert process.stdout is not None and process.stderr is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]
        err = (await process.stderr.read()).decode()
        await asyncio.wait_for(process.wait(), 20)
    log = next((work.parent / "home" / "state" / "sessions").iterdir()) / "log.jsonl"
    assert "Traceback" not in err and '"turn_ended"' in log.read_text(), err


async def test_a_limit_has_an_exit_code_of_its_own(tmp_path: Path, work: Path) -> None:
    script = {"answers": [call("read", path="sums.py")], "repeat": True}
    async with scripted(tmp_path, script) as server:
        code, _, err = await variet(server.url, work, "code", "look")
    assert code == 3 and "it repeated itself" in err and "variet sessions undo" in err


async def test_what_is_piped_in_follows_the_prompt(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "Seen.", "expect": "review this\n\ndiff of mine"}]) as server:
        code, out, _ = await variet(server.url, work, "code", "review this", given="diff of mine\n")
    assert (code, out) == (0, "Seen.\n")


async def test_a_session_goes_on_and_is_listed(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "One."}, {"say": "Two.", "expect": "second words"}]
    async with scripted(tmp_path, answers) as server:
        await variet(server.url, work, "code", "first words")
        code, out, _ = await variet(server.url, work, "code", "--continue", "second words")
        assert (code, out) == (0, "Two.\n")
        _, listed, _ = await variet(server.url, work, "sessions", "--json")
        bodies = await server.bodies()
    (one,) = json.loads(listed)
    assert one["title"] == "first words" and one["turns"] == 2
    assert len(json.loads(bodies[1])["messages"]) == 4


async def test_a_session_is_renamed_and_removed(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "One."}, {"say": "Two."}]) as server:
        for words in ("first", "second"):
            await variet(server.url, work, "code", words)
        rows = json.loads((await variet(server.url, work, "sessions", "--json"))[1])
        newest, oldest = [one["id"] for one in rows]
        code, out, _ = await variet(server.url, work, "sessions", "rename", oldest, "The  first one")
        assert code == 0 and "The first one" in out
        assert "The first one" in (await variet(server.url, work, "sessions"))[1]
        code, _, err = await variet(server.url, work, "sessions", "rename", oldest, "  ")
        assert code == 1 and "at least one word" in err
        code, _, err = await variet(server.url, work, "sessions", "remove", newest)
        assert code == 130 and "second" in err, "nobody said yes"
        assert f"removed: {newest}" in (await variet(server.url, work, "sessions", "remove", "--yes", newest))[1]
        rows = json.loads((await variet(server.url, work, "sessions", "--json"))[1])
        assert [one["id"] for one in rows] == [oldest]
        code, _, err = await variet(server.url, work, "sessions", "remove", "--yes", newest)
        assert code == 1 and "there is no session" in err


async def test_an_interrupt_ends_with_130_and_leaves_nothing(tmp_path: Path, work: Path) -> None:
    command = "echo $$ > pid; exec sleep 1000"
    async with scripted(tmp_path, [call("shell", command=command)]) as server:
        process = await start(server.url, work, "code", "--allow", "shell:", "wait")
        while not (work / "pid").exists() or not (work / "pid").read_text().strip():
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130 and "interrupted" in err.decode()


async def test_escape_sequences_of_a_model_never_reach_the_terminal(tmp_path: Path, work: Path) -> None:
    say = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\u202ee\rf"
    async with scripted(tmp_path, [{"say": say}]) as server:
        _, out, _ = await variet(server.url, work, "code", "hi")
    assert out == "abcdef\n" or ("\x1b" not in out and "\x9b" not in out and "\u202e" not in out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["code"], "What is to be done"), (["code", "--mode", "wild", "x"], "wild"),
     (["code", "--tier", "huge", "x"], "no tier"),
     (["code", "--resume", "nope", "x"], "no session"), (["code", "--profile", "odd", "x"], "no profile")],
)  # fmt: skip
async def test_a_mistake_is_told_in_a_line(tmp_path: Path, work: Path, words: list[str], expected: str) -> None:
    async with scripted(tmp_path, [{"say": "x"}]) as server:
        code, out, err = await variet(server.url, work, *words)
    assert code in (1, 2) and expected in err and "Traceback" not in err and out == ""


async def test_no_engine_says_what_to_do(work: Path) -> None:
    code, _, err = await variet("http://127.0.0.1:1", work, "code", "x")
    assert code == 1 and "variet up" in err and "Traceback" not in err


async def test_a_wrong_key_says_what_to_do(tmp_path: Path, work: Path, models: Path) -> None:
    """On the real engine, which needs a key once there is one."""
    async with running(tmp_path / "home", models, light_config()) as engine:
        assert (await engine.variet("key", "add", "owner", "--admin"))[0] == 0
        code, _, err = await variet(engine.url, work, "code", "x", VARIET_API_KEY="wrong")
    assert code == 1 and "Pair with it" in err and "Traceback" not in err, err


async def test_the_instructions_of_a_folder_count_once_it_is_trusted(tmp_path: Path, work: Path) -> None:
    (work / "AGENTS.md").write_text("Always say please.")
    async with scripted(tmp_path, {"answers": [{"say": "ok"}], "repeat": True}) as server:
        _, _, err = await variet(server.url, work, "code", "hi")
        await variet(server.url, work, "code", "--trust", "hi")
        await variet(server.url, work, "code", "hi")
        told = ["Always say please" in body for body in await server.bodies()]
    assert told == [False, True, True] and "--trust" in err


@pytest.mark.models
async def test_system_prompt_and_tools_stay_under_their_ceiling(tmp_path: Path, models: Path) -> None:
    """By the engine's own template and tokenizer, as design.md counts."""
    async with running(tmp_path / "home", models, embedded_config()) as engine:
        kinds = {"code": (CODING, coding_tools()), "assistant": (ASSISTANT, assistant_tools())}
        for kind, (prompt, tools) in kinds.items():
            counted = await tokens(engine, [{"role": "system", "content": prompt}], tools.schemas())
            print(f"{kind}: system prompt and tools: {counted} tokens")
            assert 300 < counted <= CEILING_TOKENS[kind]


async def tokens(engine: EngineProcess, messages: list[dict[str, str]], tools: list[Any]) -> int:
    asked = {"model": "balanced", "messages": messages, "tools": tools}
    status, rendered = await engine.post("/apply-template", asked)
    assert status == 200, rendered
    status, answer = await engine.post("/tokenize", {"model": "balanced", "content": rendered["prompt"]})
    assert status == 200
    return len(answer["tokens"])


async def test_what_was_changed_is_shown_and_taken_back(tmp_path: Path, work: Path) -> None:
    before = (work / "sums.py").read_text()
    answers = [EDIT, call("shell", command="echo x > made"), {"say": "Done."}]
    async with scripted(tmp_path, answers) as server:
        await variet(server.url, work, "code", "--mode", "auto-edit", "--allow", "shell:echo x", "go")
        await variet(server.url, work, "code", "--mode", "auto-edit", "--allow", "shell:", "--continue", "go")
        _, patch, _ = await variet(server.url, work, "sessions", "diff")
        _, steps, _ = await variet(server.url, work, "sessions", "steps", "--json")
        name = json.loads(await listed(server.url, work))[0]["id"]
        _, markdown, _ = await variet(server.url, work, "sessions", "export", name)
        code, undone, err = await variet(server.url, work, "sessions", "undo", "--all")
        assert code == 0, err
        assert (work / "sums.py").read_text() == before
        _, again, _ = await variet(server.url, work, "sessions", "undo")
    assert "+    return a + b" in patch and "put back  sums.py" in undone
    assert "edit sums.py" in json.loads(steps)[0]["summary"]
    assert "## go" in markdown and "+    return a + b" in markdown
    assert "put back" in again and "a + b" in (work / "sums.py").read_text(), "an undo can be undone"


async def listed(url: str, work: Path) -> str:
    return (await variet(url, work, "sessions", "--json"))[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is Linux's")
async def test_mode_full_runs_commands_in_the_sandbox_without_asking(tmp_path: Path, work: Path) -> None:
    simplest = await asyncio.create_subprocess_exec("bwrap", "--unshare-user", "--ro-bind", "/", "/", "true")
    if await simplest.wait() != 0:
        pytest.skip("this machine lets nobody make namespaces")
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    answers = [
        call("shell", command=f"cat {secret}; echo inside > made; echo $HOME; ls -A ~ | wc -l"),
        call("shell", command="curl http://example.org", network=True),
        {"say": "Done.", "expect": "wants the network"},
    ]
    async with scripted(tmp_path, answers) as server:
        code, out, err = await variet(server.url, work, "code", "--mode", "full", "-v", "go")
    assert (code, out) == (0, "Done.\n") and "SECRET" not in err
    assert (work / "made").read_text() == "inside\n"


async def test_mode_full_without_a_sandbox_asks_for_commands(tmp_path: Path, work: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "bash"):
        (programs / name).symlink_to(shutil.which(name) or "")
    answers = [call("shell", command="touch made"), {"say": "ok", "expect": "no sandbox"}]
    async with scripted(tmp_path, answers) as server:
        code, _, err = await variet(server.url, work, "code", "--mode", "full", "go", PATH=str(programs))
    assert code == 0 and "bubblewrap is not installed" in err and not (work / "made").exists()
