"""The loop of the agent on a scripted model: every promise of a turn, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import ANY_COMMAND, assert_prefixes_grow, call, decision, of, open_session, scripted, turn
from variet.agent.conversation import run_prompt
from variet.agent.events import (
    ApprovalRequested,
    Compacted,
    InputAdded,
    MessageDone,
    MessageDropped,
    Notice,
    PlanChanged,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolEnded,
    ToolOutput,
    ToolStarted,
    TurnEnded,
    UsageTold,
)  # fmt: skip
from variet.agent.guards import Limits
from variet.agent.sessions import read
from variet.policy.action import Rule

Answer = dict[str, Any]


pytestmark = pytest.mark.usefixtures("home")


def ended(events: list[Any]) -> TurnEnded:
    last = events[-1]
    assert isinstance(last, TurnEnded)
    return last


async def test_reads_edits_runs_and_answers(tmp_path: Path, work: Path) -> None:
    answers = [
        {"think": "First look.", "say": "I look.", **call("read", path="sums.py"),
         "progress": [{"stage": "load", "percent": 40}]},
        call("edit", path="sums.py", old="a - b", new="a + b"),
        call("shell", command="python3 -c 'import sums; print(sums.add(1, 2))'"),
        {"say": "Done.", "expect": "^3\n.exit 0.$"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "fix add")
        await opened.close()
        assert_prefixes_grow(await server.bodies())
    assert (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert ended(events).reason == "done"
    assert [(one.tool, one.kind) for one in of(events, ToolStarted)] == [
        ("read", "read"), ("edit", "edit"), ("shell", "execute"),
    ]  # fmt: skip
    assert "".join(one.text for one in of(events, ReasoningDelta)) == "First look."
    assert "".join(one.text for one in of(events, TextDelta)) == "I look.Done."
    assert of(events, Progress)[0].percent == 40
    diff = of(events, ToolEnded)[1].diffs[0]
    assert diff.path == "sums.py" and "+    return a + b" in diff.patch
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert of(events, UsageTold)[-1].cached > 0


async def test_independent_reads_run_side_by_side_and_results_keep_their_order(tmp_path: Path, work: Path) -> None:
    for name in "abc":
        (work / name).write_text(name)
    calls = [{"name": "read", "arguments": {"path": name}} for name in "abc"]
    async with scripted(tmp_path, [{"calls": calls}, {"say": "ok"}]) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "read them")
        await opened.close()
        last = json.loads((await server.bodies())[-1])["messages"]
    kinds = [type(event) for event in events if isinstance(event, ToolStarted | ToolEnded)]
    assert kinds[:3] == [ToolStarted] * 3, "the second waits for the first"
    assert [one["content"].split()[-1] for one in last if one["role"] == "tool"] == ["a", "b", "c"]


async def test_writers_run_in_call_order(tmp_path: Path, work: Path) -> None:
    calls = [
        {"name": "write", "arguments": {"path": "n", "content": "1\n"}},
        {"name": "edit", "arguments": {"path": "n", "old": "1", "new": "2"}},
        {"name": "read", "arguments": {"path": "n"}},
    ]
    async with scripted(tmp_path, [{"calls": calls}, {"say": "ok", "expect": "2"}]) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert ended(events).reason == "done"
    assert [one.status for one in of(events, ToolEnded)] == ["ok"] * 3


async def test_a_call_written_as_text_is_run_and_replayed_as_it_was_written(tmp_path: Path, work: Path) -> None:
    written = 'I see.\n```json\n{"name": "read_file", "arguments": {"file_path": "sums.py"}}\n```'
    async with scripted(tmp_path, [{"say": written}, {"say": "ok", "expect": "return a - b"}]) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "look")
        await opened.close()
        bodies = await server.bodies()
    assert_prefixes_grow(bodies)
    assert json.loads(bodies[1])["messages"][-2] == {"role": "assistant", "content": written}
    assert "".join(one.text for one in of(events, TextDelta)).strip() == "I see.\nok"
    assert of(events, ToolStarted)[0].tool == "read"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (call("fly", to="the moon"), "no tool 'fly'"),
        (call("read"), "path: Field required"),
        ({"calls": [{"name": "read", "arguments": "{oops"}]}, "not valid JSON"),
        (call("read", path="nothing.py"), "there is no file nothing.py"),
        (call("read", path="../../etc/passwd"), "outside the workspace"),
        (call("read", path="\0"), "a path is needed"),
        (call("edit", path="sums.py", old="return a * b", new="x"), "Did you mean these lines"),
        (call("shell", command="exit 3"), "exit 3"),
    ],
)
async def test_what_a_model_gets_wrong_is_told_to_it(tmp_path: Path, work: Path, answer: Answer, words: str) -> None:
    async with scripted(tmp_path, [answer, {"say": "I see."}]) as server:
        opened = await open_session(server.url, work, present=False)
        events = await turn(opened, "go")
        await opened.close()
        bodies = await server.bodies()
    assert ended(events).reason == "done"
    end = of(events, ToolEnded)[0]
    assert end.status in ("error", "denied") and words in end.content
    assert words in json.loads(bodies[-1])["messages"][-1]["content"]
    for message in json.loads(bodies[-1])["messages"]:
        for one in message.get("tool_calls", []):
            json.loads(one["function"]["arguments"])  # else templates refuse every later request


async def test_an_empty_answer_is_nudged_then_given_up(tmp_path: Path, work: Path) -> None:
    script = {"answers": [{"say": " "}], "repeat": True}
    async with scripted(tmp_path, script) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
        assert len(await server.bodies()) == 3
    assert (ended(events).reason, ended(events).detail) == ("limit", "empty")


async def test_the_same_call_over_and_over_is_stopped(tmp_path: Path, work: Path) -> None:
    script = {"answers": [call("read", path="sums.py")], "repeat": True}
    async with scripted(tmp_path, script) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert (ended(events).reason, ended(events).detail) == ("limit", "repeats")
    assert "Do not repeat it" in of(events, InputAdded)[0].text


async def test_rubbish_for_ever_ends_at_a_limit(tmp_path: Path, work: Path) -> None:
    script = {"answers": [{"say": '<tool_call>{"name": "read", '}], "repeat": True}
    async with scripted(tmp_path, script) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert (ended(events).reason, ended(events).detail) == ("limit", "malformed")


async def test_steps_are_limited(tmp_path: Path, work: Path) -> None:
    answers = [call("shell", command=f"echo {at}") for at in range(9)]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, limits=Limits(steps=4))
        events = await turn(opened, "go")
        await opened.close()
        assert len(await server.bodies()) == 4
    assert (ended(events).reason, ended(events).detail) == ("limit", "steps")


@pytest.mark.parametrize("fault", [{"cut_after": 1}, {"error_after": 1}, {"status": 503, "retry_after": 0}])
async def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path: Path, work: Path, fault: Answer) -> None:
    answers = [call("read", path="sums.py"), {"say": "half of an answer that breaks", **fault}, {"say": "whole"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
        bodies = await server.bodies()
    assert ended(events).reason == "done"
    assert bodies[1] == bodies[2], "the same request, byte by byte"
    assert len(of(events, MessageDropped)) == 1 and of(events, Notice)[0].code == "retry"
    assert [part.text for part in of(events, MessageDone)[-1].content] == ["whole"]


async def test_a_cancel_ends_the_turn_and_the_answer_upstream_at_once(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "word " * 50, "piece": 5, "gap_ms": 20}, {"say": "again"}]) as server:
        opened = await open_session(server.url, work)
        events = []
        cancelled_at = 0.0
        async for event in run_prompt(opened, "go"):
            events.append(event)
            if isinstance(event, TextDelta) and not cancelled_at:
                cancelled_at = time.monotonic()
                opened.cancel()
        took_s = time.monotonic() - cancelled_at
        while await server.open():
            await asyncio.sleep(0.01)
        assert time.monotonic() - cancelled_at < 2.0
        assert ended(events).reason == "cancelled" and took_s < 1.0
        await turn(opened, "go on")
        await opened.close()
        last = json.loads((await server.bodies())[-1])["messages"]
    assert [one["role"] for one in last] == ["system", "user", "assistant", "user"]
    assert last[2]["content"].startswith("word"), "what it had said is kept"


async def test_a_cancel_ends_a_tool_and_all_that_it_started(tmp_path: Path, work: Path) -> None:
    command = "sleep 1000 & echo $! > child; echo started; wait"
    async with scripted(tmp_path, [call("shell", command=command), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work)
        events = []
        async for event in run_prompt(opened, "go"):
            events.append(event)
            if isinstance(event, ToolOutput):
                opened.cancel()
        await opened.close()
    assert of(events, ToolEnded)[0].status == "interrupted" and ended(events).reason == "cancelled"
    child = int((work / "child").read_text())
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_steering_reaches_the_model_after_the_tools_that_run(tmp_path: Path, work: Path) -> None:
    answers = [call("shell", command="echo one; sleep 0.3"), {"say": "As you wish.", "expect": "use tabs"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        async for event in run_prompt(opened, "go"):
            if isinstance(event, ToolStarted):
                opened.steer("use tabs")
        await opened.close()
        bodies = await server.bodies()
    assert_prefixes_grow(bodies)
    assert [one["role"] for one in json.loads(bodies[-1])["messages"][-2:]] == ["tool", "user"]


async def test_a_person_is_asked_and_their_no_reaches_the_model(tmp_path: Path, work: Path) -> None:
    answers = [call("write", path="x", content="1"), {"say": "Then not.", "expect": "refused.*use y"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, mode="ask")
        events = await turn(opened, "go", lambda event: decision(event, "reject", feedback="use y"))
        await opened.close()
    assert ended(events).reason == "done" and not (work / "x").exists()
    assert of(events, ToolEnded)[0].status == "denied"


async def test_a_yes_for_the_session_is_asked_once(tmp_path: Path, work: Path) -> None:
    answers = [call("shell", command="touch a"), call("shell", command="touch a"), call("shell", command="touch b"),
               {"say": "ok"}]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, rules=())
        events = await turn(opened, "go", lambda event: decision(event, "approve", "session"))
        await opened.close()
    assert [one.approval.preview for one in of(events, ApprovalRequested)] == ["touch a", "touch b"]


async def test_a_decision_of_another_payload_or_a_second_one_does_not_count(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [call("write", path="x", content="1"), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work, mode="ask")
        told = []
        async for event in run_prompt(opened, "go"):
            if isinstance(event, ApprovalRequested):
                yes = decision(event, "approve")
                told = [opened.decide(yes.model_copy(update={"payload_sha256": "0"})), opened.decide(yes),
                        opened.decide(decision(event, "reject"))]  # fmt: skip
        await opened.close()
    assert told == ["payload_changed", "ok", "already_decided"] and (work / "x").read_text() == "1"


@pytest.mark.parametrize(
    "path", [".git/hooks/pre-commit", "sub/.GIT/config", ".envrc", ".vscode/tasks.json", "AGENTS.md"]
)
async def test_what_would_run_by_itself_later_asks_in_every_mode(tmp_path: Path, work: Path, path: str) -> None:
    async with scripted(tmp_path, [call("write", path=path, content="x"), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work, mode="full", present=False)
        events = await turn(opened, "go")
        await opened.close()
    assert of(events, ToolEnded)[0].status == "denied" and not (work / path).exists()


async def test_a_link_that_leads_outside_asks(tmp_path: Path, work: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    (work / "link").symlink_to(tmp_path / "secret")
    (work / "folder").symlink_to(tmp_path)
    answers = [
        call("read", path="link"), call("shell", command="cat link"),
        call("write", path="folder/secret", content="x"), call("shell", command="cat folder/secret"),
        call("search", pattern="SECRET", path="folder"), call("search", pattern="SECRET"), {"say": "ok"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, mode="full", rules=(), present=False)
        events = await turn(opened, "go")
        await opened.close()
    assert [one.status for one in of(events, ToolEnded)] == ["denied"] * 5 + ["ok"]
    assert (
        not any("SECRET" in one.content for one in of(events, ToolEnded))
        and (tmp_path / "secret").read_text() == "SECRET"
    )


async def test_a_refusal_by_rule_wins_over_every_mode(tmp_path: Path, work: Path) -> None:
    rules = (*ANY_COMMAND, Rule("no", "shell", "rm", "deny"))
    async with scripted(tmp_path, [call("shell", command="echo x && rm sums.py"), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work, mode="full", rules=rules)
        events = await turn(opened, "go")
        await opened.close()
    assert of(events, ToolEnded)[0].status == "denied" and (work / "sums.py").exists()


async def test_a_file_that_somebody_else_changed_is_not_overwritten(tmp_path: Path, work: Path) -> None:
    answers = [call("read", path="sums.py"), call("shell", command="echo '# mine' >> sums.py"),
               call("write", path="sums.py", content="x = 1\n"),
               {"say": "ok", "expect": "changed by somebody else"}]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert ended(events).reason == "done" and "# mine" in (work / "sums.py").read_text()


async def test_ten_megabytes_of_output_are_cut_in_the_middle(tmp_path: Path, work: Path) -> None:
    command = "python3 -c \"print('begin'); print('x' * 10_000_000); print('end')\""
    async with scripted(tmp_path, [call("shell", command=command), {"say": "ok"}]) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    told = of(events, ToolEnded)[0].content
    assert told.startswith("begin") and told.endswith("end\n(exit 0)") and len(told) < 13_000
    assert "characters left out" in told


async def test_a_tool_that_hangs_is_stopped_at_its_limit(tmp_path: Path, work: Path) -> None:
    answers = [
        call("shell", command="echo waiting; sleep 1000", timeout_s=1),
        {"say": "ok", "expect": "stopped after 1 s"},
    ]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert ended(events).reason == "done"


async def test_what_runs_in_the_background_is_listed_stopped_and_never_left(tmp_path: Path, work: Path) -> None:
    answers = [
        call("shell", command="echo $$ > one; echo hello; sleep 1000", background=True),
        call("shell", command="echo $$ > two; sleep 1000", background=True),
        call("shell", command="jobs"), call("shell", command="output %1"), call("shell", command="kill %1"),
        {"say": "ok"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        assert not _runs(int((work / "one").read_text())) and _runs(int((work / "two").read_text()))
        await opened.close()
    assert not _runs(int((work / "two").read_text()))
    told = [one.content for one in of(events, ToolEnded)]
    assert "%1 runs" in told[2] and "%2 runs" in told[2] and "hello" in told[3] and "%1 ended" in told[4]


async def test_the_plan_is_shown(tmp_path: Path, work: Path) -> None:
    answers = [call("plan", steps=["[x] look", "[>] mend", "test"]), {"say": "ok"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    entries = of(events, PlanChanged)[0].entries
    assert [(one.text, one.state) for one in entries] == [("look", "done"), ("mend", "active"), ("test", "pending")]


async def test_before_the_context_is_full_the_conversation_is_made_shorter(tmp_path: Path, work: Path) -> None:
    (work / "long").write_text("word " * 300)
    answers = [
        call("read", path="long"), call("read", path="long", start=1, lines=1),
        {"say": "The file is long. Next: answer.", "expect": "summary"},
        {"say": "Short.", "expect": "Summary of the work"},
        {"say": "Still here.", "expect": "one more"},
    ]  # fmt: skip
    async with scripted(tmp_path, {"context_length": 600, "answers": answers}) as server:
        opened = await open_session(server.url, work)
        events = await turn(opened, "read the long file twice")
        events += await turn(opened, "one more")
        await opened.close()
        bodies = await server.bodies()
    assert_prefixes_grow(bodies[:3])
    assert_prefixes_grow(bodies[3:])
    summary = of(events, Compacted)[0].summary
    assert "read the long file twice" in summary and "The file is long." in summary
    assert ended(events).reason == "done"


async def test_a_resumed_session_sends_the_same_bytes(tmp_path: Path, work: Path) -> None:
    answers = [call("read", path="sums.py"), {"say": "I read it."}, {"say": "Welcome back."}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        await turn(opened, "look")
        await opened.close()
        again = await open_session(server.url, work, resume=opened.session.header.id)
        events = await turn(again, "and now?")
        await again.close()
        bodies = await server.bodies()
    assert_prefixes_grow(bodies)
    seqs = [event.seq for event in read(again.session.header.id)[1]]
    assert seqs == sorted(set(seqs)) and ended(events).reason == "done"


async def test_an_engine_that_is_not_there_is_told_at_once(tmp_path: Path, work: Path) -> None:
    from variet.errors import AnswerFailed

    with pytest.raises(AnswerFailed, match="no engine answers"):
        await open_session("http://127.0.0.1:1", work)


async def test_an_unknown_tier_lists_those_that_there_are(tmp_path: Path, work: Path) -> None:
    from variet.agent import opening
    from variet.agent.model import EngineModel
    from variet.agent.permissions import Permissions
    from variet.connection import Connection
    from variet.errors import AnswerFailed
    from variet.policy.action import Facts

    async with scripted(tmp_path, [{"say": "x"}]) as server:
        model = EngineModel(Connection(server.url))
        with pytest.raises(AnswerFailed, match="deep-coder"):
            await opening.new(work, model, Permissions("ask", Facts()), opening.Wishes(tier="huge"))
        await model.close()


# --- a person's check ---

FIXED = "sums.py\n```python\ndef add(a, b):\n    return a + b\n```"
CHECK = "python3 -c 'import sums; assert sums.add(1, 2) == 3'"


async def test_a_check_that_fails_sends_the_model_back_to_work(tmp_path: Path, work: Path) -> None:
    answers = [
        {"say": "It is done.", "expect": "AssertionError"},
        call("edit", path="sums.py", old="a - b", new="a + b"),
        {"say": "Now it is."},
    ]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK)
        events = await turn(opened, "fix add")
        await opened.close()
        assert_prefixes_grow(await server.bodies())
    assert ended(events).reason == "done"
    assert [one.status for one in of(events, ToolEnded)] == ["error", "error", "ok", "ok"]


async def test_a_check_that_never_passes_ends_at_a_limit(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, {"answers": [{"say": "Done."}], "repeat": True}) as server:
        opened = await open_session(server.url, work, check=CHECK, limits=Limits(checks=3))
        events = await turn(opened, "fix add")
        await opened.close()
    assert (ended(events).reason, ended(events).detail) == ("limit", "check")


async def test_a_check_that_passes_already_needs_no_model(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "never asked"}]) as server:
        opened = await open_session(server.url, work, check="true")
        events = await turn(opened, "fix add")
        await opened.close()
        assert await server.bodies() == []
    assert ended(events).reason == "done"


def cause(file: str) -> Answer:
    """The first of a guided model's two answers."""
    return {"say": json.dumps({"why": "It subtracts.", "file": file, "change": "return a + b"})}


