"""Several tiers in one session: helpers on their own, a person's change, one that takes over where another is stuck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import ANY_COMMAND, assert_prefixes_grow, of, scripted, turn
from variet.agent import opening, sessions
from variet.agent.conversation import Conversation
from variet.agent.events import Notice, TierChanged, ToolEnded, TurnEnded, TurnStarted
from variet.agent.model import EngineModel
from variet.agent.opening import Wishes
from variet.connection import Connection

READ = {"calls": [{"name": "read", "arguments": {"path": "sums.py"}}]}


pytestmark = pytest.mark.usefixtures("home")


def settings(home: Path, **told: Any) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "agent.json").write_text(json.dumps(told))


async def session(url: str, work: Path, **wishes: Any) -> Conversation:
    return await opening.start(
        work, EngineModel(Connection(url)), Wishes(**{"tier": "balanced", **wishes}), "auto-edit", ANY_COMMAND,
        present=False,
    )  # fmt: skip


def tasks(*prompts: str, role: str = "explore") -> dict[str, Any]:
    return {"calls": [{"name": "task", "arguments": {"prompt": one, "role": role}} for one in prompts]}


def helper(word: str, *answers: Any) -> dict[str, Any]:
    return {"when": f"look for {word}", "answers": list(answers)}


async def test_helpers_run_side_by_side_with_a_context_of_their_own(tmp_path: Path, home: Path, work: Path) -> None:
    script = {
        "conversations": [
            helper("alpha", {**READ, "first_ms": 150}, {"say": "alpha is in sums.py:1"}),
            helper("beta", {**READ, "first_ms": 150}, {"say": "beta is nowhere"}),
            {"answers": [tasks("look for alpha", "look for beta"), {"say": "Found.", "expect": "beta is nowhere"}]},
        ]
    }
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        events = await turn(opened, "find both")
        bodies = [json.loads(body) for body in await server.bodies()]
        await opened.close()
    mine = [event for event in events if event.agent_id == "main"]
    ends = sorted(of(mine, ToolEnded), key=lambda end: str(end.call_id))
    assert [end.content for end in ends] == ["alpha is in sums.py:1", "beta is nowhere"]
    theirs = [event for event in events if event.parent_id == "main"]
    assert {event.agent_id for event in theirs} == {f"explore-{end.call_id}" for end in ends}
    order = [type(event) for event in theirs if isinstance(event, TurnStarted | TurnEnded)]
    assert order == [TurnStarted, TurnStarted, TurnEnded, TurnEnded], "both were under way at once"
    tools = {tuple(tool["function"]["name"] for tool in body["tools"]) for body in bodies if "helper of" in str(body)}
    assert tools == {("list", "read", "search", "shell")}
    assert [len(body["messages"]) for body in bodies if "helper of" not in str(body["messages"][0])] == [2, 5]
    listed = sessions.listed()
    assert [one.header.id for one in listed] == [opened.session.header.id], "helpers are no sessions to go on with"


async def test_a_helper_changes_nothing_whatever_the_mode(tmp_path: Path, home: Path, work: Path) -> None:
    shell = {"calls": [{"name": "shell", "arguments": {"command": "touch made"}}]}
    script = {
        "conversations": [
            helper("harm", shell, {"say": "I may not.", "expect": "plan mode"}),
            {"answers": [tasks("look for harm"), {"say": "ok"}]},
        ]
    }
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        await turn(opened, "go")
        await opened.close()
    assert not (work / "made").exists()


async def test_a_helper_that_does_not_get_on_is_told_and_the_parent_goes_on(
    tmp_path: Path, home: Path, work: Path
) -> None:
    script = {
        "conversations": [
            helper("trouble", {"status": 400, "message": "no such thing"}),
            {"answers": [tasks("look for trouble"), {"say": "ok", "expect": "did not finish: no such thing"}]},
        ]
    }
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert of(events, TurnEnded)[-1].reason == "done"


@pytest.mark.parametrize(
    ("role", "beside", "asked"),
    [("explore", ["scripted"], "fast"), ("explore", [], "resident"), ("review", [], "deep-logic")],
)
async def test_helpers_go_where_the_settings_and_the_plan_say(
    tmp_path: Path, home: Path, work: Path, role: str, beside: list[str], asked: str
) -> None:
    settings(home, roles={"explore": "fast", "review": "deep-logic"})
    script = {
        "tiers": {"fast": {"model": "small"}, "deep-logic": {"model": "large"},
                  "balanced": {"live_beside": ["small"] if beside else []}},
        "conversations": [helper("it", {"say": "here"}), {"answers": [tasks("look for it", role=role), {"say": "ok"}]}],
    }  # fmt: skip
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        await turn(opened, "go")
        await opened.close()
        models = [json.loads(body)["model"] for body in await server.bodies()]
    assert models == ["balanced", asked, "balanced"]


async def test_a_stuck_model_is_relieved_and_it_is_said(tmp_path: Path, home: Path, work: Path) -> None:
    settings(home, escalation=["deep-coder", "ultra"])
    script = {
        "tiers": {"deep-coder": {"model": "large"}, "ultra": {"model": "huge"}},
        "answers": [*[READ] * 4, {"say": "Now I see.", "expect": "model before you got stuck"}],
    }
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        events = await turn(opened, "go")
        bodies = await server.bodies()
        await opened.close()
        again = await opening.start(
            work, EngineModel(Connection(server.url)), Wishes(), "ask", present=False, name=opened.session.header.id
        )
        await again.close()
    assert [json.loads(body)["model"] for body in bodies] == ["balanced"] * 4 + ["deep-coder"]
    (changed,) = of(events, TierChanged)
    assert (changed.tier, changed.model, changed.profile) == ("deep-coder", "large", "native")
    assert any(one.code == "escalated" for one in of(events, Notice)) and of(events, TurnEnded)[-1].reason == "done"
    assert again.runtime.facts.name == "deep-coder", "a session that is taken up again stays where it was"


async def test_with_nobody_left_to_take_over_the_limit_is_told(tmp_path: Path, home: Path, work: Path) -> None:
    settings(home, escalation=["deep-coder"])
    script = {"tiers": {"deep-coder": {"model": "large"}}, "answers": [READ], "repeat": True}
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        events = await turn(opened, "go")
        await opened.close()
    assert len(of(events, TierChanged)) == 1
    assert (of(events, TurnEnded)[-1].reason, of(events, TurnEnded)[-1].detail) == ("limit", "repeats")


async def test_going_back_to_a_tier_finds_its_prefix_again(tmp_path: Path, home: Path, work: Path) -> None:
    """Each model reads the same bytes as before and what came since: the engine has the conversation still."""
    script = {
        "tiers": {"deep-coder": {"model": "qwen2.5-coder-1.5b", "parameters": 1_500_000_000}},
        "answers": [READ, *[{"say": "ok"}] * 9],
    }
    async with scripted(tmp_path, script) as server:
        opened = await session(server.url, work)
        await turn(opened, "one")
        for tier in ("deep-coder", "balanced", "deep-coder", "balanced"):
            await opened.set_tier(tier)
            await turn(opened, f"on {tier}")
        bodies = await server.bodies()
        await opened.close()
    by = {name: [body for body in bodies if json.loads(body)["model"] == name] for name in ("balanced", "deep-coder")}
    assert len(by["balanced"]) == 4 and len(by["deep-coder"]) == 2
    assert_prefixes_grow(by["balanced"])
    assert_prefixes_grow(by["deep-coder"])
    assert "tools" not in json.loads(by["deep-coder"][0]), "each model in a format that suits it"


async def test_a_question_offers_no_tools_and_goes_on(tmp_path: Path, home: Path, work: Path) -> None:
    settings(home, roles={"ask": "deep-logic"})
    async with scripted(tmp_path, [{"say": "Four."}, {"say": "Eight."}]) as server:
        opened = await session(server.url, work, tier="", kind="ask")
        await turn(opened, "two and two?")
        await opened.close()
        again = await opening.start(
            work, EngineModel(Connection(server.url)), Wishes(kind="ask"), "ask", present=False,
            name=sessions.latest(work, kind="ask"),
        )  # fmt: skip
        await turn(again, "and doubled?")
        await again.close()
        bodies = await server.bodies()
    first = json.loads(bodies[0])
    assert "tools" not in first and first["model"] == "deep-logic"
    assert_prefixes_grow(bodies)
    assert sessions.latest(work) is None, "and is no coding session"
