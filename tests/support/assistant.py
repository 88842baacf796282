"""A person with accounts at a strict Google, a broker, and a model's client of one of the servers of tools."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import Implementation

from tests.support.broker import broker, person, waiting
from tests.support.google import Google
from variet.approval import Approval, Decision
from variet.assistant.broker.client import BrokerClient
from variet.assistant.hands import hands


@dataclass
class Desk:
    """A person with a mailbox, and a model's client of it."""

    google: Google
    owner: BrokerClient
    client: Client
    folder: Path

    async def call(self, tool: str, **args: Any) -> Any:
        """What the model is told as data; an error as its text."""
        told = await self.client.call_tool(tool, args)
        return told.content[0].text if told.is_error else told.structured_content  # type: ignore[union-attr]

    async def decided(
        self, choice: str, tool: str, before: Callable[[], Awaitable[None]] | None = None, **args: Any
    ) -> tuple[Approval, Any]:
        """(what the person was shown, what the model is told after they decided); `before`: they do."""
        calling = asyncio.create_task(self.call(tool, **args))
        approval = await waiting(self.owner)
        decision = Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice=choice)
        if before:
            await before()
        await self.owner.decide(decision)
        return approval, await calling


@asynccontextmanager
async def desk(folder: Path, strict: Google, tools: str, *purposes: str) -> AsyncIterator[Desk]:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "variet", "mcp", tools], env={**os.environ, "VARIET_HOME": str(folder)}
    )
    me = Implementation(name="a-client", version="1")
    async with broker(folder, hands=hands), person(folder) as owner:
        await strict.sign_in(owner, *purposes)
        async with Client(stdio_client(command), client_info=me) as client:
            yield Desk(strict, owner, client, folder)
