"""Whether a person sees a word of a page or a mail: decided by what Chromium paints.

A vector is a page with a word that nobody is to see; `{word}` says where it stands. The page is painted with one word
and with another. If the pictures do not differ, nobody can tell which of them stands there: it is hidden.

`{word:NAME}` spells the word in another way (`SPELLINGS`), `{word:zero}` with characters of no width, say. What the
cleaner leaves of a page leaks the word if it has the word, or characters from which it can be read again.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

from playwright.async_api import Error, Page, Route

from tests.support import browser

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "hidden"

# Two words of the same letters, so of the same width, which differ in each place; no two of the letters are kerned.
# The longer ones have descenders.
PAIRS = (("MIHNIMNHIM", "HNIMNHIMMI"), ("dumpinhqubimnup", "hqubimnupdumpin"))
WORD = PAIRS[0][0]

_WIDTH, _HEIGHT = 800, 600
_LARGEST = 16_000  # pixels; Chromium paints no more at once
_SMALLEST = 20  # pixels; nobody scrolls a smaller box
_ALIKE = 2  # shades of 256
_ROWS, _COLUMNS = 12, 4  # how far a box is scrolled, in boxes
_MOVES = re.compile(r"animation|keyframes|transition|<animate|<set\b|<marquee", re.IGNORECASE)
_PLACE = re.compile(r"\{word(?::([a-z0-9]+))?\}")
_visits = count()


@dataclass(frozen=True, slots=True)
class Vector:
    """`kind`: what hides the word. `html`: `{word}` is where it stands, in one or more places."""

    name: str
    kind: str
    html: str


def files() -> list[Path]:
    return sorted(FIXTURES.glob("*.json"))


def load(path: Path) -> list[Vector]:
    vectors = [Vector(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
    names = [one.name for one in vectors]
    assert len(names) == len(set(names)), "names must be unique"
    for one in vectors:
        places = _PLACE.findall(one.html)
        assert places, f"{one.name}: no word"
        assert all(place in {"", *SPELLINGS, *ALPHABETS} for place in places), f"{one.name}: {places}"
    return vectors


# Spellings


def _run(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


# A word in ASCII becomes bytes, a byte one digit or more. Alphabets of 2, 4, 8, 16, 128 or 256 characters.
ALPHABETS = {
    "tags": _run(0xE0000, 0xE007F),
    "zero": "\u200b\u200c",
    "joiners": "\u200d\u2060",
    "marks": "\u200e\u200f",
    "arabic": "\u061c\u200d",
    "bom": "\ufeff\u200b",
    "operators": _run(0x2061, 0x2064),
    "embeddings": _run(0x202A, 0x202D),
    "isolates": _run(0x2066, 0x2069),
    "deprecated": _run(0x206A, 0x206D),
    "vs": _run(0xFE00, 0xFE0F) + _run(0xE0100, 0xE01EF),
    "vs16": _run(0xFE00, 0xFE0F),
    "supplement": _run(0xE0100, 0xE010F),
    "mongolian": "\u180b\u180c\u180d\u180f",
    "separator": "\u180e\u180b",
    "hangul": "\u115f\u1160",
    "fillers": "\u3164\uffa0",
    "khmer": "\u17b4\u17b5",
    "grapheme": "\u034f\u200c",
    "soft": "\u00ad\u034f",
    "music": _run(0x1D173, 0x1D17A),
    "shorthand": _run(0x1BCA0, 0x1BCA3),
    "annotations": "\ufff9\ufffa",
    "unassigned": _run(0xE0200, 0xE02FF),
    "reserved": _run(0xFFF0, 0xFFF3),
    "blank": "\u2800\u3000",
    "spaces": "\u2004\u2005",
    "c0": "\x01\x02",
    "c1": "\x84\x8d",
}


def _encoded(word: str, alphabet: str) -> str:
    base, digits = len(alphabet), 1
    while base**digits < 128:
        digits += 1
    return "".join(alphabet[ord(letter) // base**place % base] for letter in word for place in reversed(range(digits)))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "entities": lambda word: "".join(f"&#{ord(one)};" for one in word),
    "hexadecimal": lambda word: "".join(f"&#x{ord(one):x};" for one in word),
    "percent": lambda word: "".join(f"%{ord(one):02X}" for one in word),
    "css": lambda word: "".join(f"\\{ord(one):06x}" for one in word),
    "joined": "\u200b".join,
    "hyphenated": "\u00ad".join,
    "fullwidth": lambda word: "".join(chr(ord(one) + 0xFEE0) for one in word),
    "reversed": lambda word: word[::-1],
}


def filled(html: str, word: str) -> str:
    """The page with the word in its places."""

    def spelled(place: re.Match[str]) -> str:
        name = place[1]
        if not name:
            return word
        return _encoded(word, ALPHABETS[name]) if name in ALPHABETS else SPELLINGS[name](word)

    return _PLACE.sub(spelled, html)


def survives(html: str, text: str, word: str = WORD) -> bool:
    """Whether the word of this page can still be read from the text."""
    told = _plain(text)
    for name in _PLACE.findall(html):
        if name in ALPHABETS:
            alphabet = set(ALPHABETS[name])
            if _encoded(word, ALPHABETS[name]) in "".join(one for one in text if one in alphabet):
                return True
        elif _plain(SPELLINGS[name](word) if name else word) in told:
            return True
    return _plain(word) in told


def _plain(text: str) -> str:
    """Without what has no shape, and in small letters."""
    shown = (one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one) not in ("Cf", "Mn", "Cn"))
    return "".join(shown).casefold()


# Pixels


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page without scripts or network."""
    async with browser.page(width=_WIDTH, height=_HEIGHT, java_script_enabled=False) as first:
        await first.context.route("**/*", lambda route: route.abort())
        yield await first.context.new_page()  # what the console says of this one is no error


