"""feed.py: listeners read at their own pace, hear what they lost, and hold nobody up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import ClientDisconnect

from variet.engine.feed import Feed


def test_a_listener_reads_on_where_it_was() -> None:
    feed = Feed()
    feed.publish("moment", lambda: {"n": 1})
    begin = feed.last
    feed.publish("swap", lambda: {"n": 2})
    items, lost = feed.after(begin)
    assert [(one.number, one.kind, one.tell()["n"]) for one in items] == [(2, "swap", 2)]
    assert lost == 0
    assert feed.after(feed.last) == ([], 0)


def test_a_slow_listener_hears_how_much_it_lost() -> None:
    feed = Feed(keep=3)
    for _ in range(10):
        feed.publish("moment", dict)
    items, lost = feed.after(2)
    assert [one.number for one in items] == [8, 9, 10]
    assert lost == 5


async def test_news_wake_every_listener_and_the_end_does_too() -> None:
    feed = Feed()
    waiting = [asyncio.create_task(feed.news(0, 60.0)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.publish("moment", dict)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    last = asyncio.create_task(feed.news(feed.last, 60.0))
    await asyncio.sleep(0)
    feed.close()
    await asyncio.wait_for(last, 5)
    await asyncio.wait_for(feed.news(feed.last, 60.0), 5)


async def test_a_listener_that_takes_nothing_is_cut_and_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    from variet.engine.api import live

    monkeypatch.setattr(live, "_STALL_S", 0.01)
    engine = SimpleNamespace(listeners=0)

    async def words() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    async def never(_message: Any) -> None:
        await asyncio.Event().wait()

    async def silent() -> Any:
        await asyncio.Event().wait()

    for version in ("2.3", "2.4"):
        listener = live._Live(words(), cast(Any, engine))
        with contextlib.suppress(ClientDisconnect):
            await listener({"type": "http", "asgi": {"spec_version": version}}, silent, never)
        assert engine.listeners == 0
