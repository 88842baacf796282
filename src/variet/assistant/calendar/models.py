"""What the calendar tools take and answer with. Titles, places and texts are often strangers' words."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["this", "all"]


class Guest(BaseModel):
    email: str
    name: str = ""
    answer: str = Field("", description="accepted, declined, tentative or needsAction")


class Event(BaseModel):
    """`when`: in words, with its zone; `begin`, `end`: ISO 8601, or dates where it is for whole days (`end` the last);
    `series`: the event that it is one time of."""

    event: str
    calendar: str
    title: str
    when: str
    begin: str
    end: str
    zone: str
    place: str = ""
    text: str = ""
    organizer: str = ""
    guests: list[Guest] = Field(default_factory=list)
    series: str = ""
    repeats: list[str] = Field(default_factory=list)
    mine: str = Field("", description="the person's own answer")
    free: bool = Field(False, description="it leaves its time free")
    link: str = ""


class Agenda(BaseModel):
    """In order of time. `note`: what its reader should know: calendars that could not be read, that there is more."""

    begin: str
    end: str
    zone: str
    events: list[Event]
    note: str = ""


class CalendarEntry(BaseModel):
    calendar: str
    name: str
    zone: str
    primary: bool = False
    may_write: bool = False


class CalendarList(BaseModel):
    calendars: list[CalendarEntry]


class Slot(BaseModel):
    begin: str
    end: str
    when: str


class Free(BaseModel):
    """`free`: what is long enough, within the hours of each day; `busy`: what is not."""

    zone: str
    free: list[Slot]
    busy: list[Slot]
    note: str = ""


class Details(BaseModel):
    """What an event may have besides its title and times."""

    model_config = ConfigDict(extra="forbid")

    place: str = Field("", max_length=1_000)
    text: str = Field("", max_length=8_000, description="plain text")
    calendar: str = Field("", max_length=300, description="its id; by default the person's own")
    zone: str = Field("", max_length=60, description="as Europe/Vienna; by default the calendar's")
    repeats: list[str] = Field(default_factory=list, max_length=10, description="as RRULE:FREQ=WEEKLY;COUNT=9")
    reminders_minutes: list[int] | None = Field(None, max_length=5, description="before it; none: the calendar's own")
    free: bool = Field(False, description="it leaves its time free")


class Changes(BaseModel):
    """What is not named stays."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(None, max_length=1_000)
    begin: str | None = None
    end: str | None = None
    zone: str | None = None
    place: str | None = Field(None, max_length=1_000)
    text: str | None = Field(None, max_length=8_000)
    reminders_minutes: list[int] | None = Field(None, max_length=5, description="before it")
    answer: Literal["accepted", "declined", "tentative"] | None = Field(None, description="to an invitation")
    add_guests: list[str] = Field(default_factory=list, max_length=50)
    remove_guests: list[str] = Field(default_factory=list, max_length=50)
