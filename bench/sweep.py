"""Every property of Chromium with many values, in many surroundings: where the assistant's reader of styles and the
picture that Chromium paints differ.

  python -m bench.sweep --every 20       each twentieth declaration: some minutes
  python -m bench.sweep --only margin    properties whose name has this, all of their values

Each line is LEAKED (the reader keeps words that nobody sees) or lost (it takes words away of which something is seen),
the surroundings, and the declaration. A leak is looked at once more, on a page of its own: a neighbour may lie over it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from playwright.async_api import Page
from tests.support import hidden

from variet.assistant.sanitize.text import readable

# `{d}` is the declaration, `{w}` the words.
AROUND = {
    "block": '<p style="{d}">{w}</p>',
    "parent": '<div style="{d}"><div>{w}</div></div>',
    "inline": '<p>before <span style="{d}">{w}</span> after</p>',
    "cut": '<div style="overflow:hidden;height:30px;{d}">{w}</div>',
    "within cut": '<div style="overflow:hidden;height:30px"><div style="{d}">{w}</div></div>',
    "absolute": '<div style="position:relative;height:40px"><div style="position:absolute;{d}">{w}</div></div>',
    "cell": '<table><tr><td style="{d}">{w}</td><td>beside</td></tr></table>',
    "table": '<table style="{d}"><tr><td>{w}</td></tr></table>',
    "flex": '<div style="display:flex;{d}"><div>{w}</div><div>beside</div></div>',
    "flex item": '<div style="display:flex;height:40px"><div style="{d}">{w}</div><div>beside</div></div>',
    "grid": '<div style="display:grid;{d}"><div>{w}</div><div>beside</div></div>',
    "grid item": '<div style="display:grid"><div style="{d}">{w}</div></div>',
    "float": '<div style="float:left;{d}">{w}</div>',
    "columns": '<div style="columns:2;height:40px;{d}">{w}</div>',
    "list": '<ul style="{d}"><li>{w}</li></ul>',
    "clipped background": '<p style="background:linear-gradient(black,black);{d}">{w}</p>',
}  # fmt: skip
# Between blanks; `_` stands for one.
VALUES = """
0 1px -1px 5px 40px 999px -999px 99999px -99999px 1e9px 0.001px 100% -100% 1000% -1000% 0% 50% 1em 9em -9em 100vw
-100vw 100vh -200vh 0fr 1fr 9999999 1 2 -1 0.01 0.5 90deg 180deg 360deg 1turn 0s 9s none auto normal hidden clip
scroll visible collapse content-box border-box padding-box text fixed absolute sticky relative static inherit
initial unset revert left right center start end stretch both all inline block flex grid table contents flow-root
inline-block table-cell table-row table-column table-caption table-row-group table-footer-group list-item ruby
ruby-text white black transparent #fff0 rgba(0,0,0,0.01) currentcolor Canvas CanvasText nowrap pre wrap break-word
break-all row column row-reverse column-reverse vertical-rl vertical-lr sideways-lr upright mixed ltr rtl
bidi-override plaintext uppercase full-width math-auto smaller larger xx-small xxx-large bold cover contain strict
content paint size layout style inline-size min-content max-content fit-content from-image legacy scale(0)
scale(0.01) scale(1,0) scaleX(-1) rotate(90deg) rotateX(90deg) translateX(-9999px) translateY(9999px)
matrix(0,0,0,0,0,0) perspective(1px) skew(89deg) opacity(0) blur(50px) brightness(0) invert(1) contrast(0)
drop-shadow(0_0_0_red) inset(50%) inset(0) circle(0) circle(1px) polygon(0_0) ellipse(0_0) path('')
linear-gradient(white,white) linear-gradient(black,black) radial-gradient(white,white) url(x.png) screen difference
multiply exclusion isolate ellipsis disc square inside outside underline line-through overline wavy double dotted
solid from-font under over alternate filled preserve-3d flat back-face manual reverse paused forwards infinite
0px_0px_0px_999px_white 0_0_white 9px_solid_white 999px_solid 1px_solid 0_0_0_0 100%_0 0_100%
"""
BATCH = 100
_HIGH_PX = 120


@dataclass(frozen=True, slots=True)
class Sample:
    declaration: str
    around: str

    def html(self, words: str) -> str:
        return AROUND[self.around].format(d=escape(self.declaration, quote=True), w=words)


async def declarations(only: str) -> list[str]:
    """Those that Chromium takes, in the order of their names."""
    async with hidden.open_page() as page:
        pairs: list[list[str]] = await page.evaluate(
            """([only, values]) => {
              const names = [...new Set(Array.from(getComputedStyle(document.body))
                .concat(Object.keys(document.body.style)
                  .map(one => one.replace(/[A-Z]/g, big => '-' + big.toLowerCase()).replace(/^webkit-/, '-webkit-'))
                  .filter(one => CSS.supports(one, 'initial'))))].sort();
              return names.filter(one => one.includes(only)).flatMap(name => values
                .map(value => value.replace(/_/g, ' ')).filter(value => CSS.supports(name, value))
                .map(value => [name, value]));
            }""",
            [only, VALUES.split()],
        )
    return [f"{name}: {value}" for name, value in pairs]


def word_of(number: int) -> str:
    """One that stands in no other sample."""
    return "MIHN" + "".join("HIMNUTEL"[number >> shift & 7] for shift in (9, 6, 3, 0))


def read(samples: Sequence[Sample]) -> list[bool]:
    """Of each, whether the reader of styles keeps its words."""
    words = [word_of(at) for at in range(len(samples))]
    text = readable("\n".join(map(Sample.html, samples, words))).text
    return [word in text for word in words]


async def painted(page: Page, samples: Sequence[Sample]) -> list[bool]:
    """Of each, whether other words in all of them would look otherwise where it stands."""
    height = len(samples) * _HIGH_PX
    pictures = []
    for word in hidden.PAIRS[0]:
        rows = (
            f'<section style="position:absolute;top:{at * _HIGH_PX}px;height:{_HIGH_PX}px;left:0;right:0">'
            f"{one.html(word)}</section>"
            for at, one in enumerate(samples)
        )
        await page.set_content(f"<!doctype html><body style='margin:0;height:{height}px'>" + "\n".join(rows))
        clip: Any = {"x": 0, "y": 0, "width": 800, "height": height}
        pictures.append(base64.b64encode(await page.screenshot(full_page=True, clip=clip)).decode())
    found: list[bool] = await page.evaluate(_DIFFER, [pictures, _HIGH_PX])
    return found


_DIFFER = """async ([pictures, high]) => {
  const [one, other] = await Promise.all(pictures.map(async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes]));
    const context = new OffscreenCanvas(picture.width, picture.height).getContext('2d', {willReadFrequently: true});
    context.drawImage(picture, 0, 0);
    return context.getImageData(0, 0, picture.width, picture.height);
  }));
  const row = 4 * one.width * high;
  return Array.from({length: one.height / high}, (_, number) => {
    for (let at = number * row; at < (number + 1) * row; at++) {
      if (Math.abs(one.data[at] - other.data[at]) > 2) return true;
    }
    return false;
  });
}"""


async def differing(samples: Sequence[Sample]) -> AsyncIterator[tuple[Sample, bool]]:
    """(sample, whether the reader leaks it), where the reader and Chromium differ."""
    async with hidden.open_page() as page:
        for at in range(0, len(samples), BATCH):
            batch = samples[at : at + BATCH]
            for one, keeps, shows in zip(batch, read(batch), await painted(page, batch), strict=True):
                if keeps and not shows and read([one])[0] and not await hidden.seen(page, one.html("{word}")):
                    yield one, True
                elif shows and not keeps and not read([one])[0]:
                    yield one, False
            print(f"{min(at + BATCH, len(samples)):,} of {len(samples):,}", end="\r", file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--every", type=int, default=1, help="each so many declarations alone")
    parser.add_argument("--offset", type=int, default=0, help="with --every: the first of them")
    parser.add_argument("--only", default="", help="properties whose name has this")
    parser.add_argument("--around", choices=AROUND, action="append", help="in these surroundings; by default in all")
    parser.add_argument("--leaks", action="store_true", help="print no lost words")
    given = parser.parse_args(words)
    asyncio.run(sweep(given))
    return 0


async def sweep(given: argparse.Namespace) -> None:
    found = (await declarations(given.only))[given.offset :: given.every]
    samples = [Sample(one, around) for around in given.around or AROUND for one in found]
    counted: Counter[str] = Counter()
    async for sample, leaked in differing(samples):
        what = "LEAKED" if leaked else "lost"
        counted[what] += 1
        if leaked or not given.leaks:
            print(f"{what:<8}{sample.around:<20}{sample.declaration}", flush=True)
    print(f"{len(samples):,} samples, {counted['LEAKED']} leaked, {counted['lost']} lost")


if __name__ == "__main__":
    sys.exit(main())
