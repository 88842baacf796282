"""What readers of an open session see, each at its own pace."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from variet.agent.events import (
    DELTAS,
    EventBase,
    MessageDone,
    Progress,
    TextDelta,
    TextPart,
    ToolEnded,
    ToolOutput,
    TurnEnded,
    TurnStarted,
)
from variet.agent.feed import Feed


class Writer:
    """A session's log in memory and its feed, as a journal fills them."""

    def __init__(self, **settings: int) -> None:
        self.recorded: list[EventBase] = []
        self.feed = Feed(self.recorded, **settings)
        self.all: list[EventBase] = []

    def write(self, *events: EventBase) -> None:
        for event in events:
            placed = event.model_copy(update={"seq": len(self.all) + 1})
            if not isinstance(placed, DELTAS):
                self.recorded.append(placed)
            self.all.append(placed)
            self.feed.publish(placed)


def delta(message: str, text: str) -> TextDelta:
    return TextDelta(message_id=message, text=text)


def done(message: str) -> MessageDone:
    return MessageDone(message_id=message, content=(TextPart(text="all of it"),))


async def read_to_end(writer: Writer, after: int = 0, **how: Any) -> list[EventBase]:
    writer.feed.close()
    return [event async for event in writer.feed.read(after, **how)]


async def test_a_reader_sees_every_event_in_its_order_as_it_comes() -> None:
    writer, seen = Writer(), list[EventBase]()

    async def read() -> None:
        async for event in writer.feed.read():
            seen.append(event)

    reading = asyncio.create_task(read())
    for event in (TurnStarted(input="go"), delta("m1", "a"), delta("m1", "b"), done("m1"), TurnEnded(reason="done")):
        writer.write(event)
        await asyncio.sleep(0)
    writer.feed.close()
    await reading
    assert seen == writer.all


async def test_who_comes_late_gets_what_is_under_way_and_no_pieces_of_what_has_ended() -> None:
    writer = Writer()
    writer.write(TurnStarted(input="go"), delta("m1", "old"), done("m1"), ToolOutput(call_id="c1", chunk="under way"),
                 delta("m2", "under way"), Progress(stage="load", tier="fast", percent=1.0),
                 Progress(stage="load", tier="fast", percent=2.0))  # fmt: skip
    seen = await read_to_end(writer)
    assert [event.seq for event in seen] == [1, 3, 4, 5, 7]


async def test_who_comes_back_gets_exactly_what_was_missed() -> None:
    writer = Writer()
    writer.write(TurnStarted(input="go"), delta("m1", "seen"), delta("m1", "missed"), done("m1"))
    seen = await read_to_end(writer, 2, again=True)
    assert [event.seq for event in seen] == [3, 4]


async def test_a_progress_that_something_came_after_is_over() -> None:
    writer = Writer()
    writer.write(Progress(stage="load", tier="fast"), TurnEnded(reason="done"))
    assert [event.seq for event in await read_to_end(writer)] == [2]


async def test_a_slow_reader_misses_pieces_beyond_the_bound_and_nothing_that_is_recorded() -> None:
    writer = Writer(most_bytes=10_000)
    reading = writer.feed.read()
    writer.write(TurnStarted(input="go"))
    first = await anext(reading)
    for _ in range(1000):
        writer.write(delta("m1", "x" * 100))
    writer.write(done("m1"), ToolEnded(call_id="c", status="ok", content=""))
    writer.feed.close()
    rest = [event async for event in reading]
    assert first.seq == 1 and [event.seq for event in rest[-2:]] == [1002, 1003]
    assert 10 <= len(rest) <= 40
    assert [event.seq for event in rest] == sorted(event.seq for event in rest)


async def test_two_hundred_events_a_second_hold_no_other_reader_back() -> None:
    writer, quick = Writer(), list[int]()
    slow = writer.feed.read()

    async def read() -> None:
        async for event in writer.feed.read():
            quick.append(event.seq)

    reading = asyncio.create_task(read())
    writer.write(TurnStarted(input="go"))
    await anext(slow)
    for _ in range(2000):
        writer.write(delta("m1", "x"))
        await asyncio.sleep(0)
    assert len(quick) >= 2000, "the slow one has not read a line since"
    writer.feed.close()
    await reading
    assert (await anext(slow)).seq == 2


@given(events=st.lists(st.sampled_from("dDoOPe"), max_size=40), stops=st.lists(st.integers(0, 40), max_size=4))
def test_a_reader_that_stops_anywhere_and_comes_back_sees_each_event_once(events: list[str], stops: list[int]) -> None:
    """However often it leaves: what it saw, put together, is what was written."""
    made: dict[str, EventBase] = {
        "d": delta("m1", "x"), "D": delta("m2", "x"), "o": done("m1"), "O": ToolOutput(call_id="c", chunk="x"),
        "P": Progress(stage="queue", tier="fast"), "e": ToolEnded(call_id="c", status="ok", content=""),
    }  # fmt: skip

    async def run() -> None:
        writer, seen = Writer(), list[EventBase]()
        for at, kind in enumerate(events):
            writer.write(made[kind])
            if at in stops:
                after = seen[-1].seq if seen else 0
                async for event in writer.feed.read(after, again=True):
                    seen.append(event)
                    if event.seq == len(writer.all):
                        break
        seen += await read_to_end(writer, seen[-1].seq if seen else 0, again=True)
        assert seen == writer.all

    asyncio.run(run())
