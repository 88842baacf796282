"""What a server of tools that reads of Google stands on: its API with a token that the broker renews, and the gate."""

from __future__ import annotations

from typing import Literal, NamedTuple

from variet.assistant.broker.client import BrokerClient
from variet.assistant.gate import Gate
from variet.assistant.google.api import GoogleApi
from variet.assistant.life import Life, life


class Reader(NamedTuple):
    """`life`: of the server, at whose end both are closed."""

    api: GoogleApi
    gate: Gate
    life: Life


def reader(service: Literal["mail", "calendar"], url: str) -> Reader:
    broker = BrokerClient()
    gate = Gate(broker)

    async def token(stale: str) -> str:
        told = await broker.call("token", service=service, stale=stale)
        return str(told["token"])

    api = GoogleApi(url, token)
    return Reader(api, gate, life(api, gate))
