"""Take the dashboard's pictures for docs/: `.venv/bin/python scripts/screenshots.py` (dev set-up, models, a Chromium).

A real engine with the embedded models is brought into each state that the pictures show.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aiohttp  # noqa: E402
from playwright.async_api import Page  # noqa: E402
from tests.support.browser import page  # noqa: E402
from tests.support.engine import EngineProcess, chat, embedded_config, running  # noqa: E402

from variet import paths  # noqa: E402

OUT = ROOT / "docs" / "dashboard"
_SETTLE_MS = 1_500


async def take(one: Page, name: str) -> None:
    await one.wait_for_timeout(_SETTLE_MS)
    await one.screenshot(path=OUT / f"{name}.png")
    print(f"screenshots: {name}.png", flush=True)


@asynccontextmanager
async def opened(engine: EngineProcess, **look: Any) -> AsyncIterator[Page]:
    async with page(**look) as one:
        await one.goto(engine.url)
        await one.get_by_text("live", exact=True).wait_for()
        yield one


async def work(engine: EngineProcess) -> None:
    """A little history: each tier answers, one conversation comes back."""
    ships = "Tell me about ships. " * 60
    for tier, text in (("fast", "Hello"), ("balanced", ships), ("deep-coder", "Write a loop."), ("balanced", ships)):
        await engine.post("/v1/chat/completions", chat(tier, text, tokens=48))
    await engine.post("/v1/chat/completions", chat("auto", "Find the deadlock in this worker.", tokens=32))


async def states(engine: EngineProcess) -> None:
    async with opened(engine) as one:
        await take(one, "idle")
        await work(engine)
        loading = asyncio.create_task(engine.post("/v1/chat/completions", chat("balanced", "Hello there", tokens=4)))
        await one.locator("article.tier progress").first.wait_for()
        await one.screenshot(path=OUT / "loading.png")
        await loading
        long = chat("balanced", "Tell a very long story about the sea. " * 20, stream=True, tokens=600, ignore_eos=True)
        async with aiohttp.ClientSession(engine.url) as session, session.post("/v1/chat/completions", json=long):
            waiting = asyncio.create_task(engine.post("/v1/chat/completions", chat("fast", tokens=4)))
            await one.wait_for_timeout(6_000)
            await take(one, "streaming")
            async with opened(engine, dark=True) as dark:
                await dark.wait_for_timeout(4_000)
                await take(dark, "streaming-dark")
        await waiting
    async with opened(engine, width=390, height=844) as narrow:
        await take(narrow, "narrow")


async def main() -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home, models = Path(folder), paths.models_dir()
        async with running(home / "one", models, embedded_config()) as engine:
            await states(engine)
        config = embedded_config()
        file = next((models / "qwen2.5-coder-1.5b").glob("*.gguf"))
        config["models"]["experiment"] = {"files": {"model": f"path:{file}"}, "args": ["--no-such-flag"]}
        config["tiers"]["ultra"] = {"model": "experiment", "description": "tried with a flag that is none"}
        async with running(home / "two", models, config) as engine, opened(engine) as one:
            await one.get_by_role("button", name="Swap to ultra").click()
            await take(one, "failed")


if __name__ == "__main__":
    asyncio.run(main())
