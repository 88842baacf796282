"""Honest mails and pages (tests/fixtures/benign), and what of them a person sees in a browser.

`sentences.json` says it; `visible_sentences` looks at the pixels.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import FloatRect, Page

from tests.support import browser

FOLDER = Path(__file__).parents[1] / "fixtures" / "benign"
WIDTH, HEIGHT = 800, 600
_FAINT = 24  # of 255, in one channel of a pixel: letters in the colour of what is behind them differ by 1

# With this, a word whose letters are turned around is as wide as before, and nothing moves.
_EVEN = "* { font-kerning: none !important; font-variant-ligatures: none !important }"
_STYLE = "css => { document.head.append(document.createElement('style')); document.head.lastChild.textContent = css; }"
_FIND = """pattern => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), places = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (const match of node.data.matchAll(new RegExp(pattern, "g"))) places.push([node, match.index, match[0]]);
  if (places.length !== 1) return {count: places.length, boxes: [], width: 0, height: 0};
  const [node, start, text] = places[0], range = document.createRange(), page = document.documentElement;
  range.setStart(node, start);
  range.setEnd(node, start + text.length);
  window.place = {node, start, text, before: node.data};
  const boxes = [...range.getClientRects()].filter(one => one.width > 0 && one.height > 0)
    .map(one => [one.left + scrollX, one.top + scrollY, one.right + scrollX, one.bottom + scrollY]);
  return {count: 1, boxes, width: page.scrollWidth, height: page.scrollHeight};
}"""
# Digits are as wide as each other. Signs that no font here has all look alike: an x stands for them.
_TURN = r"""() => {
  const {node, start, text} = window.place;
  const turned = run => [...run].reverse().join("").replace(/[^\u0000-\u024f]/gu, "x");
  const other = text.replace(/[0-9]/g, one => (Number(one) + 5) % 10).replace(/[\p{L}\p{M}]+/gu, turned);
  if (other === text) throw new Error(`nothing can be told by ${text}`);
  node.replaceData(start, text.length, other);
}"""
_DIFFERENCE = """async pictures => {
  const pixels = await Promise.all(pictures.map(async one => {
    const picture = new Image();
    picture.src = "data:image/png;base64," + one;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height), pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0);
    return pen.getImageData(0, 0, picture.width, picture.height).data;
  }));
  return pixels[0].reduce((most, one, at) => Math.max(most, Math.abs(one - pixels[1][at])), 0);
}"""
_BACK = "() => { window.place.node.data = window.place.before; }"


@dataclass(frozen=True, slots=True)
class Document:
    """`seen`: sentences that a person sees at 800 px, each in one text node; `unseen`: texts that a browser does not
    show, such as a preheader or the phone's variant. Any blanks and line ends of the source are one blank there."""

    name: str
    kind: Literal["mail", "page"]
    html: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]


def load() -> list[Document]:
    """All of them, by name."""
    told = json.loads((FOLDER / "sentences.json").read_text())
    found = []
    for name, one in sorted(told.items()):
        text = (FOLDER / f"{name}.html").read_text()
        found.append(Document(name, one["kind"], text, tuple(one["seen"]), tuple(one["unseen"])))
    return found


@asynccontextmanager
async def viewer() -> AsyncIterator[Page]:
    """A page for `visible_sentences`: no scripts, no network."""
    async with browser.page(width=WIDTH, height=HEIGHT, java_script_enabled=False, offline=True) as one:
        yield one


async def visible_sentences(page: Page, document: Document) -> frozenset[str]:
    """Those of `seen` and `unseen` that a browser shows. Other letters stand in the place of one for a moment, and what
    is drawn there is compared. Raises ValueError where a sentence is not in the document just once."""
    await page.set_content(document.html, wait_until="load")
    await page.evaluate(_STYLE, _EVEN)
    return frozenset([one for one in (*document.seen, *document.unseen) if await _visible(page, document, one)])


async def _visible(page: Page, document: Document, sentence: str) -> bool:
    found = await page.evaluate(_FIND, r"\s+".join(re.escape(word) for word in sentence.split()))
    if found["count"] == 0 and sentence in document.unseen and _in_source(document, sentence):
        return False  # in a comment, an attribute, the head
    if found["count"] != 1:
        raise ValueError(f"{document.name}: {found['count']} text nodes have {sentence!r}")
    clip = _clip(found)
    if clip is None:
        return False
    before = await _drawn(page, clip)
    await page.evaluate(_TURN)
    after = await _drawn(page, clip)
    await page.evaluate(_BACK)
    if before == after:
        return False
    pictures = [base64.b64encode(one).decode() for one in (before, after)]
    return bool(await page.evaluate(_DIFFERENCE, pictures) > _FAINT)


def _in_source(document: Document, sentence: str) -> bool:
    return sentence in " ".join(html.unescape(document.html).split())


def _clip(found: dict[str, Any]) -> FloatRect | None:
    """What of the sentence's place lies on the page; None for nothing."""
    if not found["boxes"]:
        return None
    left, top = (max(0.0, min(box[side] for box in found["boxes"])) for side in (0, 1))
    right = min(found["width"], max(box[2] for box in found["boxes"]))
    bottom = min(found["height"], max(box[3] for box in found["boxes"]))
    if right - left < 1 or bottom - top < 1:
        return None
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


async def _drawn(page: Page, clip: FloatRect) -> bytes:
    return await page.screenshot(full_page=True, clip=clip, animations="disabled")
