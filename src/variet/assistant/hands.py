"""What the broker can do, put together: each tool that acts, with the account that lets it."""

from __future__ import annotations

from variet.assistant.broker.carriers import Carrier
from variet.assistant.calendar import writing as calendar
from variet.assistant.calendar.client import Calendars
from variet.assistant.google.accounts import Accounts
from variet.assistant.google.api import GoogleApi
from variet.assistant.google.places import places
from variet.assistant.mail import writing as mail


def hands(accounts: Accounts) -> dict[str, Carrier]:
    """By tool."""

    async def mail_token(stale: str) -> str:
        return (await accounts.token("write", "mail", stale)).text

    async def calendar_token(stale: str) -> str:
        return (await accounts.token("write", "calendar", stale)).text

    async def reading_token(stale: str) -> str:
        return (await accounts.token("read", "calendar", stale)).text

    where = places()
    calendars = Calendars(GoogleApi(where.calendar, reading_token))  # what writes events may not list calendars
    return {
        **mail.carriers(GoogleApi(where.gmail, mail_token)),
        **calendar.carriers(GoogleApi(where.calendar, calendar_token), calendars),
    }
