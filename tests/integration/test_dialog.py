"""A client's own dialog shows what waits, in both eras of the protocol; whatever it answers decides nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import ElicitResult, Implementation

from tests.support.broker import broker, person, waiting
from tests.support.google import Google, message
from variet.approval import Decision
from variet.assistant.broker.client import BrokerClient
from variet.assistant.hands import hands

LUNCH = {"to": ["ada@example.com"], "subject": "Lunch", "body": "Noon it is!"}
BOTH = pytest.mark.parametrize("mode", ["legacy", "auto"])


@asynccontextmanager
async def mail(
    folder: Path, strict: Google, mode: str, answers: Any, patience_s: str = "45"
) -> AsyncIterator[tuple[BrokerClient, Client]]:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "variet", "mcp", "mail"],
        env={**os.environ, "VARIET_HOME": str(folder), "VARIET_PATIENCE_S": patience_s},
    )  # fmt: skip
    me = Implementation(name="a-client", version="1")
    async with broker(folder, hands=hands), person(folder) as owner:
        await strict.sign_in(owner)
        async with Client(
            stdio_client(command), client_info=me, mode=mode, elicitation_callback=answers
        ) as client:  # fmt: skip
            yield owner, client


async def approve(owner: BrokerClient) -> str:
    one = await waiting(owner)
    await owner.decide(Decision(approval_id=one.id, payload_sha256=one.payload_sha256, choice="approve"))
    return one.id


@BOTH
@pytest.mark.parametrize(
    "action",
    ["accept", pytest.param("decline", marks=pytest.mark.long), pytest.param("cancel", marks=pytest.mark.long)],
)
async def test_no_answer_of_a_dialog_decides_anything(strict: Google, tmp_path: Path, mode: str, action: Any) -> None:
    shown: list[str] = []

    async def answers(_: Any, params: Any) -> ElicitResult:
        shown.append(params.message)
        return ElicitResult(action=action, content={} if action == "accept" else None)

    async with mail(tmp_path, strict, mode, answers, patience_s="1") as (owner, client):
        told = await client.call_tool("send", LUNCH)
        assert told.is_error and "approval_required" in told.content[0].text  # type: ignore[union-attr]
        assert len(shown) == 1 and "  | Subject: Lunch" in shown[0] and "  | Noon it is!" in shown[0]
        assert "variet approvals" in shown[0] and not await strict.sent()
        assert [one.state for one in await owner.listed()] == ["pending"]
        # Asked again, it is the same action; once a person approved it, it is done.
        again = asyncio.create_task(client.call_tool("send", LUNCH))
        await approve(owner)
        assert not (await again).is_error and len(await strict.sent()) == 1 and len(await owner.listed()) == 1


@BOTH
async def test_a_person_decides_while_the_dialog_is_open(strict: Google, tmp_path: Path, mode: str) -> None:
    """Archiving twice is archiving once, so that the same wish anew would be another action; this one is the same."""
    held = await strict.mail(message("Tea?", "At five?"))
    decided = asyncio.Event()

    async def answers(_: Any, params: Any) -> ElicitResult:
        await decided.wait()
        return ElicitResult(action="accept", content={})

    async with mail(tmp_path, strict, mode, answers) as (owner, client):
        calling = asyncio.create_task(client.call_tool("archive", {"thread": held["threadId"]}))
        action = await approve(owner)
        while (await owner.get(action)).state != "done":
            await asyncio.sleep(0.02)
        decided.set()
        told = await calling
        assert not told.is_error and told.structured_content["action"] == action
        assert len(await owner.listed()) == 1


async def test_a_dialog_that_nobody_answers_holds_nothing_up(strict: Google, tmp_path: Path) -> None:
    """In the earlier era, where it stands beside the call."""

    async def answers(_: Any, params: Any) -> ElicitResult:
        await asyncio.sleep(3_600)
        raise AssertionError

    async with mail(tmp_path, strict, "legacy", answers) as (owner, client):
        calling = asyncio.create_task(client.call_tool("send", LUNCH))
        await approve(owner)
        assert not (await asyncio.wait_for(calling, 20)).is_error and len(await strict.sent()) == 1
