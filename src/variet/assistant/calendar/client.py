"""The calendars, read. https://developers.google.com/workspace/calendar/api/v3/reference"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import quote

from variet.assistant.calendar import events
from variet.assistant.calendar.models import Agenda, CalendarEntry, CalendarList, Event, Free, Slot
from variet.assistant.calendar.moments import Span, day_of, gaps, moment, span, told, zone_of
from variet.assistant.google.api import GoogleApi
from variet.assistant.problems import ToolProblem

_BASE = "/calendar/v3"
_MOST_EVENTS = 50
_MOST_DAYS = 366
_BUSY_SPAN = timedelta(days=60)  # of one question: beyond 90 days Google answers "The requested time range is too long"
_MOST_SLOTS = 12

Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def path_of(calendar: str, event: str = "") -> str:
    """Of a calendar's events, or one of them. Ids are Google's: nothing of them makes another path."""
    return f"{_BASE}/calendars/{quote(calendar, safe='@')}/events" + (f"/{quote(event, safe='')}" if event else "")


class Calendars:
    """Every method raises ToolProblem."""

    def __init__(self, api: GoogleApi, now: Now = utc_now) -> None:
        self._api = api
        self.now = now

    async def listed(self) -> CalendarList:
        told = await self._api.get(f"{_BASE}/users/me/calendarList", maxResults=250)
        return CalendarList(
            calendars=[
                CalendarEntry(
                    calendar=str(one["id"]), name=str(one.get("summaryOverride") or one.get("summary") or one["id"]),
                    zone=str(one.get("timeZone") or "UTC"), primary=bool(one.get("primary")),
                    may_write=one.get("accessRole") in ("owner", "writer"),
                )
                for one in told.get("items") or () if one.get("selected", True) or one.get("primary")
            ]
        )  # fmt: skip

    async def agenda(self, begin: str, end: str, query: str, calendar: str) -> Agenda:
        """Of all calendars that the person looks at, or of one. `begin` and `end`: dates or times; today and a week."""
        known = await self._chosen(calendar)
        zone = known[0].zone
        within = self._within(begin, end, zone)
        got = await asyncio.gather(*(self._events(one, within, query) for one in known), return_exceptions=True)
        found: list[tuple[datetime, Event]] = []
        notes = []
        for entry, one in zip(known, got, strict=True):
            if isinstance(one, ToolProblem) and len(known) > 1:
                notes.append(f"{entry.name} could not be read ({one.code})")
            elif isinstance(one, BaseException):
                raise one
            else:
                found += one
        found.sort(key=lambda pair: pair[0])
        if len(found) > _MOST_EVENTS:
            notes.append(f"{len(found) - _MOST_EVENTS} more were left out: ask for a shorter time")
        kept = [event for _, event in found[:_MOST_EVENTS]]
        return Agenda(
            begin=within.begin.isoformat(), end=within.end.isoformat(), zone=zone, events=kept, note="; ".join(notes)
        )  # fmt: skip

    async def event(self, event: str, calendar: str) -> Event:
        """One, with its text."""
        [entry] = await self._chosen(calendar or "primary")
        held = await self._api.get(path_of(entry.calendar, event))
        if held.get("status") == "cancelled":
            raise ToolProblem("not_found", "this event was cancelled")
        return events.shown(held, entry.calendar, entry.zone, self.now(), whole=True)

    async def entry(self, calendar: str) -> CalendarEntry:
        return (await self._chosen(calendar))[0]

    async def free(self, begin: str, end: str, minutes: int, hours: str, calendars: list[str]) -> Free:
        """`calendars`: of other people, by address, where they let theirs be seen; the person's own count always."""
        known = await self._chosen("")
        zone = known[0].zone
        within = self._within(begin, end, zone)
        asked = [*(one.calendar for one in known if one.primary or one.may_write), *calendars]
        items = [{"id": one} for one in dict.fromkeys(asked)]
        spans: list[tuple[datetime, datetime]] = []
        unseen: dict[str, None] = {}
        begins = within.begin
        while begins < within.end:
            ends = min(begins + _BUSY_SPAN, within.end)
            body = {"timeMin": _instant(begins), "timeMax": _instant(ends), "items": items}
            told = (await self._api.post_to_read(f"{_BASE}/freeBusy", body)).get("calendars") or {}
            spans += (
                (moment(str(one["start"]), zone), moment(str(one["end"]), zone))
                for calendar in told.values() for one in calendar.get("busy") or ()
            )  # fmt: skip
            unseen |= dict.fromkeys(name for name, calendar in told.items() if calendar.get("errors"))
            begins = ends
        found = gaps(spans, within, _hours(hours), minutes)
        note = f"not to be seen: {', '.join(unseen)}" if unseen else ""
        busy = sorted(spans)[:_MOST_SLOTS]
        return Free(
            zone=zone, free=[_slot(one) for one in found[:_MOST_SLOTS]],
            busy=[_slot(Span(one, other, zone)) for one, other in busy], note=note,
        )  # fmt: skip

    def _within(self, begin: str, end: str, zone: str) -> Span:
        today = self.now().astimezone(zone_of(zone)).date()
        begin = begin or today.isoformat()
        end = end or (day_of(begin) + timedelta(days=6)).isoformat()
        first = span(begin, begin, zone).begin if len(begin) == 10 else moment(begin, zone)
        last = span(end, end, zone).end if len(end) == 10 else moment(end, zone)
        if last <= first or last - first > timedelta(days=_MOST_DAYS):
            raise ToolProblem("bad_request", f"{begin} to {end} is no span of at most {_MOST_DAYS} days")
        return Span(first, last, zone)

    async def _chosen(self, calendar: str) -> list[CalendarEntry]:
        """The person's own first. `calendar`: one of them, by id or name; `primary`: their own."""
        known = sorted((await self.listed()).calendars, key=lambda one: not one.primary)
        if not known:
            raise ToolProblem("not_found", "there is no calendar")
        if not calendar:
            return known
        for one in known:
            if calendar in (one.calendar, one.name) or (calendar == "primary" and one.primary):
                return [one]
        raise ToolProblem("not_found", f"there is no calendar {calendar!r}", "`calendars` lists them")

    async def _events(self, entry: CalendarEntry, within: Span, query: str) -> list[tuple[datetime, Event]]:
        told = await self._api.get(
            path_of(entry.calendar), timeMin=_instant(within.begin), timeMax=_instant(within.end), singleEvents="true",
            orderBy="startTime", maxResults=_MOST_EVENTS + 1, q=query or None,
        )  # fmt: skip
        return list(self._shown(told.get("items") or (), entry, within.zone))

    def _shown(self, items: Iterable[dict[str, Any]], entry: CalendarEntry, zone: str
    ) -> Iterable[tuple[datetime, Event]]:  # fmt: skip
        for one in items:
            if one.get("status") == "cancelled":
                continue
            try:
                at = events.when_of(one, zone).begin
            except (ToolProblem, ValueError):
                at = datetime.max.replace(tzinfo=UTC)
            yield at, events.shown(one, entry.calendar, zone, self.now())


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hours(text: str) -> tuple[time, time]:
    try:
        begin, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        raise ToolProblem("bad_request", f"{text!r} are no hours", "Give them as 09:00-18:00") from None
    if end <= begin:
        raise ToolProblem("bad_request", "hours begin before they end")
    return begin, end


def _slot(when: Span) -> Slot:
    return Slot(begin=when.begin.isoformat(), end=when.end.isoformat(), when=told(when))
