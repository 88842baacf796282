"""The search tools over MCP: `search`, and `fetch` for a page of which a hit speaks."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from variet.assistant.answers import addresses, of_strangers, problems_told
from variet.assistant.broker.client import BrokerClient
from variet.assistant.gate import Caller, Gate
from variet.assistant.life import life
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.html import linked_sheets
from variet.assistant.sanitize.sight import Sight
from variet.assistant.sanitize.text import Readable, plain, readable
from variet.assistant.search.addresses import literal, target
from variet.assistant.search.fetch import Fetched, Fetcher
from variet.assistant.search.models import Category, Found, Page, Span
from variet.assistant.search.searxng import SearXNG
from variet.assistant.settings import SearchSettings

_PART_CHARS = 12_000  # of a page, as a model is shown at once
_MOST_HITS = 20
_LANGUAGE = r"^(?:|auto|all|[a-z]{2,3}(?:-[A-Za-z]{2,4})?)$"
_KEPT_PAGES, _KEPT_S = 64, 3_600.0
_PLAINLY = "asked for its words alone, in all categories and of any time: your mail or calendar was read before"
_MOST_SHEETS = 12


class Search:
    """`search` and `fetch`, with the pages that were read last. Whether words may go out is not asked here."""

    def __init__(self, settings: SearchSettings, sight: Sight | None = None) -> None:
        """`sight`: says what of a page is seen."""
        self._settings = settings
        self._sight = sight
        self._searxng = SearXNG(settings.url)
        self._fetcher = Fetcher(settings.allow)
        self._hits: set[str] = set()
        self._pages: OrderedDict[str, tuple[float, tuple[str, Readable, bool]]] = OrderedDict()

    async def close(self) -> None:
        await self._searxng.close()
        await self._fetcher.close()

    async def search(self, query: str, category: Category, span: Span | None, language: str, most: int) -> Found:
        """Raises ToolProblem."""
        found = await self._searxng.search(query, category, span, language or self._settings.language, most)
        self._hits.update(hit.url for hit in found.hits)
        return found

    def holds(self, url: str, part: int) -> bool:
        """Whether a page can be shown without asking its site. A page that was read is kept, since a second request
        would tell its site something. Raises ToolProblem for an address that is never asked."""
        if self._kept(url) is not None:
            return True
        literal(url, self._settings.allow)
        return False

    def own(self, url: str) -> bool:
        """Whether it is of the person's own network and no search gave it, and so theirs alone."""
        host, port, _ = target(url)
        return f"{host}:{port}" in self._settings.allow and url not in self._hits

    async def fetch(self, url: str, part: int) -> Page:
        """Raises ToolProblem."""
        where, page, cut = await self._page(url)
        parts = max(1, -(-len(page.text) // _PART_CHARS))
        if not 1 <= part <= parts:
            raise ToolProblem("bad_request", f"this page has {parts} parts")
        text = page.text[(part - 1) * _PART_CHARS : part * _PART_CHARS]
        notes = [
            "" if page.text else "there is no text on it that a person would see; it may be made by scripts",
            "the page is larger than what was read of it" if cut else "", page.removed.told(),
        ]  # fmt: skip
        return Page(
            url=where, title=page.title, text=text, part=part, next_part=part + 1 if part < parts else None,
            note="; ".join(note for note in notes if note),
        )  # fmt: skip

    def _kept(self, url: str) -> tuple[str, Readable, bool] | None:
        read_at, page = self._pages.get(url, (0.0, None))
        return page if page is not None and time.monotonic() - read_at < _KEPT_S else None

    async def _page(self, url: str) -> tuple[str, Readable, bool]:
        """Later parts are of the same reading as the first."""
        if (kept := self._kept(url)) is not None:
            return kept
        came = await self._fetcher.get(url)
        page = await self._read(came) if came.html else Readable("", *plain(came.text))
        found = (came.url, page, came.cut)
        self._pages[url] = (time.monotonic(), found)
        if len(self._pages) > _KEPT_PAGES:
            self._pages.popitem(last=False)
        return found

    async def _read(self, came: Fetched) -> Readable:
        """In a thread: a large page takes a second, and others wait for theirs. Raises ToolProblem."""
        try:
            links = await asyncio.to_thread(self._links, came)
            links = links[:_MOST_SHEETS]
            sheets = await asyncio.gather(*(self._sheet(link, came.url) for link in links))
            known = dict(zip(links, sheets, strict=True))
            return await asyncio.to_thread(readable, came.text, came.url, known, self._sight)
        except RecursionError:
            raise ToolProblem("unsupported_type", "its styles are nested without end: it cannot be cleaned") from None

    def _links(self, came: Fetched) -> list[str]:
        """Of style sheets: a browser writes their addresses in its own way, and asks for those by it."""
        links = self._sight.sheets(came.text, came.url) if self._sight is not None else None
        return linked_sheets(came.text, came.url) if links is None else links

    async def _sheet(self, url: str, page: str) -> str:
        """Empty where it is not to be had: its page is read as a browser would show it then."""
        try:
            return (await self._fetcher.get(url, of=page)).text
        except ToolProblem:
            return ""


def server(settings: SearchSettings, sight: Sight | None = None) -> MCPServer[Any]:
    """For any of MCP's transports."""
    tools, gate = Search(settings, sight), Gate(BrokerClient())
    made: MCPServer[Any] = MCPServer(
        "variet-search", title="Web search", lifespan=life(tools, gate), log_level="WARNING"
    )  # fmt: skip

    async def search(
        context: Context[Any, Any],
        query: Annotated[str, Field(description="a few words, as typed into a search box", max_length=400)],
        category: Category = "general",
        time_range: Annotated[Span | None, Field(description="how old hits may be")] = None,
        language: Annotated[str, Field(description="of the hits, as en or de-AT", pattern=_LANGUAGE)] = "",
        limit: Annotated[int, Field(ge=1, le=_MOST_HITS)] = 8,
    ) -> Annotated[CallToolResult, Found]:
        with problems_told():
            caller = Caller.of(context)
            plain_words = await gate.let_out(caller, "search.search", " ".join(query.split()))
            if plain_words:  # then nothing else of the request goes out, either: each wish could be a letter
                found = await tools.search(plain_words, "general", None, "", limit)
                wishes = "" if (category, time_range, language) == ("general", None, "") else _PLAINLY
                found = found.model_copy(update={"note": "; ".join(note for note in (found.note, wishes) if note)})
            else:
                found = await tools.search(query, category, time_range, language, limit)
            listed = _listed(found)
            await gate.read(caller, hits=[hit.url for hit in found.hits], public=[listed])
            return of_strangers(listed, found)

    async def fetch(
        context: Context[Any, Any],
        url: Annotated[str, Field(description="of the page, as a hit names it")],
        part: Annotated[int, Field(ge=1, description="of a long page; 1 is its beginning")] = 1,
    ) -> Annotated[CallToolResult, Page]:
        with problems_told():
            caller = Caller.of(context)
            if not tools.holds(url, part):
                await gate.let_out(caller, "search.fetch", url)
            page = await tools.fetch(url, part)
            own = tools.own(page.url)
            await gate.read(
                caller, private=[page.text] if own else [], addresses=[page.url, *addresses(page.text)],
                public=[] if own else [page.title, page.text],
            )  # fmt: skip
            return of_strangers(_shown(page), page)

    looks = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=True)
    made.add_tool(search, title="Search the web", description="Searches the web. Hits are titles, addresses and a few "
                  "words; `fetch` reads one.", annotations=looks)  # fmt: skip
    made.add_tool(fetch, title="Read a page", description="Reads a web page as text, without what a person would not "
                  "see.", annotations=looks)  # fmt: skip
    return made


def _listed(found: Found) -> str:
    lines = []
    lines += [f"answer: {one}" for one in found.answers]
    for number, hit in enumerate(found.hits, 1):
        when = f" ({hit.published})" if hit.published else ""
        lines.append(f"{number}. {hit.title}{when}\n   {hit.url}" + (f"\n   {hit.snippet}" if hit.snippet else ""))
    return "\n".join([*lines, *([f"({found.note})"] if found.note else [])])


def _shown(page: Page) -> str:
    head = f"{page.title}\n{page.url}" if page.title else page.url
    more = f"(more: part {page.next_part})" if page.next_part else ""
    note = f"({page.note})" if page.note else ""
    return "\n".join(part for part in (head, page.text, note, more) if part)
