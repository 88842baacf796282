"""A program: says what of a page can be seen, by what Chromium paints of it. `sight.py` starts it.

One request a line, as JSON: `{"html", "url", "sheets": {address: text}}`. One answer: `{"html", "title", "hidden",
"cut"}`, or `{"error"}`. A page is painted with its words and without them. A word is seen where the two pictures differ
in most of its letters. Words that lie on each other are taken away layer by layer. A page is painted in a narrow window
and in a wide window, in light colours: a word counts that is seen in both.

Scripts never run, nothing is fetched, and memory is bounded.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Playwright, Route, sync_playwright
from playwright.sync_api import Error as PlaywrightError

_MOST_BYTES = 2 << 30  # of memory, of each process
# Widths of two windows, each from a range: a page could show words in a window of one known width alone.
_WIDTHS = ((780, 820), (1300, 1500))
_TILE_PX = 4_000
_MOST_TILES = 16  # of a view
_MOST_WIDTH_PX = 4_000
_COLUMNS, _ROWS, _SMALLEST_PX = 4, 12, 20  # how far a box is scrolled, in boxes; nobody scrolls a smaller one
_SHADES = 16  # of 256: a difference that can be seen
_MOST_OF_IT = 0.6  # of a word's letters
_NOBODY = 65534
_TOLD = [
    "a", "p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody",
    "tfoot", "tr", "td", "th", "caption", "blockquote", "pre", "code", "br", "hr", "img", "article", "section", "main",
    "header", "footer", "nav", "aside", "address", "figure", "figcaption", "details", "summary", "form", "fieldset",
    "center", "b", "strong", "i", "em", "u", "s", "del", "ins", "sub", "sup", "q", "cite", "time", "kbd", "samp", "tt",
]  # fmt: skip
# No script runs. JavaScript is not switched off in another way: the words in `<noscript>` would be shown then.
_POLICY = (
    "default-src 'none'; style-src * data: 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; "
    "frame-src 'none'"
)
_FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio",
          "--host-resolver-rules=MAP * ~NOTFOUND", "--renderer-process-limit=2")  # fmt: skip
_REFRESH = re.compile(r"http-equiv\s*=\s*[\"']?\s*refresh", re.IGNORECASE)
_EMBEDDED_FONT = re.compile(r"@font-face", re.IGNORECASE)
_MOVES = re.compile(r"data:image/(?:gif|webp|apng|png|svg|avif)|<marquee|<svg", re.IGNORECASE)


class Painter:
    """A browser with two tabs: the page's, and one that compares pictures."""

    def __init__(self, playwright: Playwright, executable: str, home: Path) -> None:
        self._script = Path(__file__).with_name("painter.js").read_text(encoding="utf-8")
        self._answers: dict[str, str] = {}  # by address
        self._context = playwright.chromium.launch_persistent_context(
            home / "profile", executable_path=_wrapped(executable, home), chromium_sandbox=True,
            service_workers="block", accept_downloads=False, args=[*_FLAGS],
            env={"HOME": str(home), "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        )  # fmt: skip
        self._context.route("**/*", self._answer)
        self._judge = self._context.new_page()
        self._page, self._screen = self._tab()

    def close(self) -> None:
        self._context.close()

    def paint(self, html: str, url: str, sheets: dict[str, str]) -> dict[str, Any]:
        """Raises PlaywrightError, LargePage."""
        fonts = any(map(_EMBEDDED_FONT.search, (html, *sheets.values())))
        moves = any(map(_MOVES.search, (html, *sheets.values())))
        html = _REFRESH.sub("x=", html)
        address = url.partition("#")[0] if url.startswith(("http://", "https://")) else "http://mail.invalid/"
        self._answers = {**sheets, address: html}
        seen: list[bool] | None = None
        cut = False
        try:
            for narrow, wide in _WIDTHS:
                width = narrow + secrets.randbelow(wide - narrow)
                self._page.set_viewport_size({"width": width, "height": width * 3 // 4})
                here, cut_here = self._view(address, fonts=fonts, moves=moves)
                seen = here if seen is None else [one and other for one, other in zip(seen, here, strict=True)]
                cut = cut or cut_here
            told = self._run("told", [seen, _TOLD])
            return {**told, "title": self._page.title(), "cut": cut}
        finally:
            self._answers = {}
            self._page.close()  # with all that it did
            self._page, self._screen = self._tab()

    def _tab(self) -> tuple[Page, CDPSession]:
        page = self._context.new_page()
        return page, self._context.new_cdp_session(page)

    def _view(self, address: str, *, fonts: bool, moves: bool) -> tuple[list[bool], bool]:
        """(for each word whether it is seen, whether the page goes on below)."""
        self._page.goto(address, wait_until="load", timeout=10_000)
        if fonts:
            self._page.wait_for_timeout(200)
        found = self._run("setUp", None)
        if found["much"]:
            raise LargePage
        seen = [False] * found["words"]
        cut = False
        steps = [(0, 0)]
        for step in steps:
            layout = self._run("layOut", [*step, seen, fonts, _SMALLEST_PX])
            if step == (0, 0):
                columns, rows = map(min, (_COLUMNS, _ROWS), layout["steps"])
                steps += itertools.product(range(columns), range(rows))
                del steps[1]
            votes = [[0, 0] for _ in seen]  # letters that have a place, and seen ones
            cut = self._look(layout, votes, moves=moves) or cut
            seen = [was or (count > 0 and count >= _MOST_OF_IT * places)
                    for was, (places, count) in zip(seen, votes, strict=True)]  # fmt: skip
        return _with_soft(seen, found["texts"], found["soft"]), cut

    def _look(self, layout: dict[str, Any], votes: list[list[int]], *, moves: bool) -> bool:
        width = min(layout["size"]["width"], _MOST_WIDTH_PX)
        height = layout["size"]["height"]
        tiles = range(0, min(height, _TILE_PX * _MOST_TILES), _TILE_PX)
        by_tile: dict[int, list[tuple[int, int, list[float]]]] = {}
        for word, layer, boxes in layout["boxes"]:
            for box in boxes:
                votes[word][0] += 1
                if box is None:
                    continue
                middle_x, middle_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                if 0 <= middle_x < width and 0 <= middle_y < height:
                    by_tile.setdefault(int(middle_y // _TILE_PX), []).append((word, layer, box))
        for number, top in enumerate(tiles):
            boxes = by_tile.get(number)
            if boxes:
                clip = {"x": 0, "y": top, "width": width, "height": min(_TILE_PX, height - top), "scale": 1}
                for word, count in self._judged(clip, boxes, layout["layers"], moves=moves):
                    votes[word][1] += count
        return bool(by_tile) and max(by_tile) >= len(tiles)

    def _judged(
        self, clip: dict[str, Any], boxes: list[tuple[int, int, list[float]]], layers: int, *, moves: bool
    ) -> Iterator[tuple[int, int]]:
        """For each letter: its word, and whether it is seen."""
        self._run("hide", -1)
        shown = self._picture(clip)
        still = None
        for layer in range(layers + 1):
            among = [one for one in boxes if one[1] == layer]
            if not among:
                continue
            self._run("hide", layer)
            found = self._differ(shown, self._picture(clip), among, clip["y"])
            if moves:  # what differs by itself is no letter
                self._run("hide", -1)
                still = still or self._picture(clip)
                restless = self._differ(shown, still, among, clip["y"])
                found = [one and not other for one, other in zip(found, restless, strict=True)]
            yield from ((word, int(seen)) for (word, _, _), seen in zip(among, found, strict=True))
        self._run("hide", -1)

    def _differ(self, one: str, other: str, boxes: Sequence[tuple[int, int, list[float]]], top: float) -> list[int]:
        if one == other:
            return [0] * len(boxes)
        moved = [[left, above - top, right, below - top] for _, _, (left, above, right, below) in boxes]
        found: list[int] = self._call(self._judge, "differ", [one, other, moved, _SHADES])
        return found

    def _picture(self, clip: dict[str, Any]) -> str:
        answer = self._screen.send(
            "Page.captureScreenshot",
            {"format": "png", "clip": clip, "captureBeyondViewport": True, "optimizeForSpeed": True},
        )
        data: str = answer["data"]
        return data

    def _run(self, name: str, given: Any) -> Any:
        return self._call(self._page, name, given)

    def _call(self, page: Page, name: str, given: Any) -> Any:
        """As text both ways: a value of a hundred thousand parts takes Playwright minutes."""
        function = f"async text => JSON.stringify(await ({self._script}).{name}(JSON.parse(text)) ?? null)"
        return json.loads(page.evaluate(function, json.dumps(given)))

    def _answer(self, route: Route) -> None:
        text = self._answers.get(route.request.url)
        kind = route.request.resource_type
        if text is None or kind not in ("document", "stylesheet") or route.request.frame != self._page.main_frame:
            route.abort("aborted")
            return
        head = {"content-type": f"text/{'html' if kind == 'document' else 'css'}; charset=utf-8"}
        if kind == "document":
            head["content-security-policy"] = _POLICY
        route.fulfill(body=text.encode(errors="replace"), headers=head)


def _with_soft(seen: list[bool], texts: list[int], soft: list[bool]) -> list[bool]:
    """A dash, or a first letter that is drawn in its own way, is seen where a word beside it in its text is seen."""
    beside: list[list[int]] = [[] for _ in seen]
    for at in range(1, len(seen)):
        if texts[at] == texts[at - 1]:
            beside[at].append(at - 1)
            beside[at - 1].append(at)
    return [
        one or (soft[at] and any(seen[other] and not soft[other] for other in beside[at]))
        for at, one in enumerate(seen)
    ]


class LargePage(Exception):
    """It has more letters than are looked at."""

    def __str__(self) -> str:
        return "the page has more letters than are looked at"


def _wrapped(executable: str, home: Path) -> str:
    """Chromium's own sandbox does not start as root: root's browser runs as nobody."""
    if os.name == "nt" or os.getuid() != 0:
        return executable
    drop = shutil.which("setpriv")
    if drop is None:
        raise OSError("as root a browser needs `setpriv` (util-linux), to run as nobody")
    for folder in (home, home / "profile"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, _NOBODY, _NOBODY)
    script = home / "browser"
    words = shlex.join([drop, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--", executable])
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def main(words: Sequence[str]) -> None:
    """`words`: path of the browser, path of an empty folder."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with sync_playwright() as playwright:
        try:
            painter = Painter(playwright, words[0], Path(words[1]))
        except (PlaywrightError, OSError) as error:
            print(json.dumps({"error": _short(error)}), flush=True)
            return
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = painter.paint(request["html"], request["url"], request["sheets"])
            except (PlaywrightError, LargePage, ValueError, KeyError) as error:
                answer = {"error": _short(error)}
            print(json.dumps(answer), flush=True)
        painter.close()


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
