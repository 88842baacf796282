"""Pure: times of events, always with their zone, checked and told in words.

What "tomorrow at three" means is the model's to say; that it exists, which one of two it is and which day of the week
that is, is said here, so that a person sees what was understood.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from variet.assistant.problems import ToolProblem

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_SHOWN_TIMES = 3
_FARTHEST = timedelta(days=8 * 366)  # until which a series is looked for
_RULE = re.compile(r"[A-Z0-9=;,+:-]{1,300}", re.IGNORECASE)
_FREQUENCY = re.compile(r"(?:^|;)FREQ=(?:DAILY|WEEKLY|MONTHLY|YEARLY)(?:;|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin` to `end`, of one zone. `whole_days`: its times are midnights, and `end` is the first day after."""

    begin: datetime
    end: datetime
    zone: str
    whole_days: bool = False

    def meets(self, other: Span) -> bool:
        return self.begin < other.end and other.begin < self.end


def zone_of(name: str) -> ZoneInfo:
    """Raises ToolProblem."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolProblem("bad_request", f"there is no time zone {name!r}", "Name one as Europe/Vienna") from None


def span(begin: str, end: str, zone: str) -> Span:
    """Of two dates (whole days, `end` the last of them) or two times. Raises ToolProblem."""
    if _is_date(begin) != _is_date(end):
        raise ToolProblem("bad_request", "an event begins and ends with dates, or with times")
    if _is_date(begin):
        first, last = _date(begin), _date(end)
        if last < first:
            raise ToolProblem("bad_request", f"it would end on {end}, before it begins")
        midnight = time(tzinfo=zone_of(zone))
        after = datetime.combine(last + timedelta(days=1), midnight)
        return Span(datetime.combine(first, midnight), after, zone, whole_days=True)
    made = Span(moment(begin, zone), moment(end, zone), zone)
    if made.end.astimezone(UTC) <= made.begin.astimezone(UTC):
        raise ToolProblem("bad_request", f"it would end at {end}, before it begins")
    return made


def moment(text: str, zone: str) -> datetime:
    """ISO 8601: on the zone's clocks, or with an offset that these have then. Raises ToolProblem."""
    where = zone_of(zone)
    try:
        given = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise ToolProblem("bad_request", f"{text!r} is no time", "Give it as 2026-12-01T15:00") from None
    if given.tzinfo is not None:
        return given.astimezone(where)
    first, second = (given.replace(tzinfo=where, fold=fold) for fold in (0, 1))
    if first.astimezone(UTC).astimezone(where).replace(tzinfo=None) != given:
        raise ToolProblem("bad_request", f"{text} does not exist in {zone}: clocks are put forward then")
    if first.utcoffset() != second.utcoffset():
        raise ToolProblem(
            "bad_request", f"{text} is twice in {zone}: clocks are put back then",
            f"Say which, with {_offset(first)} or {_offset(second)} behind it",
        )  # fmt: skip
    return first


def told(when: Span) -> str:
    """`Tuesday 1 December 2026, 15:00 to 16:00 (Europe/Vienna, UTC+01:00)`."""
    if when.whole_days:
        last = (when.end - timedelta(days=1)).date()
        one = when.begin.date() == last
        days = _day(when.begin) if one else f"{_day(when.begin)} to {_day(datetime.combine(last, time()))}"
        return f"{days}, all day"
    begin, end = when.begin, when.end
    there = f"{when.zone}, UTC{_offset(begin)}"
    if begin.date() == end.date():
        return f"{_day(begin)}, {begin:%H:%M} to {end:%H:%M} ({there})"
    return f"{_day(begin)}, {begin:%H:%M} to {_day(end)}, {end:%H:%M} ({there})"


def ahead(when: Span, now: datetime) -> str:
    """`today`, `in 3 days`, `2 days ago`: what a wrong week is seen by."""
    days = (when.begin.date() - now.astimezone(when.begin.tzinfo).date()).days
    if days == 0:
        return "today"
    if days == 1:
        return "tomorrow"
    if days == -1:
        return "yesterday"
    return f"in {days} days" if days > 0 else f"{-days} days ago"


def repeated(rules: Sequence[str], when: Span) -> list[Span]:
    """The first times of a series, RFC 5545's RRULE, EXDATE and RDATE lines, on the clocks of its zone. A rule that
    never comes true takes seconds. Raises ToolProblem."""
    return list(islice(_times(rules, when), _SHOWN_TIMES))