async def seen(page: Page, html: str) -> bool:
    """Whether a person with Chromium sees which word stands in the page.

    The whole page counts, also what must be scrolled to. A box that scrolls counts if it is at least 20 pixels wide
    and high: it is scrolled, with all the others, and looked at again. Where `overflow` forbids the page to scroll,
    what lies outside the window does not count. A page that moves is looked at twice, a second apart. A page too large
    to be painted, or a box too large to be scrolled, counts as seen. Nothing is clicked, and no pointer hovers.

    One pixel that differs is enough. Two shades of 256 are no difference: paint of the colour of its ground is rounded.
    """
    for pair in PAIRS:
        first, second = [await _looks(page, filled(html, word)) for word in pair]
        if first is None or second is None or len(first) != len(second):
            return True
        for one, other in zip(first, second, strict=True):
            if one != other and await page.evaluate(_SHADES, [_text(one), _text(other)]) > _ALIKE:
                return True
    return False


def _text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


# By how many shades two pictures differ where they differ most.
_SHADES = """async pictures => {
  const pixels = async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes]));
    const {width, height} = picture;
    const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
    context.drawImage(picture, 0, 0);
    return {width, height, data: context.getImageData(0, 0, width, height).data};
  };
  const [one, other] = await Promise.all(pictures.map(pixels));
  if (one.width !== other.width || one.height !== other.height) return 256;
  let most = 0;
  for (let at = 0; at < one.data.length; at++) most = Math.max(most, Math.abs(one.data[at] - other.data[at]));
  return most;
}"""

_SIZES = """() => {
  const root = document.documentElement, body = document.body;
  const style = one => one ? getComputedStyle(one) : {overflowX: 'visible', overflowY: 'visible'};
  let page = style(root);
  if (page.overflowX === 'visible' && page.overflowY === 'visible') page = style(body);
  const whole = document.scrollingElement || root;
  const fixed = overflow => overflow === 'hidden' || overflow === 'clip';
  return {
    width: fixed(page.overflowX) ? innerWidth : Math.max(innerWidth, whole.scrollWidth),
    height: fixed(page.overflowY) ? innerHeight : Math.max(innerHeight, whole.scrollHeight),
  };
}"""

