"""Tools of Variet's own servers (search, calendar, mail), those that a day needs most, as tools of an assistant.

Their schemas stand here, shorter than the servers tell them, and never change: every assistant's requests begin with
the same bytes, and begin before a server has started. A test holds them against what the servers take.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from variet.agent.events import ToolKind
from variet.agent.servers import Servers
from variet.agent.tools.base import AnyTool, Args, Place, Result
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed
from variet.policy.action import Sink
from variet.policy.assistant import TRAITS


class WebSearch(Args):
    query: str
    time_range: Literal["day", "week", "month", "year"] | None = None


class WebFetch(Args):
    url: str
    part: int = 1


class MailSearch(Args):
    query: str = Field("in:inbox", description="Gmail syntax, as from:ada newer_than:7d")


class MailRead(Args):
    thread: str


class MailSend(Args):
    to: list[str]
    subject: str
    body: str
    reply_to: str = Field("", description="message id")


class Agenda(Args):
    begin: str = Field("", description="2026-12-01, by default today")
    end: str = ""
    query: str = ""


class FreeTimes(Args):
    begin: str = ""
    end: str = ""
    minutes: int = 60
    people: list[str] = Field(default_factory=list, description="mail addresses")


class CreateEvent(Args):
    title: str
    begin: str = Field(description="2026-12-01T15:00, or a date for whole days")
    end: str
    guests: list[str] = Field(default_factory=list)


class ServedTool:
    """`of`: the server's tool, as `mail.search`."""

    changes = False  # what it does in the person's name waits in the broker, side by side with all else

    def __init__(
        self, name: str, of: str, kind: ToolKind, description: str, args: type[Args], servers: Servers
    ) -> None:  # fmt: skip
        self.name = name
        self.of = of
        self.kind = kind
        self.description = description
        self.args = args
        self._servers = servers

    def sink(self, args: Args, workspace: Workspace) -> Sink:
        if self.of.partition(".")[0] not in self._servers.brokered:
            raise ToolFailed(f"{self.of} is not there: this session is one of `variet ask --assistant`")
        return brokered(self.of)

    def summary(self, args: Args) -> str:
        given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in _given(args).items())
        return f"{self.of}({given[:200]})"

    async def run(self, args: Args, place: Place) -> Result:
        said, failed = await self._servers.call(self.of, _given(args), place.say)
        return Result(said, failed)


def served_tools(servers: Servers) -> list[AnyTool]:
    rows: list[tuple[str, str, ToolKind, str, type[Args]]] = [
        ("web_search", "search.search", "search", "Search the web.", WebSearch),
        ("web_fetch", "search.fetch", "fetch", "Read a page that a search or the user named.", WebFetch),
        ("mail_search", "mail.search", "search", "Find mail.", MailSearch),
        ("mail_read", "mail.read", "read", "Read a thread.", MailRead),
        ("mail_send", "mail.send", "other", "Send plain text.", MailSend),
        ("calendar_agenda", "calendar.agenda", "read", "List or search events; six days by default.", Agenda),
        ("calendar_free", "calendar.free", "read", "Find free times.", FreeTimes),
        ("calendar_create", "calendar.create", "other", "Create an event; guests are invited.", CreateEvent),
    ]  # fmt: skip
    return [ServedTool(*row, servers) for row in rows]


def brokered(name: str) -> Sink:
    """What a tool of Variet's own servers does, as plain as the agent needs to know it: the broker knows more."""
    trait = TRAITS.get(name)
    looks = trait is not None and trait.kind != "act"
    return Sink("tool", (name,), inside=False, looks=looks, brokered=True)


def _given(args: Args) -> dict[str, Any]:
    return args.model_dump(exclude_unset=True)
