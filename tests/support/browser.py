"""A real Chromium over the engine's pages (Playwright, headless)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, async_playwright
from scripts.test_tools import TOOLS, find

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def chromium() -> str:
    """Path of the browser; `make test-tools` installs one."""
    names, variable, _ = TOOLS["the dashboard's tests"]
    found = find(names, variable)
    assert found, "these tests need Chromium: run `make test-tools`"
    return found


@asynccontextmanager
async def page(*, width: int = 1280, height: int = 900, dark: bool = False, **more: Any) -> AsyncIterator[Page]:
    """A fresh page; whatever its console calls an error fails the test in the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=[*_FLAGS])
        try:
            context = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **more
            )
            one = await context.new_page()
            errors: list[str] = []
            one.on("pageerror", lambda error: errors.append(str(error)))
            one.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            yield one
            assert not [error for error in errors if "401" not in error and "Failed to load" not in error], errors
        finally:
            await browser.close()