def _times(rules: Sequence[str], when: Span) -> Iterator[Span]:
    from dateutil.rrule import rruleset, rrulestr

    wall = when.begin.replace(tzinfo=None)
    bound = wall + _FARTHEST
    series = rruleset()
    counted = 0
    for line in (one.strip() for one in rules):
        name, _, value = line.partition(":")
        try:
            if name.upper() == "RRULE" and _RULE.fullmatch(value) and _FREQUENCY.search(value):
                rule: Any = rrulestr(_floating(line, when.begin), dtstart=wall)
                ends = min(bound, getattr(rule, "_until", None) or bound)  # a rule that never comes true ends, too
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # of a count beside an end
                    series.rrule(rule.replace(until=ends))
                counted += 1
            elif name.split(";")[0].upper() in ("EXDATE", "RDATE"):
                add = series.exdate if name.upper().startswith("EX") else series.rdate
                for one in value.split(","):
                    add(_stamped(one.strip(), when))
            else:
                raise ToolProblem("bad_request", f"{line!r} is no line of a series",
                                  "Lines as RRULE:FREQ=WEEKLY;COUNT=10 and EXDATE:20261201T150000 are")  # fmt: skip
        except (ValueError, TypeError, AttributeError, OverflowError, ZeroDivisionError) as error:
            raise ToolProblem("bad_request", f"{line!r} cannot be understood: {error}") from None
    if counted != 1:
        raise ToolProblem("bad_request", "a series needs one line as RRULE:FREQ=WEEKLY;COUNT=10")
    found = list(islice(series, _SHOWN_TIMES))
    if not found:
        raise ToolProblem("bad_request", "this series has no time at all in the next years")
    lasts = when.end.replace(tzinfo=None) - wall
    for wall in found:
        begin, end = (at.replace(tzinfo=when.begin.tzinfo) for at in (wall, wall + lasts))
        yield Span(begin, end, when.zone, when.whole_days)


def _stamped(text: str, when: Span) -> datetime:
    """A time of RFC 5545, on the clocks of the series."""
    if len(text) == 8:
        return datetime.combine(datetime.strptime(text, "%Y%m%d").date(), when.begin.time())
    if text.endswith("Z"):
        at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return at.astimezone(when.begin.tzinfo).replace(tzinfo=None)
    return datetime.strptime(text, "%Y%m%dT%H%M%S")


def _floating(line: str, begin: datetime) -> str:
    """UNTIL in UTC, as RFC 5545 wants it, on the clocks of the zone, as dateutil wants it."""
    head, sign, rest = line.partition("UNTIL=")
    if not sign:
        return line
    until, semicolon, more = rest.partition(";")
    if until.endswith("Z"):
        at = datetime.strptime(until, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).astimezone(begin.tzinfo)
        until = f"{at:%Y%m%dT%H%M%S}"
    return f"{head}{sign}{until}{semicolon}{more}"


def gaps(busy: Sequence[tuple[datetime, datetime]], within: Span, hours: tuple[time, time], minutes: int) -> list[Span]:
    """Where nothing is: of at least so many minutes, between these hours of each day."""
    zone = within.begin.tzinfo
    taken = sorted((begin.astimezone(zone), end.astimezone(zone)) for begin, end in busy)
    found = []
    day = within.begin.date()
    while day <= within.end.date():
        at = max(datetime.combine(day, hours[0], zone), within.begin)
        closes = min(datetime.combine(day, hours[1], zone), within.end)
        for begin, end in (*taken, (closes, closes)):
            begin = min(begin, closes)
            if (begin.astimezone(UTC) - at.astimezone(UTC)) >= timedelta(minutes=minutes):
                found.append(Span(at, begin, within.zone))
            at = max(at, end)
        day += timedelta(days=1)
    return found


def _is_date(text: str) -> bool:
    return len(text.strip()) == 10 and text.strip().count("-") == 2


def day_of(text: str) -> date:
    """The date that a date or a time begins with. Raises ToolProblem."""
    return _date(text.strip()[:10])


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ToolProblem("bad_request", f"{text!r} is no date", "Give it as 2026-12-01") from None


def _day(at: datetime) -> str:
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]} {at.year}"


def _offset(at: datetime) -> str:
    """`+01:00`."""
    minutes = int((at.utcoffset() or timedelta()).total_seconds() // 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
