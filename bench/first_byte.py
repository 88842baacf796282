"""Added time to first byte and between tokens, interleaved, each peer first in turn.

With a real model: llama-server itself, which is the engine's own child asked without the engine, its router, and the
engine. The same over a scripted server, whose answer costs nothing; its events carry the time at which they were sent.
A plain relay to the same child shows what any relay on these libraries adds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median

SIZES_KIB = (1, 80, 300)
MODEL = servers.MODELS[0]


def _bodies() -> dict[str, bytes]:
    result = {}
    for size in SIZES_KIB:
        pad = "word " * (size * 1024 // 5)
        stream = {"model": MODEL, "prompt": "Hello", "max_tokens": 1, "stream": True, "pad": pad}
        result[f"/tokenize, {size} KiB"] = request("/tokenize", {"model": MODEL, "content": "hello", "pad": pad})
        result[f"first token, {size} KiB"] = request("/v1/completions", stream)
    return result


def _scripted_bodies() -> dict[str, bytes]:
    pads = {size: "word " * (size * 1024 // 5) for size in SIZES_KIB}
    return {
        f"{case}, {size} KiB": request(
            "/v1/chat/completions",
            {"model": name, "stream": True, "messages": [{"role": "user", "content": pad}], "script": {"tokens": 1}},
        )
        for case, name in (("scripted stream", MODEL), ("scripted stream, `auto`", "auto"))
        for size, pad in pads.items()
    }


async def run(results: Results, rounds: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(servers.engine((MODEL,)))
        child = await servers.child_of(engine, "llama-server", MODEL)
        peers = [
            child,
            await stack.enter_async_context(servers.router((MODEL,), planned=True)),
            await stack.enter_async_context(servers.plain_relay(child)),
            engine,
        ]
        await _first_bytes(results, peers, _bodies(), rounds)
        await _tokens(results, peers, max(10, rounds // 10))
    async with contextlib.AsyncExitStack() as stack:
        path = {"llama_server": {"path": str(servers.SCRIPTED)}}
        engine = await stack.enter_async_context(servers.engine((MODEL,), path))
        child = await servers.child_of(engine, "scripted server", MODEL)
        peers = [child, await stack.enter_async_context(servers.plain_relay(child)), engine]
        await _first_bytes(results, peers, _scripted_bodies(), rounds)
        await _one_way(results, peers, max(10, rounds // 10))


async def _first_bytes(results: Results, peers: list[servers.Peer], bodies: dict[str, bytes], rounds: int) -> None:
    cases = {case: body for case, body in bodies.items() if not results.have("first byte", case)}
    lines = {peer.name: Connection(peer.door()) for peer in peers}
    taken: dict[str, dict[str, list[float]]] = {case: {peer.name: [] for peer in peers} for case in cases}
    for number in range(-3, rounds):  # the first three warm everything up
        for case, body in cases.items():
            for peer in (*peers[number % len(peers) :], *peers[: number % len(peers)]):
                await lines[peer.name].ask(body)  # what ran before leaves the processor's caches to each in turn
                timed = await lines[peer.name].ask(body)
                if timed.status != 200:
                    raise SystemExit(f"{peer.name}: {case}: {timed.status} {timed.body[:200]!r}")
                if number >= 0:
                    taken[case][peer.name].append(timed.first_ms)
    for line in lines.values():
        line.close()
    base = peers[0].name
    for case, samples in taken.items():
        # Each round's difference, not the difference of medians: the machine's mood is the same within a round.
        added = {
            name: median([one - other for one, other in zip(values, samples[base], strict=True)])
            for name, values in samples.items()
            if name != base
        }
        results.add(
            "first byte", case, "ms", median={name: median(values) for name, values in samples.items()}, added=added
        )


async def _tokens(results: Results, peers: list[servers.Peer], rounds: int) -> None:
    """Gaps between the tokens of a real model, greedily decoded."""
    case = "gap between tokens"
    if results.have("tokens", case):
        return
    body: dict[str, Any] = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 64, "stream": True}
    data = request("/v1/completions", {**body, "temperature": 0})
    gaps: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in (*peers[number % len(peers) :], *peers[: number % len(peers)]):
            line = Connection(peer.door())
            stamps = (await line.ask(data)).stamps_ns
            line.close()
            gaps[peer.name].append(median([(b - a) / 1e6 for a, b in itertools.pairwise(stamps[2:-2])]))
    base = peers[0].name
    medians = {name: median(values) for name, values in gaps.items()}
    added = {
        name: median([one - other for one, other in zip(values, gaps[base], strict=True)])
        for name, values in gaps.items()
        if name != base
    }
    results.add("tokens", case, "ms", median=medians, added=added)


async def _one_way(results: Results, peers: list[servers.Peer], rounds: int) -> None:
    """From a scripted server's write of each token to the client's read; and how much the gaps differ from its own."""
    case = "scripted, 5 ms apart"
    if results.have("tokens", case):
        return
    messages = [{"role": "user", "content": "go"}]
    script = {"tokens": 100, "gap_ms": 5}
    data = request("/v1/chat/completions", {"model": MODEL, "stream": True, "messages": messages, "script": script})
    ways: dict[str, list[float]] = {peer.name: [] for peer in peers}
    gaps: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in (*peers[number % len(peers) :], *peers[: number % len(peers)]):
            line = Connection(peer.door())
            timed = await line.ask(data)
            line.close()
            events = [json.loads(one) for one in timed.body.split(b"data: ")[1:] if one.startswith(b"{")]
            sent = [event["sent_ns"] for event in events if "sent_ns" in event]
            stamps = timed.stamps_ns[: len(sent)]
            ways[peer.name] += [(arrived - at) / 1e6 for arrived, at in zip(stamps, sent, strict=False)]
            arrived, left = itertools.pairwise(stamps), itertools.pairwise(sent)
            gaps[peer.name] += [((d - c) - (b - a)) / 1e6 for (c, d), (a, b) in zip(arrived, left, strict=False)]
    results.add(
        "tokens", case, "ms",
        one_way={name: median(values) for name, values in ways.items()},
        added_to_gap={name: median(values) for name, values in gaps.items()},
    )  # fmt: skip
