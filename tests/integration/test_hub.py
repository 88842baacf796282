"""Model files from a hub, by the hub's own library in a process of its own, against a hub on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.pulling import CONTENT, fetch
from variet.engine.config import FileSpec
from variet.engine.sources import base, source_for
from variet.errors import PullFailed


class Hub:
    """As much of a model hub as its own library asks for when it fetches one file."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256(CONTENT).hexdigest()
        self.slow = False
        self.ranges: list[str | None] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/owner/gated/resolve/main/model.gguf":
            return web.Response(status=403, headers={"X-Error-Message": "you must accept the terms"})
        if request.path != "/owner/repo/resolve/v1/model.gguf":
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        told = {
            "X-Repo-Commit": "c" * 40, "ETag": '"small"', "X-Linked-ETag": f'"{self.sha256}"',
            "X-Linked-Size": str(len(CONTENT)), "Content-Length": str(len(CONTENT) - start),
        }  # fmt: skip
        if request.method == "HEAD":
            return web.Response(headers=told)
        self.ranges.append(request.headers.get("Range"))
        answer = web.StreamResponse(status=206 if start else 200, headers=told)
        await answer.prepare(request)
        await answer.write(CONTENT[start : start + 400_000])
        if self.slow:
            await asyncio.sleep(60)
        with contextlib.suppress(ConnectionError):  # whoever asked was ended
            await answer.write(CONTENT[start + 400_000 :])
        return answer


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Hub]:
    made = Hub()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield made
    await runner.cleanup()


async def test_a_hub_file_is_fetched_and_checked_against_the_hub_s_own_sum(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "m" / "model.gguf"
    spec = FileSpec(source="hf:owner/repo/model.gguf@v1")
    seen = await fetch(spec, path)
    assert path.read_bytes() == CONTENT and seen[-1] == len(CONTENT) and base.is_present(spec, path)
    hub.sha256 = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(PullFailed, match="SHA-256"):
        await fetch(spec, tmp_path / "n" / "model.gguf")


async def test_a_hub_that_refuses_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    for source, hint in (("hf:owner/gated/model.gguf", "Accept"), ("hf:owner/repo/other.gguf", "repository and file")):
        with pytest.raises(PullFailed, match=hint):
            await fetch(FileSpec(source=source), tmp_path / "model.gguf")


async def test_a_hub_out_of_reach_is_said_without_a_traceback(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(PullFailed, match=r"Connection refused.*Check the network") as caught:
        await fetch(FileSpec(source="hf:owner/repo/model.gguf@v1"), tmp_path / "model.gguf")
    assert "Traceback" not in str(caught.value)


async def test_a_cancelled_hub_pull_ends_at_once_and_can_be_had_later(hub: Hub, tmp_path: Path) -> None:
    hub.slow = True
    path = tmp_path / "m" / "model.gguf"
    spec = FileSpec(source="hf:owner/repo/model.gguf@v1")
    pull = asyncio.create_task(base.ensure(spec, path, source_for(spec.source), lambda _so_far, _total: None))
    while not hub.ranges:
        await asyncio.sleep(0.01)
    pull.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([pull])
    assert pull.cancelled() and not path.exists()
    hub.slow = False
    await fetch(spec, path)
    assert path.read_bytes() == CONTENT
