"""A strict Google on loopback (google_server/), and a person who signs in there."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from variet.assistant.broker.client import BrokerClient

_SERVER = Path(__file__).parent / "google_server" / "server.mjs"
EMAIL = "me@example.org"
CLIENTS = {"read": ("read.apps", "secret-of-read"), "write": ("write.apps", "secret-of-write")}


@dataclass
class Google:
    url: str
    _word: str
    _http: httpx.AsyncClient

    async def order(self, op: str, **what: Any) -> Any:
        answer = await self._http.post(
            f"{self.url}/control", json={"op": op, **what}, headers={"authorization": self._word}
        )
        answer.raise_for_status()
        return answer.json()

    async def mail(
        self, raw: bytes | EmailMessage, labels: tuple[str, ...] = ("INBOX", "UNREAD"), thread: str = ""
    ) -> Any:
        """A message in the box: {id, threadId}."""
        data = raw if isinstance(raw, bytes) else raw.as_bytes()
        text = base64.urlsafe_b64encode(data).decode()
        return await self.order("message", raw=text, labels=list(labels), thread=thread)

    async def event(self, event: dict[str, Any], calendar: str = "") -> Any:
        """An event in a calendar, by default the person's own."""
        return await self.order("event", event=event, calendar=calendar)

    async def sent(self) -> list[EmailMessage]:
        held = [one for one in await self.order("messages") if "SENT" in one["labels"]]
        return [message_from_bytes(base64.urlsafe_b64decode(one["raw"] + "=="), policy=policy.default) for one in held]

    async def fault(self, match: str, status: int = 0, **fault: Any) -> None:
        """The next request whose `METHOD path` matches gets this; `drop`: the line breaks, `done`: after it is done."""
        await self.order("fault", fault={"match": match, "status": status, **fault})

    async def visit(self, url: str) -> httpx.Response:
        """As the person's browser, which says yes (or what `consent` was set to)."""
        asked = await self._http.get(url)
        if asked.status_code != 302:
            return asked
        return await self._http.get(asked.headers["location"])

    async def sign_in(self, owner: BrokerClient, *purposes: str) -> None:
        for purpose in purposes or ("read", "write"):
            client_id, client_secret = CLIENTS[purpose]
            begun = await owner.call("auth.begin", purpose=purpose, client_id=client_id, client_secret=client_secret)
            came, told = await asyncio.gather(self.visit(begun["url"]), owner.call("auth.finish", flow=begun["flow"]))
            assert came.status_code == 200 and told["email"] == EMAIL


@asynccontextmanager
async def google() -> AsyncIterator[Google]:
    word = secrets.token_hex(8)
    process = await asyncio.create_subprocess_exec(
        "node", str(_SERVER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"CONTROL": word, "EMAIL": EMAIL, "PATH": __import__("os").environ["PATH"]},
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    url = (await process.stdout.readline()).decode().strip()
    assert url, "the strict Google did not start"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            made = Google(url, word, http)
            for client_id, client_secret in CLIENTS.values():
                await made.order("client", id=client_id, secret=client_secret)
            yield made
    finally:
        process.stdin.close()
        await process.wait()


def message(subject: str, text: str, *, sender: str = "Ada <ada@example.com>", **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, EMAIL, subject
    made["Date"] = headers.pop("Date", "Thu, 26 Nov 2026 09:30:00 +0100")
    made["Message-ID"] = headers.pop("Message_ID", f"<{secrets.token_hex(8)}@example.com>")
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(text)
    return made
