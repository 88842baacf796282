"""The dashboard in a real browser, over a running engine with real models."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.support.browser import page
from tests.support.engine import ROOT, EngineProcess, chat, light_config, running

pytestmark = pytest.mark.models
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
_PATIENCE_MS = 60_000
expect.set_options(timeout=_PATIENCE_MS)  # the machine may be busy; what is awaited comes or does not


@pytest.fixture
async def engine(tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    async with running(tmp_path / "home", models, light_config()) as one:
        yield one


async def opened(one: Page, engine: EngineProcess) -> Page:
    one.set_default_timeout(_PATIENCE_MS)
    await one.goto(engine.url)
    await expect(one.get_by_role("status").first).to_have_text("live", timeout=_PATIENCE_MS)
    return one


def tier(one: Page, name: str) -> Any:
    return one.locator("article.tier").filter(has=one.get_by_role("heading", name=re.compile(rf"^{name}\b")))


async def faults(one: Page) -> list[str]:
    """What axe-core finds against WCAG 2 A and AA."""
    await one.evaluate(AXE.read_text(encoding="utf-8"))
    found = await one.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


async def test_a_person_swaps_unloads_and_sees_it(engine: EngineProcess) -> None:
    async with page() as one:
        await opened(one, engine)
        await expect(one.locator("article.tier")).to_have_count(5)
        await tier(one, "balanced").get_by_role("button", name="Swap to balanced").focus()
        await one.keyboard.press("Enter")
        await expect(tier(one, "balanced").locator(".state")).to_have_text("ready", timeout=_PATIENCE_MS)
        await expect(tier(one, "balanced")).to_be_focused()  # its button went, the way of its keyboard did not
        await expect(one.get_by_text("swapping to balanced: done in")).to_be_visible()
        await expect(one.get_by_role("img", name=re.compile(r"^host: qwen2.5-coder-0.5b"))).to_be_visible()

        status, _ = await engine.post("/v1/chat/completions", chat("balanced", tokens=8))
        assert status == 200
        await expect(one.get_by_role("row").nth(1)).to_contain_text("done")
        await expect(one.locator(".swaps li").first).to_contain_text("qwen2.5-coder-0.5b")
        await expect(one.get_by_text(re.compile(r"1 requests, \d+ tokens written"))).to_be_visible()

        await one.get_by_role("combobox", name="Log of").select_option("qwen2.5-coder-0.5b")
        await expect(one.get_by_role("log")).to_contain_text("llama", timeout=_PATIENCE_MS)
        await tier(one, "balanced").get_by_role("button", name="Unload balanced").click()
        await expect(tier(one, "balanced").locator(".state")).to_have_text("unloaded")
        assert [one["model"] for one in (await engine.status())["instances"]] == []


async def test_a_stream_and_who_waits_for_it_are_seen_live(engine: EngineProcess) -> None:
    async with page() as one, aiohttp.ClientSession(engine.url) as session:
        await opened(one, engine)
        long = chat("balanced", "Tell a very long story about the sea.", stream=True, tokens=400)
        async with session.post("/v1/chat/completions", json={**long, "ignore_eos": True}) as answer:
            assert answer.status == 200
            waiting = asyncio.create_task(engine.post("/v1/chat/completions", chat("fast", tokens=4)))
            cards = one.locator("ul.active li")
            await expect(cards).to_have_count(2)
            await expect(cards.first).to_contain_text(re.compile(r"\d+ tokens"))
            await expect(cards.nth(1)).to_contain_text("number 1 in the queue")
            await expect(one.get_by_role("listitem").filter(has_text="writes")).to_contain_text(re.compile(r"[1-9]\d*"))
        await waiting  # the stream's client left: its turn comes
        await expect(cards).to_have_count(0)
        await expect(one.get_by_role("table")).to_contain_text("left")


async def test_every_look_is_usable_by_all(engine: EngineProcess) -> None:
    await engine.post("/v1/chat/completions", chat("fast", tokens=4))
    for width, dark in ((1280, False), (1280, True), (360, False), (360, True)):
        async with page(width=width, dark=dark) as one:
            await opened(one, engine)
            await expect(one.locator(".swaps li")).to_have_count(1)
            assert await faults(one) == []
            assert await one.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling"
            paper = await one.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(17, 22, 29)") is dark
            other = "light" if dark else "dark"
            await one.get_by_label("Colours").select_option(other)
            await expect(one.locator("html")).to_have_attribute("data-theme", other)
            assert await one.evaluate("getComputedStyle(document.body).backgroundColor") != paper
            assert await faults(one) == []


async def test_what_cannot_run_says_why(tmp_path: Path, models: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but no more")
    config = light_config()
    config["models"]["broken"] = {"files": {"model": f"path:{broken}"}}
    config["tiers"]["ultra"] = {"model": "broken"}
    async with running(tmp_path / "home", models, config) as engine, page() as one:
        await opened(one, engine)
        await expect(tier(one, "ultra").locator(".problem")).to_contain_text("broken.gguf")
        await tier(one, "ultra").get_by_role("button", name="Swap to ultra").click()
        await expect(one.get_by_role("alert")).to_contain_text("swapping to ultra:")
        assert await faults(one) == []


async def test_the_page_comes_back_with_the_engine(tmp_path: Path, models: Path) -> None:
    async with page() as one:
        async with running(tmp_path / "home", models, light_config()) as engine:
            await opened(one, engine)
            port = int(engine.url.rpartition(":")[2])
            await engine.post("/v1/chat/completions", chat("fast", tokens=4))
        await expect(one.get_by_role("status").first).to_have_text("connection lost, trying again")
        engine = EngineProcess(tmp_path / "home", models)
        await engine.start(light_config(), port=port)
        try:
            await expect(one.get_by_role("status").first).to_have_text("live", timeout=_PATIENCE_MS)
            await expect(one.locator(".swaps li")).to_have_count(2)  # its own first load, and the one before
        finally:
            await engine.stop()


async def test_a_key_is_asked_for_kept_in_the_tab_and_weighed(tmp_path: Path, models: Path) -> None:
    async def make(*words: str) -> str:
        env = {**os.environ, "VARIET_HOME": str(tmp_path / "home")}
        command = (sys.executable, "-m", "variet", "key", "add", *words)
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode().split()[0]

    admin, plain = await make("boss", "--admin"), await make("guest")
    async with running(tmp_path / "home", models, light_config()) as engine, page() as one:
        one.set_default_timeout(_PATIENCE_MS)
        await one.goto(engine.url)
        field = one.get_by_label("API key")
        await expect(field).to_be_visible()
        assert await faults(one) == []
        await field.fill("variet-wrong")
        await one.keyboard.press("Enter")
        await expect(one.get_by_role("alert")).to_contain_text("not known here")
        await field.fill(plain)
        await one.keyboard.press("Enter")
        await expect(one.locator("article.tier")).to_have_count(5)
        await one.get_by_role("button", name="Swap to balanced").click()
        await expect(one.get_by_role("alert")).to_contain_text("may ask models, not change the engine")
        await one.reload()
        await expect(one.locator("article.tier")).to_have_count(5)
        await one.get_by_role("button", name="Forget key").click()
        await field.fill(admin)
        await one.keyboard.press("Enter")
        await one.get_by_role("button", name="Swap to balanced").click()
        await expect(one.get_by_text("swapping to balanced: done in")).to_be_visible()
        assert admin not in await one.content() and admin not in one.url


async def test_the_page_is_served_safely_and_to_anybody_who_may_reach_it(engine: EngineProcess) -> None:
    async with aiohttp.ClientSession(engine.url) as session:
        async with session.get("/") as answer:
            text = await answer.text()
            policy = answer.headers["content-security-policy"]
            assert answer.status == 200 and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        for path in re.findall(r'"(/engine/page/[^"]+)"', text):
            async with session.get(path) as answer:
                assert answer.status == 200, path
        for path in ("/engine/page/index.html", "/engine/page/..%2f..%2fconfig.py", "/engine/page/none.js"):
            async with session.get(path) as answer:
                assert answer.status == 404, path
