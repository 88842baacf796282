"""The calendar tools over MCP. What reads is done here, with a token that can do no more; the broker writes."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field

from variet.assistant.answers import Done, problems_told
from variet.assistant.calendar.client import Calendars
from variet.assistant.calendar.models import Agenda, CalendarList, Changes, Details, Event, Free, Scope, Slot
from variet.assistant.gate import Caller
from variet.assistant.google.places import places
from variet.assistant.google.reader import reader

_LOOKS = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=True)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)

Answer = Annotated[CallToolResult, Done] | InputRequiredResult
Begin = Annotated[str, Field(description="2026-12-01T15:00, or 2026-12-01 for whole days")]
End = Annotated[str, Field(description="as begin; of whole days the last one")]
From = Annotated[str, Field(description="a date or time; by default today")]
To = Annotated[str, Field(description="a date or time; by default six days later")]
Which = Annotated[str, Field(description="a calendar's id or name; by default the person's own")]
EventId = Annotated[str, Field(description="its id, as agenda gives it")]
Of = Annotated[Scope, Field(description="this time of a series, or all of it")]


def server() -> MCPServer[Any]:
    """One that can be run over any of MCP's transports."""
    api, gate, life = reader("calendar", places().calendar)
    held = Calendars(api)
    made: MCPServer[Any] = MCPServer("variet-calendar", title="Calendar", lifespan=life, log_level="WARNING")

    async def calendars(context: Context[Any, Any]) -> Annotated[CallToolResult, CalendarList]:
        with problems_told():
            found = await held.listed()
            lines = [f"- {one.name} ({one.calendar}, {one.zone}){'' if one.may_write else ', to read only'}"
                     for one in found.calendars]  # fmt: skip
            return await gate.show(Caller.of(context), "calendar.calendars", "\n".join(lines), found)

    async def agenda(
        context: Context[Any, Any], begin: From = "", end: To = "",
        query: Annotated[str, Field(description="words of title, place, text or guests", max_length=200)] = "",
        calendar: Annotated[str, Field(description="one alone, by id or name; by default all")] = "",
    ) -> Annotated[CallToolResult, Agenda]:  # fmt: skip
        with problems_told():
            found = await held.agenda(begin, end, query, calendar)
            return await gate.show(Caller.of(context), "calendar.agenda", _agenda(found), found)

    async def event(
        context: Context[Any, Any], event: EventId, calendar: Which = ""
    ) -> Annotated[CallToolResult, Event]:
        with problems_told():
            found = await held.event(event, calendar)
            return await gate.show(Caller.of(context), "calendar.event", _event(found), found)

    async def free(
        context: Context[Any, Any], begin: From = "", end: To = "",
        minutes: Annotated[int, Field(ge=5, le=1440, description="how long it is to be")] = 60,
        hours: Annotated[str, Field(description="of each day")] = "09:00-18:00",
        people: Annotated[list[str] | None, Field(description="addresses of others, where theirs may be seen")] = None,
    ) -> Annotated[CallToolResult, Free]:  # fmt: skip
        with problems_told():
            found = await held.free(begin, end, minutes, hours, people or [])
            return await gate.show(Caller.of(context), "calendar.free", _free(found), found)

    async def create(
        context: Context[Any, Any], title: str, begin: Begin, end: End,
        guests: Annotated[list[str] | None, Field(description="addresses; they are invited by mail")] = None,
        details: Details | None = None,
    ) -> Answer:  # fmt: skip
        with problems_told():
            more = (details or Details()).model_dump()
            asked = {"title": title, "begin": begin, "end": end, "guests": guests or [], "details": more}
            return await gate.done(context, "calendar.create", asked)

    async def change(
        context: Context[Any, Any], event: EventId, changes: Changes, of: Of = "this", calendar: Which = ""
    ) -> Answer:
        with problems_told():
            asked = {"event": event, "calendar": calendar, "scope": of, "changes": changes.model_dump()}
            return await gate.done(context, "calendar.change", asked)

    async def cancel(context: Context[Any, Any], event: EventId, of: Of = "this", calendar: Which = "") -> Answer:
        with problems_told():
            return await gate.done(context, "calendar.cancel", {"event": event, "calendar": calendar, "scope": of})

    add = made.add_tool
    add(calendars, title="List calendars", description="Lists calendars.", annotations=_LOOKS)
    add(agenda, title="Agenda", description="Lists events, or searches them.", annotations=_LOOKS)
    add(event, title="Read an event", description="Reads one event whole.", annotations=_LOOKS)
    add(free, title="Free times", description="Finds times at which everybody is free.", annotations=_LOOKS)
    after = "The person approves it first; wait for the result."
    add(create, title="Create an event", description=f"Creates an event. {after}", annotations=_ADDS)
    add(change, title="Change an event", description=f"Changes an event. {after}", annotations=_ACTS)
    add(cancel, title="Cancel an event", description=f"Cancels an event. {after}", annotations=_ACTS)
    return made


def _agenda(found: Agenda) -> str:
    lines = [f"- {one.when}: {one.title}" + (f", {one.place}" if one.place else "") + f"\n  event {one.event}"
             + ("" if one.mine != "declined" else "\n  (declined)") for one in found.events]  # fmt: skip
    return "\n".join([*(lines or ["nothing is there"]), *([f"({found.note})"] if found.note else [])])


def _event(one: Event) -> str:
    guests = [f"guest: {who.name} <{who.email}> {who.answer}" for who in one.guests]
    lines = [one.title, one.when, *([f"place: {one.place}"] if one.place else []), f"organizer: {one.organizer}"]
    lines += [*guests, *(f"repeats: {rule}" for rule in one.repeats), *([f"link: {one.link}"] if one.link else [])]
    return "\n".join([*lines, *(["", one.text] if one.text else [])])


def _free(found: Free) -> str:
    def listed(slots: list[Slot]) -> list[str]:
        return [f"- {one.when}" for one in slots] or ["- none"]

    return "\n".join(
        ["free:", *listed(found.free), "busy:", *listed(found.busy), *([found.note] if found.note else [])]
    )
