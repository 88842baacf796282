"""Coming back to a conversation after a swap: the engine, the same without kept conversations, llama-server's router.

A conversation of so many tokens is read, another model is asked, and then the conversation goes on. Measured: time to
the first token of that turn, tokens reused by the model server's own count, what the engine saved and restored, and
whether its answer is the one of a model that read everything again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from typing import Any

import aiohttp

from bench import servers
from bench.raw_client import Connection, request
from bench.results import Results, median

ALL = (*servers.MODELS, servers.WINDOWED)
AWAY = servers.MODELS[0]
CASES = (
    *((model, tokens) for tokens in (500, 2_000, 6_000) for model in servers.MODELS[1:]),
    (servers.WINDOWED, 2_000),
    (servers.WINDOWED, 6_000),
)
CONTEXT_TOKENS = 8_192
WORDS = (
    "engineer",
    "machine",
    "wrote",
    "down",
    "what",
    "it",
    "did",
    "and",
    "why",
    "before",
    "the",
    "day",
    "was",
    "over",
)


async def run(results: Results, rounds: int) -> None:
    if all(results.have("context", _case(*case)) for case in CASES):
        return
    changes: dict[str, dict[str, Any]] = {"scheduling": {"preload": []}}
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        forgetful = {**changes, "context": {"keep": False}}
        peers = [
            await enter(servers.router(ALL, planned=True, context_tokens=CONTEXT_TOKENS)),
            await enter(servers.engine(ALL, forgetful, name="Variet, nothing kept", context_tokens=CONTEXT_TOKENS)),
            await enter(servers.engine(ALL, changes, context_tokens=CONTEXT_TOKENS)),
        ]
        numbers = itertools.count(1)
        for model, tokens in CASES:
            if results.have("context", _case(model, tokens)):
                continue
            times: dict[str, list[float]] = {peer.name: [] for peer in peers}
            reused: dict[str, list[float]] = {peer.name: [] for peer in peers}
            broken: dict[str, float] = {}
            same = 0
            for _ in range(rounds):
                number, answers = next(numbers), []
                for peer in peers:
                    answer, first_ms, cached = await _there_and_back(peer, model, tokens, number)
                    answers.append(answer)
                    if cached is None:
                        broken[peer.name] = first_ms
                        continue
                    times[peer.name].append(first_ms)
                    reused[peer.name].append(cached)
                same += answers[-1] == answers[-2]
            medians = {name: median(values) for name, values in times.items() if name not in broken}
            results.add(
                "context", _case(model, tokens), "ms", median=medians,
                ratio={name: value / medians[peers[-1].name] for name, value in medians.items()},
                reused={name: median(values) for name, values in reused.items() if name not in broken}, broken=broken,
                same_answer=f"{same} of {rounds}", kept=await _kept(peers[-1], model),
            )  # fmt: skip


def _case(model: str, tokens: int) -> str:
    return f"{model}, {tokens:,} tokens"


async def _there_and_back(peer: servers.Peer, model: str, tokens: int, number: int) -> tuple[str, float, float | None]:
    """(the answer after coming back, milliseconds to its first token, tokens reused); see `_ask`."""
    words = itertools.islice(itertools.cycle(WORDS), tokens - 40)
    messages = [{"role": "user", "content": f"Story number {number}. " + " ".join(words)}]
    said, _, _ = await _ask(peer, model, messages)
    await _ask(peer, AWAY, [{"role": "user", "content": "Hello."}])
    messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "Go on."}]
    return await _ask(peer, model, messages)


async def _ask(peer: servers.Peer, model: str, messages: list[dict[str, str]]) -> tuple[str, float, float | None]:
    """(what was said, milliseconds to the first token, tokens reused); None: it broke off after so long."""
    body = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0, "stream": True}
    line = Connection(peer.door())
    timed = await line.ask(request("/v1/chat/completions", body))
    line.close()
    if timed.status != 200:
        raise SystemExit(f"{peer.name}: {timed.status} {timed.body[:300]!r}")
    events = [json.loads(one) for one in timed.body.split(b"data: ")[1:] if one.startswith(b"{")]
    deltas = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    # Before it has read the prompt llama-server sends comments and empty words: a token is what has text.
    token = re.search(rb'"content":"[^"]', timed.body)
    first_ms = timed.arrived_ms(token.start() if token else len(timed.body) - 1)
    cached = next((event["timings"]["cache_n"] for event in events if "timings" in event), None)
    return "".join(deltas), first_ms, cached


async def _kept(peer: servers.Peer, model: str) -> dict[str, float]:
    """Milliseconds and MiB of this model's saves and restores so far, on average."""
    async with aiohttp.ClientSession(peer.url) as session, session.get("/metrics") as answer:
        text = await answer.text()

    def figure(name: str, outcome: str) -> float:
        pattern = rf'^{name}{{model="{re.escape(model)}",outcome="{outcome}"}} (\S+)$'
        found = re.search(pattern, text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    result = {}
    for outcome, verb in (("saved", "save"), ("restored", "restore")):
        count = figure("variet_context_total", outcome) or 1.0
        result[f"{verb} ms"] = figure("variet_context_seconds_sum", outcome) * 1000 / count
        result[f"{verb} MiB"] = figure("variet_context_bytes_total", outcome) / 2**20 / count
    return result