@pytest.mark.parametrize("echo", [False, True])
async def test_the_smallest_models_are_guided_to_the_file_and_start_over(
    tmp_path: Path, work: Path, echo: bool
) -> None:
    """`echo`: some servers repeat what was written for the model."""
    (work / "test_sums.py").write_text("from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    opening = "It subtracts. `return a + b`\n\nsums.py\n```python\n"
    begun = opening if echo else ""
    broken = "```\n\nNow run it:\n```bash\necho 'all is well'\n```"
    answers = [
        cause("sums.py"), {"say": f"{begun}def add(a, b):\n    return a * b\n{broken}", "expect": "^It subtracts"},
        cause("sums.py"), {"say": f"{begun}def add(a, b):\n    return a * b\n```"},  # as it is
        {"say": "I think that it must add.", "expect": r"(?s)holds exactly that.*AssertionError"},  # in no schema
        {"say": "It must add, not multiply."},
        cause("sums.py"), {"say": f"{begun}def add(a, b):\n    return a + c\n```"},
        cause("sums.py"), {"say": f"{begun}import os\n```"},
        cause("sums.py"), {"say": f"{begun}def add(a, b):\n    return a + b\n```"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = await turn(opened, "fix add")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    asked = bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["file"]["enum"]
    assert asked == ["sums.py"], "tests are nothing to choose"
    assert [len(body["messages"]) for body in bodies] == [2, 3, 2, 3, 2, 2, 2, 3, 2, 3, 2, 3]
    assert [body["temperature"] for body in bodies[::2]] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    told = [body["messages"][1]["content"] for body in bodies]
    assert "Nothing was written" in told[6]
    assert "undefined name 'c'" in told[8] and "it would lose add" in told[10]
    said = "".join(event.text for event in of(events, TextDelta))
    assert said.count(opening) == 5, "people see each beginning once"
    assert "all is well" not in said, "what comes after the file is a guess"


async def test_what_nobody_wrote_yet_is_begun_at_once_and_asked_about_where_it_fails(
    tmp_path: Path, work: Path
) -> None:
    (work / "sums.py").write_text("def add(a, b):\n    raise NotImplementedError\n")
    wrong, right = ({"say": f"def add(a, b):\n    return a {sign} b\n```"} for sign in "*+")
    async with scripted(tmp_path, [wrong, cause("sums.py"), right]) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = await turn(opened, "write add")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert ["response_format" in body for body in bodies] == [False, True, False]
    assert bodies[0]["messages"][-1] == {"role": "assistant", "content": "sums.py\n```python\n"}


async def test_the_smallest_models_change_no_tests_and_are_asked_openly_where_there_is_nothing_to_choose(
    tmp_path: Path, work: Path
) -> None:
    (work / "sums.py").unlink()
    (work / "test_sums.py").write_text("from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n")
    cheat = "test_sums.py\n```python\ndef test_add():\n    pass\n```"
    answers = [
        {"say": f"First.\n{cheat}"},
        {"say": FIXED, "expect": "they stay as they are"},
    ]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check="test -f sums.py", profile="blocks")
        events = await turn(opened, "write it")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and not any("response_format" in body for body in bodies)
    assert "pass" not in (work / "test_sums.py").read_text()


async def test_a_check_that_cannot_be_run_is_told_before_any_model_is_asked(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "Done."}]) as server:
        opened = await open_session(server.url, work, check="no-such-program-xyz -q")
        events = await turn(opened, "fix add")
        await opened.close()
        assert not await server.bodies()
    assert (ended(events).reason, ended(events).detail) == ("error", "check")
    (told,) = [event for event in of(events, Notice) if event.level == "error"]
    assert "no-such-program-xyz is not there" in told.text and "Run it yourself" in told.next


