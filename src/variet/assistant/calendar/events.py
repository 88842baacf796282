"""Pure: an event as Google's API gives it, as a person would read it.

https://developers.google.com/workspace/calendar/api/v3/reference/events
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from variet.assistant.calendar.models import Event, Guest
from variet.assistant.calendar.moments import Span, ahead, moment, span, told, zone_of
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.characters import seen
from variet.assistant.sanitize.flow import flowing

_MOST_TEXT = 2_000
_MOST_GUESTS = 30


def when_of(event: Mapping[str, Any], zone: str) -> Span:
    """In the zone of the calendar that shows it. Raises ToolProblem where its times cannot be read."""
    begin, end = event.get("start") or {}, event.get("end") or {}
    if begin.get("date"):
        last = date.fromisoformat(str(end.get("date") or begin["date"])) - timedelta(days=1)
        first = date.fromisoformat(str(begin["date"]))
        return span(first.isoformat(), max(first, last).isoformat(), zone)
    first_moment = moment(str(begin.get("dateTime", "")), str(begin.get("timeZone") or zone))
    last_moment = moment(str(end.get("dateTime", "")), str(end.get("timeZone") or zone))
    where = zone_of(zone)
    return Span(first_moment.astimezone(where), last_moment.astimezone(where), zone)


def shown(event: Mapping[str, Any], calendar: str, zone: str, now: datetime, *, whole: bool = False) -> Event:
    """`whole`: with its text and all its guests."""
    try:
        when = when_of(event, zone)
        words, begin, end = f"{told(when)}, {ahead(when, now)}", *_written(when)
    except (ToolProblem, ValueError):
        words, begin, end = "at a time that cannot be read", "", ""
    guests = [_guest(one) for one in event.get("attendees") or () if not one.get("resource")]
    mine = next((str(one.get("responseStatus", "")) for one in event.get("attendees") or () if one.get("self")), "")
    return Event(
        event=str(event.get("id", "")), calendar=calendar, title=_line(event.get("summary")) or "(no title)",
        when=words, begin=begin, end=end, zone=zone, place=_line(event.get("location")),
        text=_text(str(event.get("description") or "")) if whole else "",
        organizer=_line((event.get("organizer") or {}).get("email")),
        guests=guests if whole else guests[:_MOST_GUESTS], series=str(event.get("recurringEventId") or ""),
        repeats=[str(one) for one in event.get("recurrence") or ()], mine=mine,
        free=event.get("transparency") == "transparent", link=_line(event.get("hangoutLink")) if whole else "",
    )  # fmt: skip


def _written(when: Span) -> tuple[str, str]:
    if when.whole_days:
        return when.begin.date().isoformat(), (when.end - timedelta(days=1)).date().isoformat()
    return when.begin.isoformat(), when.end.isoformat()


def _guest(one: Mapping[str, Any]) -> Guest:
    return Guest(
        email=_line(one.get("email")), name=_line(one.get("displayName")), answer=str(one.get("responseStatus") or "")
    )


def _line(text: Any) -> str:
    return " ".join(seen(str(text or ""))[0].split())[:1_000]


def _text(written: str) -> str:
    """Descriptions may be HTML."""
    try:
        text = flowing(written)[0] if "<" in written else seen(written)[0]
    except RecursionError:
        return "(it cannot be cleaned)"
    return text.strip()[:_MOST_TEXT]
