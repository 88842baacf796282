"""A SearXNG's JSON API. https://docs.searxng.org/dev/search_api.html"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.text import plain
from variet.assistant.search.models import Category, Found, Hit, Span

_WHOLE_S = 20.0
_MOST_TITLE, _MOST_SNIPPET = 200, 400  # characters
_MOST_QUERY = 400
# What marks where a visitor came from, and nothing of the page.
_TRACKERS = re.compile(r"^(?:utm_\w+|gclid|fbclid|mc_[ce]id|ref_src|igshid)$")


class SearXNG:
    """`url`: of the instance, which its person runs."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(_WHOLE_S, connect=5.0), trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def search(self, query: str, category: Category, span: Span | None, language: str, most: int) -> Found:
        """Raises ToolProblem."""
        query = " ".join(query.split())[:_MOST_QUERY]
        if not query:
            raise ToolProblem("bad_request", "there is nothing to search for")
        asked = {
            "q": query,
            "format": "json",
            "categories": category,
            "language": language or "auto",
            "safesearch": "0",
        }
        told = await self._asked({**asked, **({"time_range": span} if span else {})})
        removed = Removed()
        hits = _distinct(_hit(one, removed) for one in told.get("results", []) if isinstance(one, Mapping))
        answers = [plain(str(one.get("answer", "")))[0] for one in told.get("answers", []) if isinstance(one, Mapping)]
        return Found(
            query=query, hits=hits[:most], answers=[one[:_MOST_SNIPPET] for one in answers if one],
            note=_note(told, hits, most, removed),
        )  # fmt: skip

    async def check(self) -> None:
        """Whether it is there and gives JSON; nothing is searched for. Raises ToolProblem."""
        answer = await self._answer({"q": "", "format": "json"})
        if answer.status_code not in (200, 400):  # it says that there is no query
            raise ToolProblem("unavailable", f"SearXNG refused (HTTP {answer.status_code})")

    async def _asked(self, words: Mapping[str, str]) -> Mapping[str, Any]:
        answer = await self._answer(words)
        if answer.status_code != 200:
            raise ToolProblem("unavailable", f"SearXNG refused (HTTP {answer.status_code})")
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict) or "results" not in told:
            raise ToolProblem("unavailable", f"what answers at {self._url} is no SearXNG")
        return told

    async def _answer(self, words: Mapping[str, str]) -> httpx.Response:
        try:
            answer = await self._http.get(f"{self._url}/search", params=words)
        except httpx.TimeoutException:
            raise ToolProblem("timeout", f"SearXNG did not answer within {_WHOLE_S:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToolProblem(
                "unavailable", f"no SearXNG answers at {self._url} ({error or type(error).__name__})",
                "Start it, or name another under search.url in assistant.json (docs/assistant.md)",
            ) from None  # fmt: skip
        if answer.status_code == 403:
            raise ToolProblem(
                "unavailable", "this SearXNG gives no JSON",
                "Add `json` to search.formats in its settings.yml, and restart it",
            )  # fmt: skip
        if answer.status_code == 429:
            raise ToolProblem(
                "rate_limited",
                "this SearXNG wants fewer requests",
                "Wait; or set server.limiter to false in settings.yml",
            )
        return answer


def _hit(one: Mapping[str, Any], removed: Removed) -> Hit:
    title, snippet = (_words(str(one.get(name) or ""), removed) for name in ("title", "content"))
    published = str(one.get("publishedDate") or "")[:10]
    engines = [str(name) for name in one.get("engines", [])]
    return Hit(
        title=title[:_MOST_TITLE], url=_bare(str(one.get("url") or "")), snippet=snippet[:_MOST_SNIPPET],
        published=published or None, engines=engines,
    )  # fmt: skip


def _words(text: str, removed: Removed) -> str:
    """Snippets are text, but some engines leave tags in."""
    if re.search(r"<\w", text):
        body, _, hidden = cleaned(text)
        removed.update(hidden)
        text = body.text_content()
    kept, unseen = plain(text)
    removed.update(unseen)
    return " ".join(kept.split())


def _bare(url: str) -> str:
    """Without what tracks its visitor, and in the form in which two of the same are the same."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https"):
        return ""
    kept = [one for one in parts.query.split("&") if one and not _TRACKERS.match(one.split("=", 1)[0])]
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path or "/", "&".join(kept), ""))


def _distinct(hits: Iterable[Hit]) -> list[Hit]:
    """The first of each address, whether over TLS or not, with a slash at its end or not."""
    found: dict[str, Hit] = {}
    for hit in hits:
        key = hit.url.partition("://")[2].removeprefix("www.").rstrip("/")
        if key and key not in found:
            found[key] = hit
    return list(found.values())


def _note(told: Mapping[str, Any], hits: list[Hit], most: int, removed: Removed) -> str:
    failed = [
        f"{one[0]} ({one[1]})" for one in told.get("unresponsive_engines", []) if isinstance(one, list) and len(one) > 1
    ]
    parts = [
        f"engines that did not answer: {', '.join(failed)}" if failed else "",
        "" if hits else "nothing was found",
        f"{len(hits) - most} more hits" if len(hits) > most else "",
        removed.told(),
    ]
    return "; ".join(part for part in parts if part)
