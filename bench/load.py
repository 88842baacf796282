"""Requests per second with 1, 16 and 64 clients, each asking again once it was answered; on loopback, for seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median

CLIENTS = (1, 16, 64)
MODEL = servers.MODELS[0]
_SHORT_S = 1.5


async def run(results: Results, rounds: int) -> None:
    tokenize = request("/tokenize", {"model": MODEL, "content": "Once upon a time"})
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(servers.engine((MODEL,)))
        peers = [
            await servers.child_of(engine, "llama-server", MODEL),
            await stack.enter_async_context(servers.router((MODEL,), planned=True)),
            engine,
        ]
        await _compare(results, "/tokenize", peers, tokenize, rounds)
    messages = [{"role": "user", "content": "Once upon a time"}]
    chat = request("/v1/chat/completions", {"model": MODEL, "messages": messages})
    stream = request(
        "/v1/chat/completions", {"model": MODEL, "messages": messages, "stream": True, "script": {"tokens": 16}}
    )
    async with contextlib.AsyncExitStack() as stack:
        changes: dict[str, dict[str, Any]] = {"llama_server": {"path": str(servers.SCRIPTED)}, "models": _many_slots()}
        engine = await stack.enter_async_context(servers.engine((MODEL,), changes))
        child = await servers.child_of(engine, "scripted server", MODEL)
        peers = [child, await stack.enter_async_context(servers.plain_relay(child)), engine]
        await _compare(results, "scripted chat", peers, chat, rounds)
        await _compare(results, "scripted stream of 16 tokens", peers, stream, rounds)


def _many_slots() -> dict[str, Any]:
    """As many slots and places in the queue as clients, so that the relay is measured and not the slots."""
    return {
        MODEL: {
            "files": {"model": f"path:{servers.model_file(MODEL)}"},
            "context_tokens": 256, "slots": 64, "queue_limit": 1000,
        }
    }  # fmt: skip


async def _compare(results: Results, what: str, peers: list[servers.Peer], data: bytes, rounds: int) -> None:
    for clients in CLIENTS:
        case = f"{what}, {clients} client{'s' if clients > 1 else ''}"
        if results.have("load", case):
            continue
        rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for number in range(-1, rounds):
            for peer in (*peers[number % len(peers) :], *peers[: number % len(peers)]):
                rate = await _rate(peer, data, clients)
                if number >= 0:
                    rates[peer.name].append(rate)
        results.add("load", case, "requests/s", median={name: median(values) for name, values in rates.items()})


async def _rate(peer: servers.Peer, data: bytes, clients: int) -> float:
    ends = time.monotonic() + _SHORT_S

    async def client() -> int:
        line, done = Connection(peer.door()), 0
        while time.monotonic() < ends:
            status = (await line.ask(data)).status
            if status != 200:
                raise SystemExit(f"{peer.name} answered {status}")
            done += 1
        line.close()
        return done

    began = time.monotonic()
    counts = await asyncio.gather(*(client() for _ in range(clients)))
    return sum(counts) / (time.monotonic() - began)
