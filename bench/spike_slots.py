"""Spike: three conversations on two slots, saved and restored by lease, on one real llama-server.

Shows what docs/decisions/005 states: `python -m bench.spike_slots [GGUF]`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from variet import paths
from variet.engine import llama_server
from variet.engine.backends.base import LaunchSpec
from variet.engine.backends.local import socket_dir
from variet.engine.instance import LocalChild, child_environment
from variet.processes import leash_for

FILLER = "The engineer wrote down what the machine did, and why, and what it would do next. "


class Slots:
    """Direct calls to one child, slot by slot."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, slot: int, who: str, turns: int, path: str = "/v1/chat/completions") -> dict[str, Any]:
        text = f"I am {who}. " + FILLER * 40
        messages: list[dict[str, str]] = []
        for turn in range(turns):
            messages.append({"role": "user", "content": f"{text} Turn {turn}."})
            if turn < turns - 1:
                messages.append({"role": "assistant", "content": "Noted."})
        body = {"messages": messages, "max_tokens": 4, "temperature": 0, "id_slot": slot}
        began = time.monotonic()
        async with self._session.post(path, json=body) as answer:
            result: dict[str, Any] = await answer.json()
        result["seconds"] = time.monotonic() - began
        return result

    async def slot(self, slot: int, action: str, name: str) -> dict[str, Any]:
        async with self._session.post(f"/slots/{slot}?action={action}", json={"filename": name}) as answer:
            result: dict[str, Any] = await answer.json()
            return result

    async def occupied(self) -> list[int]:
        async with self._session.get("/slots") as answer:
            return [int(one.get("n_prompt_tokens", one.get("n_past", 0)) or 0) for one in await answer.json()]


async def main() -> None:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else next((paths.models_dir() / "qwen2.5-coder-0.5b").glob("*.gguf"))
    server = await llama_server.discover()
    with tempfile.TemporaryDirectory() as folder:
        args = (
            "--model", str(model), "--ctx-size", "16384", "--parallel", "2", "--no-kv-unified", "--cache-ram", "0",
            "-fit", "off", "--no-warmup", "--no-ui", "--sse-ping-interval", "-1", "--slot-save-path", f"{folder}/",
            "--batch-size", "512", "--n-gpu-layers", "0", "--device", "none",
        )  # fmt: skip
        spec = LaunchSpec("spike", server.path, args, server.environment(child_environment({})), True, 60)
        child = await LocalChild.spawn(spec, socket_dir(), Path(folder) / "log", leash_for(), lambda *_: None)
        try:
            print(f"ready in {await child.ready:.0f} ms")
            connector = aiohttp.UnixConnector(child.address.socket_path or "")
            async with aiohttp.ClientSession(child.address.base_url, connector=connector) as session:
                await conversations(Slots(session))
                await messages_ignores_id_slot(Slots(session))
        finally:
            await child.stop()


def show(what: str, result: dict[str, Any]) -> None:
    timings = result.get("timings", {})
    print(f"{what:<52} {result['seconds']:6.2f} s  reused {timings.get('cache_n')}, read {timings.get('prompt_n')}")


async def conversations(slots: Slots) -> None:
    show("A, turn 1, slot 0", await slots.ask(0, "Ada", 1))
    show("B, turn 1, slot 1", await slots.ask(1, "Bob", 1))
    saved = await slots.slot(0, "save", "a.bin")
    print(f"save A: {saved['n_saved']} tokens, {saved['n_written'] >> 20} MiB, {saved['timings']['save_ms']:.0f} ms")
    show("C, turn 1, takes slot 0", await slots.ask(0, "Cid", 1))
    show("B, turn 2, slot 1 (never left)", await slots.ask(1, "Bob", 2))
    saved = await slots.slot(1, "save", "b.bin")
    restored = await slots.slot(1, "restore", "a.bin")
    print(f"restore A into slot 1: {restored['n_restored']} tokens, {restored['timings']['restore_ms']:.0f} ms")
    show("A, turn 2, slot 1 (restored into another slot)", await slots.ask(1, "Ada", 2))
    show("B, turn 3, slot 0, nothing restored", await slots.ask(0, "Bob", 3))
    both = await asyncio.gather(slots.ask(0, "Bob", 3), slots.ask(1, "Ada", 3))
    show("B and A side by side: B", both[0])
    show("B and A side by side: A", both[1])


async def messages_ignores_id_slot(slots: Slots) -> None:
    before = await slots.occupied()
    await slots.ask(0, "Messages", 1, "/v1/messages")
    await slots.ask(0, "Another one", 1, "/v1/messages")
    print(f"slots' tokens before two /v1/messages on id_slot 0: {before}, after: {await slots.occupied()}")


if __name__ == "__main__":
    asyncio.run(main())
