"""A broker in this process, on a real socket, with carriers of a test's choice; and a person with a PIN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from variet.approval import Approval
from variet.assistant.broker.carriers import Carrier
from variet.assistant.broker.client import BrokerClient
from variet.assistant.broker.place import Place
from variet.assistant.broker.server import BrokerServer
from variet.assistant.google.accounts import Accounts

PIN = "4711-test"
Hands = Callable[[Accounts], Mapping[str, Carrier]]


def here(folder: Path) -> Place:
    """Where `variet` finds it with VARIET_HOME set to this folder."""
    return Place(folder / "state" / "broker")


@asynccontextmanager
async def broker(
    folder: Path, carriers: Mapping[str, Carrier] | None = None, hands: Hands | None = None
) -> AsyncIterator[BrokerServer]:
    server = BrokerServer(here(folder), hands or (lambda _: carriers or {}))
    running = asyncio.create_task(server.run())
    try:
        while not here(folder).rendezvous.file.exists():
            await asyncio.sleep(0.01)
            if running.done():
                running.result()
        yield server
    finally:
        server.end()
        await running


@asynccontextmanager
async def person(folder: Path) -> AsyncIterator[BrokerClient]:
    """A line over which everything may be decided."""
    async with BrokerClient(here(folder), start=False) as client:
        if (await client.call("hello"))["has_pin"]:
            await client.call("unlock", pin=PIN)
        else:
            await client.call("pin.set", pin=PIN)
        yield client


async def waiting(owner: BrokerClient) -> Approval:
    """The action that waits, once one does."""
    after = 0
    while True:
        for seq, one in await owner.call("changes", 300.0, after=after):
            after = max(after, seq)
            if one["state"] == "pending":
                return Approval.model_validate(one)
