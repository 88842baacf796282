"""feed.py: listeners read at their own pace, hear what they lost, and hold nobody up."""

from __future__ import annotations

import asyncio

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