async def test_the_smallest_models_are_held_to_a_file_by_its_own_first_line_once_they_strayed(
    tmp_path: Path, work: Path
) -> None:
    """What a check says is the same each time: no durations, no folder."""
    tests = "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
    (work / "test_sums.py").write_text(tests)
    answers = [
        cause("sums.py"), {"say": f"{tests}```"},  # not what is to stand in it
        cause("sums.py"), {"say": "    return a + b\n```"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(
            server.url, work, check=f"{sys.executable} -m pytest -q -p no:cacheprovider", profile="blocks"
        )
        events = await turn(opened, "fix add")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    first, second = (bodies[number]["messages"][-1]["content"] for number in (1, 3))
    assert first.endswith("sums.py\n```python\n") and second.endswith("sums.py\n```python\ndef add(a, b):\n")
    said = bodies[0]["messages"][1]["content"]
    assert "1 failed" in said and not re.search(r"\d\.\d+s", said) and str(work) not in said


async def test_a_small_model_that_only_talks_is_led_to_a_file_which_it_may_decline(tmp_path: Path, work: Path) -> None:
    claim = {"say": "I read the file and corrected the sign."}
    begun = "why `change`\n\nsums.py\n```python\n"
    answers = [
        claim, cause("sums.py"), {"say": f"{begun}def add(a, b):\n    return a + b\n```"}, {"say": "All done."},
        claim, cause("none"), {"say": "It is as it should be."},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, profile="blocks")
        events = await turn(opened, "fix add")
        again = await turn(opened, "what did you do?")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == ended(again).reason == "done"
    assert (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    fields = bodies[1]["response_format"]["json_schema"]["schema"]["properties"]
    assert "why" not in fields, "it would say that nothing was written"
    assert fields["file"]["enum"] == ["sums.py", "none"] and bodies[2]["messages"][-1]["content"].endswith(
        "sums.py\n```python\n"
    )
    assert [event.code for event in of([*events, *again], InputAdded)] == ["unwritten", "unwritten"]


async def test_a_model_that_only_says_that_it_changed_something_hears_so_once(tmp_path: Path, work: Path) -> None:
    answers = [
        {"say": "I have fixed `add`."},
        {**call("edit", path="sums.py", old="a - b", new="a + b"), "expect": "Nothing was changed in this turn"},
        {"say": "I have fixed `add`."},
        {"say": "I have fixed it before."}, {"say": "I have fixed it before.", "expect": "Nothing was changed"},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work)
        first, second = await turn(opened, "fix add"), await turn(opened, "what did you do?")
        await opened.close()
    assert ended(first).reason == ended(second).reason == "done"
    assert (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize("refused_at", [0, 1])
async def test_a_server_that_takes_no_schema_or_no_begun_answer_is_asked_openly(
    tmp_path: Path, work: Path, refused_at: int
) -> None:
    refusal: Answer = {"status": 400, "code": "invalid_request_error", "message": "prefill is not supported"}
    wrong = "sums.py\n```python\ndef add(a, b):\n    return a * b\n```"
    answers = [*[cause("sums.py")] * refused_at, refusal, {"say": wrong}, {"say": FIXED}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = await turn(opened, "fix add")
        temperature = json.loads((await server.bodies())[-1])["temperature"]
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and temperature == 0.4
    assert ["response_format" in body for body in bodies] == [True, *[False] * (refused_at + 2)]


async def test_a_server_that_does_not_go_on_with_a_begun_answer_is_asked_openly(tmp_path: Path, work: Path) -> None:
    anew = {"say": "Sure! Here is the file:\n\nsums.py\n```python\ndef add(a, b):\n    return a * b\n```"}
    async with scripted(tmp_path, [cause("sums.py"), anew, {"say": FIXED}]) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = await turn(opened, "fix add")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and (work / "sums.py").read_text().startswith("def add")
    assert [("response_format" in body, len(body["messages"])) for body in bodies] == [
        (True, 2),
        (False, 3),
        (False, 2),
    ]


async def test_neither_a_summary_nor_an_answer_to_a_person_is_guided(tmp_path: Path, work: Path) -> None:
    answers = [
        {"say": json.dumps({"why": "w", "file": "sums.py", "change": "c"}), "gap_ms": 30, "piece": 4},
        {"say": "def add(a, b):\n    return a * b\n```"}, {"say": FIXED, "expect": "please"}, {"say": "It added."},
    ]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = [event async for event in _steered(opened, "please")]
        await opened.compact()
        (*_, summary) = of(list(opened.session.events), Compacted)
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done" and summary.summary.endswith("It added.")
    assert ["response_format" in body for body in bodies] == [True, False, False, False]


async def _steered(opened: Any, words: str) -> Any:
    """A turn in which the person says something while the first answer comes."""
    async for event in run_prompt(opened, "fix add"):
        if isinstance(event, TextDelta) and words:
            opened.steer(words)
            words = ""
        yield event


async def test_the_next_turn_of_the_smallest_begins_cool_with_the_files_as_their_person_left_them(
    tmp_path: Path, work: Path
) -> None:
    right = {"say": "def add(a, b):\n    return a + b\n```"}
    answers = [cause("sums.py"), {"say": "def add(a, b):\n    return a * b\n```"}, cause("sums.py"), right,
               cause("sums.py"), right]  # fmt: skip
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        await turn(opened, "fix add")
        (work / "sums.py").write_text("def add(a, b):\n    return a // b\n")
        assert ended(await turn(opened, "again")).reason == "done"
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert [body["temperature"] for body in bodies] == [0.2, 0.2, 0.4, 0.4, 0.2, 0.2]
    assert "return a // b" in bodies[4]["messages"][-1]["content"]


async def test_a_file_that_was_written_as_it_is_is_not_offered_again(tmp_path: Path, work: Path) -> None:
    (work / "prices.py").write_text("def price():\n    return 1\n")
    unchanged = {"say": "def price():\n    return 1\n```"}
    answers = [cause("prices.py"), unchanged, cause("sums.py"), {"say": "def add(a, b):\n    return a + b\n```"}]
    async with scripted(tmp_path, answers) as server:
        opened = await open_session(server.url, work, check=CHECK, profile="blocks")
        events = await turn(opened, "fix add")
        await opened.close()
        bodies = [json.loads(body) for body in await server.bodies()]
    assert ended(events).reason == "done"
    offered = [body["response_format"]["json_schema"]["schema"]["properties"]["file"]["enum"] for body in bodies[::2]]
    assert offered == [["prices.py", "sums.py"], ["sums.py"]]


# --- kill -9 ---

_VICTIM = """
import asyncio, os, sys
from pathlib import Path
from tests.support.agent import open_session
from variet.agent.conversation import run_prompt

async def main(url, root, last):
    opened = await open_session(url, Path(root))
    count = 0
    append = opened.session.append
    def dying(event):
        nonlocal count
        append(event)
        count += 1
        if count == last:
            print(opened.session.header.id, flush=True)
            os.kill(os.getpid(), 9)
    opened.session.append = dying
    async for event in run_prompt(opened, "mend it"):
        pass
    print(opened.session.header.id, "whole", count, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.long)])
async def test_a_kill_at_any_event_loses_nothing_and_undo_still_works(tmp_path: Path, step: int) -> None:
    """At any third event, in the gate."""
    before = "def add(a, b):\n    return a - b\n"
    answers = [
        call("read", path="sums.py"), call("edit", path="sums.py", old="a - b", new="a + b"),
        call("shell", command="echo x > made"), {"say": "Done."}, {"say": "I am back."},
    ]  # fmt: skip
    states = set()
    for last in range(1, 100, step):
        folder = tmp_path / str(last)
        (folder / "work").mkdir(parents=True)
        (folder / "work" / "sums.py").write_text(before)
        async with scripted(folder, {"answers": answers, "repeat": True}) as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _VICTIM, server.url, str(folder / "work"), str(last),
                stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            output = (await process.communicate())[0].decode().split()
            again = await open_session(server.url, folder / "work", resume=output[0])
            now = (folder / "work" / "sums.py").read_text()
            states.add(now)
            assert now in (before, before.replace("-", "+")), "no file is half written"
            assert again.runtime.rendering.open_calls == []
            assert again.runtime.checkpoints is not None
            undone = await again.runtime.checkpoints.undo(again.runtime.checkpoints.steps)
            assert (folder / "work" / "sums.py").read_text() == before and not undone.left
            assert not (folder / "work" / "made").exists()
            events = await turn(again, "are you there?")
            assert ended(events).reason == "done"
            await again.close()
        if "whole" in output:
            break
    assert len(states) == 2 and last > 15