# Scrolls each box that can be; says how many steps there are, across and down.
_SCROLL = """([column, row, smallest]) => {
  const steps = [1, 1];
  const scrolls = overflow => overflow === 'auto' || overflow === 'scroll';
  const scroll = (one, across, down, rightToLeft) => {
    if (one.clientWidth < smallest || one.clientHeight < smallest) return;
    if (across && one.scrollWidth > one.clientWidth) {
      steps[0] = Math.max(steps[0], Math.ceil(one.scrollWidth / one.clientWidth));
      one.scrollLeft = (rightToLeft ? -1 : 1) * column * one.clientWidth;
    }
    if (down && one.scrollHeight > one.clientHeight) {
      steps[1] = Math.max(steps[1], Math.ceil(one.scrollHeight / one.clientHeight));
      one.scrollTop = row * one.clientHeight;
    }
  };
  const walk = root => {
    for (const one of root.querySelectorAll('*')) {
      if (one.shadowRoot) walk(one.shadowRoot);
      if (one === document.documentElement || one === document.body) continue;
      const style = getComputedStyle(one);
      scroll(one, scrolls(style.overflowX), scrolls(style.overflowY), style.direction === 'rtl');
    }
  };
  walk(document);
  const whole = document.scrollingElement;
  if (window !== top && whole) {
    const style = getComputedStyle(document.documentElement);
    scroll(whole, style.overflowX !== 'hidden', style.overflowY !== 'hidden', style.direction === 'rtl');
  }
  return steps;
}"""


async def _looks(page: Page, html: str) -> list[bytes] | None:
    """Pictures of all that there is to see; None if that is too much."""
    address = f"http://page.test/{next(_visits)}"
    headers = {"content-type": "text/html; charset=utf-8"}

    async def answer(route: Route) -> None:
        await route.fulfill(body=html.encode(), headers=headers)

    await page.route(address, answer)
    try:
        await page.goto(address)
        moves = bool(_MOVES.search(html))
        if moves:
            await page.wait_for_timeout(100)
        size = await page.evaluate(_SIZES)
        if max(size.values()) > _LARGEST:
            return None
        pictures = [await _picture(page, size)]
        if moves:
            await page.wait_for_timeout(1000)
            pictures.append(await _picture(page, size))
        for top in range(_HEIGHT, size["height"], _HEIGHT):
            await page.evaluate("top => scrollTo(0, top)", top)
            pictures.append(await page.screenshot())
        if size["height"] > _HEIGHT:
            await page.evaluate("scrollTo(0, 0)")
        columns, rows = await _scrolled(page, 0, 0)
        if columns > _COLUMNS or rows > _ROWS:
            return None
        for column, row in _steps(columns, rows):
            await _scrolled(page, column, row)
            pictures.append(await _picture(page, size))
        return pictures
    finally:
        await page.unroute(address)


async def _picture(page: Page, size: dict[str, int]) -> bytes:
    clip: Any = {"x": 0, "y": 0, **size}
    return await page.screenshot(full_page=True, clip=clip)


def _steps(columns: int, rows: int) -> Iterator[tuple[int, int]]:
    return (step for step in product(range(columns), range(rows)) if step != (0, 0))


async def _scrolled(page: Page, column: int, row: int) -> tuple[int, int]:
    """How many steps there are in the page and the frames in it."""
    columns = rows = 1
    for frame in page.frames:
        try:
            across, down = await frame.evaluate(_SCROLL, [column, row, _SMALLEST])
        except Error:  # a frame that could not be loaded
            continue
        columns, rows = max(columns, across), max(rows, down)
    return columns, rows
