"""HTML as running text, all of it, for mail: blocks on their own lines, links with where they lead, quotes marked."""

from __future__ import annotations

import re

from lxml.html import HtmlElement

from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sight import Sight

_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
        "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li",
        "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul",
    }
)  # fmt: skip
_APART = frozenset({"p", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "pre", "hr"})
_DEEPEST_QUOTE = 5


def flowing(html: str, quote: str = "> ", sight: Sight | None = None) -> tuple[str, Removed]:
    """(text, what was removed). `quote`: what stands before each line of a quote. Raises RecursionError for styles that
    nest without end."""
    body, _, removed = cleaned(html, sight=sight)
    lines = _Lines(quote)
    _walk(body, lines, 0, pre=False)
    return lines.text(), removed


class _Lines:
    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._done: list[tuple[int, str]] = []
        self._line = ""
        self._quote = 0

    def add(self, text: str, quote: int, *, pre: bool) -> None:
        if pre:
            first, *others = text.split("\n")
            self._put(first, quote, pre=True)
            for other in others:
                self.end(quote)
                self._put(other, quote, pre=True)
        elif text:
            self._put(re.sub(r"\s+", " ", text), quote, pre=False)

    def end(self, quote: int) -> None:
        self._done.append((min(self._quote, _DEEPEST_QUOTE), self._line.rstrip()))
        self._line, self._quote = "", quote

    def block(self, quote: int, *, apart: bool) -> None:
        if self._line.strip():
            self.end(quote)
        self._quote = quote
        if apart and self._done and self._done[-1][1]:
            self._done.append((min(self._done[-1][0], quote), ""))

    def text(self) -> str:
        self.block(0, apart=False)
        kept: list[str] = []
        for number, (quote, line) in enumerate(self._done):
            if line or (number and self._done[number - 1][1]):  # one empty line is enough
                after = self._done[number + 1][0] if number + 1 < len(self._done) else 0
                kept.append((self._mark * (quote if line else min(quote, after)) + line).rstrip(" "))
        return "\n".join(kept).strip()

    def _put(self, text: str, quote: int, *, pre: bool) -> None:
        if not self._line:
            self._quote = quote
        if not pre and (not self._line or self._line.endswith(" ")):
            text = text.lstrip(" ")
        self._line += text


def _walk(element: HtmlElement, lines: _Lines, quote: int, *, pre: bool) -> None:
    """The tree is at most as deep as lxml lets it be (255)."""
    tag = str(element.tag)
    inner = quote + (tag == "blockquote")
    pre_inner = pre or tag == "pre"
    block = tag in _BLOCKS
    if block:
        lines.block(inner, apart=tag in _APART)
    if tag == "br":
        lines.end(inner)
    elif tag == "li":
        lines.add("- ", inner, pre=False)
    elif tag in ("td", "th") and element.getprevious() is not None:
        lines.add(" ", inner, pre=False)
    lines.add(element.text or "", inner, pre=pre_inner)
    for child in element:
        _walk(child, lines, inner, pre=pre_inner)
    if tag == "a":
        _lead(element, lines, inner)
    if block:
        lines.block(quote, apart=tag in _APART)
    lines.add(element.tail or "", quote, pre=pre)


def _lead(link: HtmlElement, lines: _Lines, quote: int) -> None:
    href = (link.get("href") or "").strip()
    if href.startswith(("http://", "https://")) and href not in link.text_content():
        lines.add(f" <{href}>", quote, pre=False)
