"""progress.py: whoever waits is told the stage it is in, how far that is, and why it waits."""

from __future__ import annotations

from variet.engine.events import Arrived, ModelTerms, Ready, Terms
from variet.engine.progress import Progress, progress_of
from variet.engine.record import Record
from variet.engine.scheduler import Scheduler

TERMS = Terms(
    models={name: ModelTerms(slots=1, demand={"host": 10}) for name in ("small", "large")}, capacity={"host": 10}
)


def scene(pulling: tuple[str, ...] = ()) -> Scheduler:
    return Scheduler(TERMS, pulling)


def look(
    scheduler: Scheduler, number: int, shares: dict[str, float] | None = None, record: Record | None = None
) -> Progress:
    record = record or Record(number, "/v1/chat/completions", "fast", "small")
    return progress_of(record, scheduler, shares or {}, scheduler.places(), now_s=100.0, read_ms_per_token=10.0)


def test_a_load_is_told_with_its_share_and_what_is_left() -> None:
    scheduler = scene()
    scheduler.load_ms["small"] = 4000.0
    scheduler.handle(Arrived(1, "small"), 0.0)
    assert look(scheduler, 1, {"small": 0.25}) == Progress("load", percent=25.0, position=1, left_ms=3000)


def test_a_pull_is_told() -> None:
    scheduler = scene(("small",))
    scheduler.handle(Arrived(1, "small"), 0.0)
    told = look(scheduler, 1, {"small": 0.5})
    assert (told.stage, told.percent) == ("pull", 50.0)


def test_places_in_the_queue_follow_the_order_in_which_they_are_served() -> None:
    scheduler = scene()
    scheduler.handle(Arrived(1, "small"), 0.0)
    scheduler.handle(Ready(1, 10.0), 10.0)
    for number in (2, 3):
        scheduler.handle(Arrived(number, "small"), 10.0 + number)
    second, third = look(scheduler, 2), look(scheduler, 3)
    assert (second.stage, second.position, third.position) == ("queue", 1, 2)
    assert second.reason == "every slot of small is taken"


def test_who_waits_for_another_model_hears_what_is_in_the_way() -> None:
    scheduler = scene()
    scheduler.handle(Arrived(1, "small"), 0.0)
    scheduler.handle(Ready(1, 10.0), 10.0)
    scheduler.handle(Arrived(2, "large"), 20.0)
    assert look(scheduler, 2).reason == "small answers 1"


def test_reading_counts_what_was_not_cached_and_what_is_left_of_it() -> None:
    record = Record(1, "/", "fast", "small", stage="prefill")
    assert look(scene(), 1, record=record) == Progress("prefill")
    record.reading(prompt=1000, cached=600, read=700)
    record.told_at = 99.0  # a second ago, at 10 ms a token
    assert look(scene(), 1, record=record) == Progress("prefill", percent=25.0, left_ms=2000)
    record.reading(prompt=600, cached=600, read=600)
    assert look(scene(), 1, record=record).percent == 100.0
    record.stage = "answer"
    assert look(scene(), 1, record=record).facts() == {"stage": "answer"}
