"""What a page says, as Markdown: its main part where there is one, by `trafilatura`, which finds that best of the
extractors there are (docs/decisions/028); else all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from variet.assistant.sanitize.characters import seen
from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sight import Sight

_LEAST_SHARE = 0.15  # of a page's words: a main part that is less was found wrongly
_SHORT_CHARS = 1_500  # such a page is told whole


@dataclass(frozen=True, slots=True)
class Readable:
    """`text`: Markdown, without images; `removed`: what a person would not have seen."""

    title: str
    text: str
    removed: Removed


def readable(html: str, url: str = "", sheets: Mapping[str, str] | None = None, sight: Sight | None = None) -> Readable:
    """Of a page's HTML; `sheets`: its style sheets from elsewhere, by their addresses. Raises RecursionError for a page
    whose styles nest without end."""
    import trafilatura

    body, title, removed = cleaned(html, url, sheets, sight)
    everything = trafilatura.html2txt(body) or " ".join(body.text_content().split())
    main = trafilatura.extract(
        body, url=url or None, output_format="markdown", include_links=True, include_images=False, include_tables=True,
        include_comments=True, favor_recall=True, with_metadata=False,
    )  # fmt: skip
    found = main is not None and (len(everything) <= _SHORT_CHARS or len(main) >= _LEAST_SHARE * len(everything))
    text, title = (seen(one)[0].strip() for one in (main if found and main else everything, title))
    return Readable(title, text, removed)


def plain(text: str) -> tuple[str, Removed]:
    """Of a text that is no HTML."""
    kept, unseen = seen(text)
    removed = Removed()
    if unseen:
        removed["unseen"] += unseen
    return kept, removed
