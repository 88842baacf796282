"""What the broker does with calendars, once a person approved it: create, change, cancel.

A new event gets its id here, before it is made: after a crash, whether there is one of that id tells what happened.
A change says which state of the event it is meant for (its etag): what somebody changed meanwhile is not overwritten.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from email.headerregistry import Address
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from variet.assistant.broker.carriers import Carrier, Outcome, Prepared
from variet.assistant.calendar import events
from variet.assistant.calendar.client import Calendars, path_of
from variet.assistant.calendar.models import CalendarEntry, Changes, Details, Scope
from variet.assistant.calendar.moments import Span, ahead, repeated, span, told
from variet.assistant.google.api import GoogleApi
from variet.assistant.mail.writing import one_address
from variet.assistant.problems import ToolProblem
from variet.visible import one_line


class CreateAsked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=1_000)
    begin: str
    end: str
    guests: list[str] = Field(default_factory=list, max_length=50)
    details: Details = Details()


class ChangeAsked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event: str = Field(min_length=5, max_length=1_100, pattern=r"^[A-Za-z0-9_-]+$")
    calendar: str = Field("", max_length=300)
    scope: Scope = "this"
    changes: Changes


class CancelAsked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event: str = Field(min_length=5, max_length=1_100, pattern=r"^[A-Za-z0-9_-]+$")
    calendar: str = Field("", max_length=300)
    scope: Scope = "this"


def carriers(api: GoogleApi, calendars: Calendars) -> dict[str, Carrier]:
    """By tool. `calendars`: read with whatever may list them."""
    return {
        "calendar.create": Creating(api, calendars), "calendar.change": Changing(api, calendars),
        "calendar.cancel": Cancelling(api, calendars),
    }  # fmt: skip


class _Writing:
    def __init__(self, api: GoogleApi, calendars: Calendars) -> None:
        self._api = api
        self._calendars = calendars

    async def _entry(self, calendar: str) -> CalendarEntry:
        """Raises ToolProblem where nothing may be written there."""
        entry = await self._calendars.entry(calendar or "primary")
        if not entry.may_write:
            raise ToolProblem("denied", f"{entry.name} is a calendar that you may only read")
        return entry

    async def _conflicts(self, when: Span, but: str = "") -> list[str]:
        """Lines on what is there at that time."""
        around = await self._calendars.agenda(when.begin.isoformat(), when.end.isoformat(), "", "")
        return [
            f"at the same time: {one_line(one.title)}, {one.when}"
            for one in around.events if not (but and but in (one.event, one.series)) and not one.free
        ][:5]  # fmt: skip

    async def _held(self, entry: CalendarEntry, event: str, scope: Scope) -> dict[str, Any]:
        held = await self._api.get(path_of(entry.calendar, event))
        if scope == "all" and held.get("recurringEventId"):
            held = await self._api.get(path_of(entry.calendar, str(held["recurringEventId"])))
        if held.get("status") == "cancelled":
            raise ToolProblem("not_found", "this event was cancelled")
        return held


class Creating(_Writing):
    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(CreateAsked, asked)
        _single(title=wish.title, place=wish.details.place)
        entry = await self._entry(wish.details.calendar)
        zone = wish.details.zone or entry.zone
        when = span(wish.begin, wish.end, zone)
        guests = [one_address(one) for one in wish.guests]
        body = {
            # Base32hex, as Google wants an id: digits and a to v.
            "id": secrets.token_hex(16), "summary": wish.title, **_times(when),
            **({"location": wish.details.place} if wish.details.place else {}),
            **({"description": wish.details.text} if wish.details.text else {}),
            **({"attendees": [_guest(one) for one in guests]} if guests else {}),
            **({"recurrence": wish.details.repeats} if wish.details.repeats else {}),
            **({"transparency": "transparent"} if wish.details.free else {}),
            **_reminders(wish.details.reminders_minutes),
        }  # fmt: skip
        lines = [f"title: {wish.title}", f"when: {told(when)}, {ahead(when, self._calendars.now())}"]
        if wish.details.repeats:
            times = await asyncio.to_thread(repeated, wish.details.repeats, when)
            lines += [f"repeats: {rule}" for rule in wish.details.repeats]
            lines += ["first times:", *(f"  {told(one)}" for one in times)]
        lines += [f"calendar: {entry.name}", *_lines("place", wish.details.place)]
        lines += [f"guest, who is told by mail: {one}" for one in guests]
        if wish.details.reminders_minutes is not None:
            lines.append(_reminded(wish.details.reminders_minutes))
        lines += await self._conflicts(when)
        lines += ["", wish.details.text] if wish.details.text else []
        if guests:  # the last screen says it, too, however long the text is
            lines += ["", f"told by mail are all of these, {len(guests)}: {', '.join(one.addr_spec for one in guests)}"]
        payload = {"calendar": entry.calendar, "body": body}
        people = tuple(one.addr_spec for one in guests)
        invites = f", and invite {', '.join(people)}" if people else ""
        return Prepared(
            _canonical(payload), f"Create an event: {wish.title}, {told(when)}{invites}", "\n".join(lines), people,
            entry.calendar,
        )  # fmt: skip

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        told_payload = json.loads(payload)
        body = told_payload["body"]
        path = path_of(told_payload["calendar"])
        made = await self._api.write("POST", path, body, sendUpdates="all" if body.get("attendees") else "none")
        return f"created, as event {made.get('id', body['id'])}"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        told_payload = json.loads(payload)
        event = told_payload["body"]["id"]
        try:
            await self._api.get(path_of(told_payload["calendar"], event))
        except ToolProblem as problem:
            if problem.code != "not_found":
                raise
            return Outcome("failed", "it was not created")
        return Outcome("done", f"created, as event {event}")


class Changing(_Writing):
    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(ChangeAsked, asked)
        _single(title=wish.changes.title, place=wish.changes.place)
        entry = await self._entry(wish.calendar)
        held = await self._held(entry, wish.event, wish.scope)
        body, lines, when = self._patch(held, wish.changes, entry)
        if not body:
            raise ToolProblem("bad_request", "nothing would change")
        title = one_line(str(held.get("summary") or "(no title)"))  # a stranger may have written it
        before = events.when_of(held, entry.zone)
        head = [f"event: {title}", f"now: {told(before)}, {ahead(before, self._calendars.now())}"]
        if held.get("recurrence"):
            head.append("this is a whole series: every time of it changes")
        people = _told_of(body, wish.changes, held)
        head += [f"who is told by mail: {one}" for one in people]
        if when is not None:
            lines += await self._conflicts(when, but=str(held["id"]))
        payload = {
            "calendar": entry.calendar, "event": held["id"], "etag": held.get("etag", ""), "body": body,
            "tell": "all" if people else "none",
        }  # fmt: skip
        return Prepared(
            _canonical(payload), f"Change an event: {title}", "\n".join([*head, *lines]), tuple(people), entry.calendar,
            held.get("etag"),
        )  # fmt: skip

    def _patch(self, held: dict[str, Any], wish: Changes, entry: CalendarEntry
    ) -> tuple[dict[str, Any], list[str], Span | None]:  # fmt: skip
        body: dict[str, Any] = {}
        lines: list[str] = []
        when: Span | None = None
        for name, key, value in (("title", "summary", wish.title), ("place", "location", wish.place),
                                 ("text", "description", wish.text)):  # fmt: skip
            if value is not None and value != held.get(key, ""):
                body[key] = value
                lines.append(f"{name}, from now on: {value}")
        if wish.begin is not None or wish.end is not None or wish.zone is not None:
            if wish.begin is None or wish.end is None:
                raise ToolProblem("bad_request", "say both when it begins and when it ends")
            zone = wish.zone or str((held.get("start") or {}).get("timeZone") or entry.zone)
            when = span(wish.begin, wish.end, zone)
            body |= _times(when)
            lines.append(f"when, from now on: {told(when)}, {ahead(when, self._calendars.now())}")
        if wish.add_guests or wish.remove_guests:
            there = [dict(one) for one in held.get("attendees") or ()]
            out = {one.casefold() for one in wish.remove_guests}
            known = {str(one.get("email", "")).casefold() for one in there}
            if missing := out - known:
                raise ToolProblem("not_found", f"{', '.join(sorted(missing))} is no guest of it")
            added = [one_address(one).addr_spec for one in wish.add_guests]
            body["attendees"] = [one for one in there if str(one.get("email", "")).casefold() not in out]
            body["attendees"] += [{"email": one} for one in added if one.casefold() not in known]
            lines += [f"guest, from now on: {one}" for one in added] + [
                f"no guest any more: {one}" for one in sorted(out)
            ]
        if wish.reminders_minutes is not None:
            body |= _reminders(wish.reminders_minutes)
            lines.append(_reminded(wish.reminders_minutes))
        if wish.answer is not None:
            there = [dict(one) for one in body.get("attendees", held.get("attendees")) or ()]
            mine = next((one for one in there if one.get("self") or one.get("email") == entry.calendar), None)
            if mine is None:
                raise ToolProblem("bad_request", "nobody invited you to it, so there is nothing to answer")
            if mine.get("responseStatus") != wish.answer:
                mine["responseStatus"] = wish.answer
                body["attendees"] = there
                lines.append(f"your answer, from now on: {wish.answer}")
        return body, lines, when

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        change = json.loads(payload)
        path = path_of(change["calendar"], change["event"])
        headers = {"if-match": change["etag"]} if change["etag"] else {}
        await self._api.write("PATCH", path, change["body"], headers=headers, sendUpdates=change["tell"])
        return "changed"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        change = json.loads(payload)
        held = await self._api.get(path_of(change["calendar"], change["event"]))
        if held.get("etag") == change["etag"]:
            return Outcome("failed", "it was not changed")
        same = all(_covers(held.get(key), value) for key, value in change["body"].items())
        if same:
            return Outcome("done", "changed")
        return Outcome("unknown", "the event was changed, but not as it was asked for here; look at it")


class Cancelling(_Writing):
    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(CancelAsked, asked)
        entry = await self._entry(wish.calendar)
        held = await self._held(entry, wish.event, wish.scope)
        title = one_line(str(held.get("summary") or "(no title)"))  # a stranger may have written it
        when = events.when_of(held, entry.zone)
        people = tuple(one_line(str(one.get("email", ""))) for one in held.get("attendees") or ())
        lines = [
            f"event: {title}",
            f"when: {told(when)}, {ahead(when, self._calendars.now())}",
            f"calendar: {entry.name}",
        ]
        if held.get("recurrence"):
            lines.append("this is a whole series: every time of it is cancelled")
        lines += [f"guest, who is told by mail: {one}" for one in people]
        payload = {"calendar": entry.calendar, "event": held["id"], "etag": held.get("etag", "")}
        return Prepared(
            _canonical(payload), f"Cancel an event: {title}, {told(when)}", "\n".join(lines), people, entry.calendar,
            held.get("etag"),
        )  # fmt: skip

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        change = json.loads(payload)
        path = path_of(change["calendar"], change["event"])
        headers = {"if-match": change["etag"]} if change["etag"] else {}
        await self._api.write("DELETE", path, headers=headers, sendUpdates="all")
        return "cancelled"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        change = json.loads(payload)
        try:
            held = await self._api.get(path_of(change["calendar"], change["event"]))
        except ToolProblem as problem:
            if problem.code != "not_found":
                raise
            return Outcome("done", "cancelled")
        gone = held.get("status") == "cancelled"
        return Outcome("done", "cancelled") if gone else Outcome("failed", "it was not cancelled")


def _guest(who: Address) -> dict[str, str]:
    name = {"displayName": who.display_name} if who.display_name else {}
    return {"email": who.addr_spec, **name}


def _times(when: Span) -> dict[str, Any]:
    if when.whole_days:
        return {"start": {"date": when.begin.date().isoformat()}, "end": {"date": when.end.date().isoformat()}}
    return {
        "start": {"dateTime": when.begin.isoformat(), "timeZone": when.zone},
        "end": {"dateTime": when.end.isoformat(), "timeZone": when.zone},
    }


def _told_of(body: dict[str, Any], wish: Changes, held: dict[str, Any]) -> list[str]:
    """To whom Google writes of a change: of one's own reminders to nobody, of one's answer to who invited."""
    others = {key for key in body if key != "reminders"}
    if not others:
        return []
    if others == {"attendees"} and wish.answer and not (wish.add_guests or wish.remove_guests):
        return [one_line(str((held.get("organizer") or {}).get("email", "the organizer")))]
    invited = [*(body.get("attendees", held.get("attendees")) or ()), *(held.get("attendees") or ())]
    # Google mails removed guests, too: the preview names them.
    return list(dict.fromkeys(one_line(str(one.get("email", ""))) for one in invited))


def _reminded(minutes: list[int]) -> str:
    return f"reminders: {', '.join(f'{one} min' for one in minutes) or 'none'}"


def _reminders(minutes: list[int] | None) -> dict[str, Any]:
    if minutes is None:
        return {}
    return {"reminders": {"useDefault": False, "overrides": [{"method": "popup", "minutes": one} for one in minutes]}}


def _covers(held: Any, wanted: Any) -> bool:
    """Whether what is held has all that was wanted; Google adds fields of its own."""
    if isinstance(wanted, dict):
        return isinstance(held, dict) and all(_covers(held.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(held, list) and len(held) == len(wanted) and all(map(_covers, held, wanted))
    return bool(held == wanted)


def _single(**fields: str | None) -> None:
    """Raises ToolProblem for a field with line breaks: in a preview it could write lines of its own."""
    for name, value in fields.items():
        if (value is not None and len(value.splitlines()) > 1) or (value or "") != (value or "").strip("\r\n"):
            raise ToolProblem("bad_request", f"{name} is one line", "Put what needs more into the text")


def _lines(name: str, value: str) -> list[str]:
    return [f"{name}: {value}"] if value else []


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


def _parsed(kind: type[Any], asked: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolProblem("bad_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
