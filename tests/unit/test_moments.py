"""Times of events: always with their zone, refused where they do not exist, told in words."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.assistant.calendar.moments import ahead, gaps, moment, repeated, span, told
from variet.assistant.problems import ToolProblem

VIENNA = "Europe/Vienna"
ZONES = st.sampled_from([VIENNA, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "Pacific/Apia"])


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        ("2026-12-01T15:00", "2026-12-01T16:00", "Tuesday 1 December 2026, 15:00 to 16:00 (Europe/Vienna, UTC+01:00)"),
        ("2026-07-01T15:00", "2026-07-01T16:00", "Wednesday 1 July 2026, 15:00 to 16:00 (Europe/Vienna, UTC+02:00)"),
        ("2026-12-01T14:00Z", "2026-12-01T15:00Z",
         "Tuesday 1 December 2026, 15:00 to 16:00 (Europe/Vienna, UTC+01:00)"),
        ("2026-12-01T23:00", "2026-12-02T01:00",
         "Tuesday 1 December 2026, 23:00 to Wednesday 2 December 2026, 01:00 (Europe/Vienna, UTC+01:00)"),
        ("2026-12-01", "2026-12-01", "Tuesday 1 December 2026, all day"),
        ("2026-12-01", "2026-12-03", "Tuesday 1 December 2026 to Thursday 3 December 2026, all day"),
        ("2026-10-25T02:30+01:00", "2026-10-25T03:30",
         "Sunday 25 October 2026, 02:30 to 03:30 (Europe/Vienna, UTC+01:00)"),
    ],
)  # fmt: skip
def test_times_are_told_in_words(begin: str, end: str, words: str) -> None:
    assert told(span(begin, end, VIENNA)) == words


@pytest.mark.parametrize(
    ("begin", "end", "zone", "words"),
    [
        ("2026-03-29T02:30", "2026-03-29T03:30", VIENNA, "does not exist in Europe/Vienna"),
        ("2026-10-25T02:30", "2026-10-25T03:30", VIENNA, "is twice.*02:00 or .01:00"),
        ("2026-12-01T16:00", "2026-12-01T15:00", VIENNA, "before it begins"),
        ("2026-12-01T15:00", "2026-12-01T15:00", VIENNA, "before it begins"),
        ("2026-12-02", "2026-12-01", VIENNA, "before it begins"),
        ("2026-12-01", "2026-12-01T15:00", VIENNA, "with dates, or with times"),
        ("tomorrow", "2026-12-01T15:00", VIENNA, "is no time"),
        ("2026-13-01", "2026-13-02", VIENNA, "is no date"),
        ("2026-12-01T15:00", "2026-12-01T16:00", "Vienna", "no time zone"),
        ("2026-12-01T15:00", "2026-12-01T16:00", "../../etc/passwd", "no time zone"),
        ("2026-10-25T01:30Z", "2026-10-25T00:30Z", VIENNA, "before it begins"),
    ],
)
def test_what_is_no_time_is_told(begin: str, end: str, zone: str, words: str) -> None:
    with pytest.raises(ToolProblem, match=words):
        span(begin, end, zone)


def test_a_series_keeps_to_the_clocks_of_its_zone() -> None:
    weekly = repeated(["RRULE:FREQ=WEEKLY;COUNT=3"], span("2026-10-20T09:00", "2026-10-20T10:00", VIENNA))
    assert [told(one)[:-1].split("UTC")[1] for one in weekly] == ["+02:00", "+01:00", "+01:00"]
    assert [one.begin.hour for one in weekly] == [9, 9, 9]
    until = repeated(["RRULE:FREQ=DAILY;UNTIL=20261021T070000Z"], span("2026-10-20T09:00", "2026-10-20T10:00", VIENNA))
    assert len(until) == 2
    left = repeated(["RRULE:FREQ=DAILY;COUNT=3", "EXDATE:20261021T090000"],
                    span("2026-10-20T09:00", "2026-10-20T10:00", VIENNA))  # fmt: skip
    assert [one.begin.day for one in left] == [20, 22]
    days = repeated(["RRULE:FREQ=YEARLY;COUNT=2"], span("2024-02-29", "2024-02-29", VIENNA))
    assert [told(one) for one in days][1] == "Tuesday 29 February 2028, all day"


@pytest.mark.parametrize(
    "rules",
    [
        [], ["EXDATE:20261021T090000"], ["RRULE:FREQ=NEVER"], ["RRULE:"], ["FREQ=DAILY"], ["RRULE:FREQ=DAILY;COUNT=x"],
        ["DTSTART:20200101T000000", "RRULE:FREQ=DAILY"], ["RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=1"],
        ["RRULE:FREQ=DAILY;UNTIL=20200101T000000Z"], ["RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY"],
        ["RRULE:FREQ=SECONDLY;COUNT=2"],
        ["RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"], ["RRULE:FREQ=DAILY", "RRULE:FREQ=WEEKLY"],
    ],
)  # fmt: skip
def test_what_is_no_series_is_told(rules: list[str]) -> None:
    with pytest.raises(ToolProblem):
        repeated(rules, span("2026-10-20T09:00", "2026-10-20T10:00", VIENNA))


def test_a_wrong_week_is_seen_by_its_distance() -> None:
    now = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)  # in Vienna it is the 29th
    for begin, words in (("2026-11-29", "today"), ("2026-11-30", "tomorrow"), ("2026-12-09", "in 10 days"),
                         ("2026-11-28", "yesterday"), ("2026-11-20", "9 days ago")):  # fmt: skip
        assert ahead(span(begin, begin, VIENNA), now) == words


@given(st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)), ZONES)
def test_any_time_that_is_taken_is_the_one_that_was_written(at: datetime, zone: str) -> None:
    at = at.replace(microsecond=0, second=0)
    try:
        taken = moment(at.isoformat(), zone)
    except ToolProblem as problem:
        assert "clocks are put" in str(problem)
        return
    assert taken.replace(tzinfo=None) == at
    assert moment(taken.isoformat(), zone) == taken
    assert moment(taken.astimezone(UTC).isoformat(), zone).astimezone(UTC) == taken.astimezone(UTC)


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 300)), max_size=12), st.integers(5, 240), ZONES,
)  # fmt: skip
def test_free_times_are_free_long_enough_and_within_the_hours(
    taken: list[tuple[int, int]], minutes: int, zone: str
) -> None:
    within = span("2026-10-24", "2026-10-26", zone)
    busy = [
        (within.begin + timedelta(minutes=begin), within.begin + timedelta(minutes=begin + lasts))
        for begin, lasts in taken
    ]
    found = gaps(busy, within, (time(9), time(18)), minutes)
    for one in found:
        assert one.end.astimezone(UTC) - one.begin.astimezone(UTC) >= timedelta(minutes=minutes)
        assert time(9) <= one.begin.time() and one.end.time() <= time(18) and one.begin.date() == one.end.date()
        assert not any(begin < one.end and one.begin < end for begin, end in busy)
    if not taken:
        assert len(found) == 3
