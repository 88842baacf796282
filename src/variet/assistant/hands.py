"""What the broker can do, put together: each tool that acts, with the account that lets it."""

from __future__ import annotations

from variet.assistant.broker.carriers import Carrier
from variet.assistant.google.accounts import Accounts
from variet.assistant.google.api import GoogleApi
from variet.assistant.google.places import places
from variet.assistant.mail import writing


def hands(accounts: Accounts) -> dict[str, Carrier]:
    """By tool."""

    async def mail_token(stale: str) -> str:
        return (await accounts.token("write", "mail", stale)).text

    return {**writing.carriers(GoogleApi(places().gmail, mail_token))}
