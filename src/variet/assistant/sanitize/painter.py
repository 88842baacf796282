"""A program: says what of a page can be seen, by what Chromium paints of it. `sight.py` starts it.

One request a line, as JSON: `{"html", "url", "sheets": {address: text}}`. One answer: `{"html", "title", "hidden",
"cut"}`, or `{"error"}`. Without `sheets` in the request, the answer is `{"sheets": [address]}`: what the page asks for.

A page is painted with its words and without them. A word is seen where the two pictures differ in most of its letters.
Words that lie on each other are taken away layer by layer. A page is painted in a narrow and in a wide window, in light
colours: a word counts that is seen in both.

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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Playwright, Route, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from variet.assistant.sanitize.sight import AT_ONCE

_MOST_BYTES = 2 << 30  # of memory, of each process
# Widths and heights of two windows, each from a range: a page could show words in a window of one known size alone.
_WINDOWS = (((780, 820), (560, 760)), ((1300, 1500), (760, 1000)))
_SCREEN = {"screenWidth": 1920, "screenHeight": 1080, "deviceScaleFactor": 1, "mobile": False}
_BUDGET_S = 13.0  # of a window: words that were not looked at by then are not seen
_COLUMNS, _ROWS, _SMALLEST_PX = 6, 40, 20  # how far a box is scrolled, in boxes; nobody scrolls a smaller one
_LEAST_SHADES = 14.0  # of 255, by brightness: a difference that can be seen
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
          "--host-resolver-rules=MAP * ~NOTFOUND", "--renderer-process-limit=2",
          "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
          ",imageAnimationPolicy=2,lazyLoadEnabled=false")  # a mouse; still images, all of them at once  # fmt: skip
_REFRESH = re.compile(r"http-equiv\s*=\s*[\"']?\s*refresh", re.IGNORECASE)
_AT_ONCE = re.compile(
    r"<meta\b(?=[^>]*http-equiv\s*=\s*[\"']?\s*refresh)[^>]*content\s*=\s*[\"']?\s*0*[01](?:\.\d*)?\s*[;,\"'>\s]",
    re.IGNORECASE,
)
_MOVES = re.compile(
    r"<(?:marquee|iframe|frame|progress|meter|svg|template|img|object|embed|input)\b|data:", re.IGNORECASE
)

Boxes = list[tuple[int, int, list[list[float] | None]]]  # of words: which, its layer, the boxes of its letters


class Painter:
    """A browser with two tabs: the page's, and one that compares pictures."""

    def __init__(self, playwright: Playwright, executable: str, home: Path) -> None:
        self._script = Path(__file__).with_name("painter.js").read_text(encoding="utf-8")
        self._document: str | None = None  # what the next document is
        self._sheets: dict[str, str] = {}  # by address
        self._missed: list[str] = []  # sheets that were asked for, and are not known
        self._deadline = 0.0
        self._context = playwright.chromium.launch_persistent_context(
            home / "profile", executable_path=_wrapped(executable, home), chromium_sandbox=True,
            service_workers="block", accept_downloads=False, args=[*_FLAGS], no_viewport=True,
            env={"HOME": str(home), "TMPDIR": str(home / "profile"), "PATH": os.environ.get("PATH", ""),
                 "LANG": "C.UTF-8"},
        )  # fmt: skip
        self._context.route("**/*", self._answer)
        self._judge = self._context.new_page()
        self._page, self._screen = self._tab()

    def close(self) -> None:
        self._context.close()

    def sheets(self, html: str, url: str) -> dict[str, Any]:
        """The addresses of a page's style sheets, as the browser writes them. Raises PlaywrightError."""
        try:
            self._open(html, url, {})
            return {"sheets": list(dict.fromkeys(self._missed))}
        finally:
            self._leave()

    def paint(self, html: str, url: str, sheets: dict[str, str]) -> dict[str, Any]:
        """Raises PlaywrightError."""
        moves = bool(_MOVES.search(html)) or any(map(_MOVES.search, sheets.values()))
        seen: list[bool] | None = None
        cut = False
        try:
            for widths, heights in _WINDOWS:
                width, height = (low + secrets.randbelow(high - low) for low, high in (widths, heights))
                self._screen.send("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, **_SCREEN})
                self._deadline = time.monotonic() + _BUDGET_S
                self._open(html, url, sheets)
                here, cut_here = self._view(height, moves=moves)
                seen = here if seen is None else [one and other for one, other in zip(seen, here, strict=True)]
                cut = cut or cut_here
            told = self._run("told", [seen, _TOLD])
            return {**told, "title": self._page.title(), "cut": cut}
        finally:
            self._leave()

    def _open(self, html: str, url: str, sheets: dict[str, str]) -> None:
        if _AT_ONCE.search(html):
            raise ValueError(AT_ONCE)
        address = url.partition("#")[0] if url.startswith(("http://", "https://")) else "http://mail.invalid/"
        self._document, self._sheets, self._missed = _REFRESH.sub("x=", html), sheets, []
        self._page.goto(address, wait_until="load", timeout=10_000)
        fonts = "Object.getOwnPropertyDescriptor(Document.prototype, 'fonts').get.call(document).size"
        if self._page.evaluate(fonts):
            self._page.wait_for_timeout(200)

    def _leave(self) -> None:
        self._document, self._sheets = None, {}
        self._page.close()  # with all that it did
        self._page, self._screen = self._tab()

    def _tab(self) -> tuple[Page, CDPSession]:
        page = self._context.new_page()
        page.bring_to_front()
        return page, self._context.new_cdp_session(page)

    def _view(self, height: int, *, moves: bool) -> tuple[list[bool], bool]:
        """(for each word whether it is seen, whether some were not looked at)."""
        found = self._run("setUp", None)
        self._screen.send("Animation.enable")
        self._screen.send("Animation.setPlaybackRate", {"playbackRate": 0})
        seen = [False] * len(found["soft"])
        cut = bool(found["cut"])
        steps = [(0, 0)]
        for step in steps:
            layout = self._run("layOut", [*step, seen, _SMALLEST_PX])
            if step == (0, 0):
                columns, rows = map(min, (_COLUMNS, _ROWS), layout["steps"])
                steps += [one for one in itertools.product(range(columns), range(rows)) if one != (0, 0)]
            if not self._look(layout, height, seen, moves=moves):
                cut = True
                break
        return _with_soft(seen, found["texts"], found["soft"]), cut

    def _look(self, layout: dict[str, Any], height: int, seen: list[bool], *, moves: bool) -> bool:
        """Window by window, as a person scrolls: what is fixed lies over other words each time. Marks the words that
        are seen. Whether there was time for all."""
        last = max(0, layout["size"]["height"] - height)
        tops = sorted({*range(0, last, max(1, height // 2)), last})
        for layer in range(layout["layers"]):
            words = [one for one in layout["boxes"] if one[1] == layer]
            for top in tops:
                here = [one for one in words if not seen[one[0]] and _is_within(one, top, top + height)]
                if not here:
                    continue
                if time.monotonic() > self._deadline:
                    return False
                self._run("hide", -1)
                at = self._run("scroll", top)
                shown = self._picture()
                self._run("hide", layer)
                without = self._picture()
                again = None
                if moves:
                    self._run("hide", -1)
                    again = self._picture()
                for word in self._judged(here, at, shown, without, again):
                    seen[word] = True
        self._run("hide", -1)
        return True

    def _judged(self, words: Boxes, top: float, shown: str, without: str, again: str | None) -> Iterator[int]:
        """Yields each word of which most letters are seen. A place that changes by itself shows no letter."""
        if shown == without:
            return
        boxes = [box for _, _, boxes in words for box in boxes if box]
        found = self._differ(shown, without, boxes, top)
        if again is not None and again != shown:
            restless = self._differ(shown, again, boxes, top)
            found = [one and not other for one, other in zip(found, restless, strict=True)]
        letters = iter(found)
        for word, _, each in words:
            count = sum(next(letters) for box in each if box)
            if count and count >= _MOST_OF_IT * len(each):
                yield word

    def _differ(self, one: str, other: str, boxes: list[list[float]], top: float) -> list[int]:
        moved = [[left, above - top, right, below - top] for left, above, right, below in boxes]
        found: list[int] = self._call(self._judge, "differ", [one, other, moved, _LEAST_SHADES])
        return found

    def _picture(self) -> str:
        self._run("settle", None)
        data: str = self._screen.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})["data"]
        return data

    def _run(self, name: str, given: Any) -> Any:
        return self._call(self._page, name, given)

    def _call(self, page: Page, name: str, given: Any) -> Any:
        """As text both ways: a value of a hundred thousand parts takes Playwright minutes."""
        function = f"async text => JSON.stringify(await ({self._script}).{name}(JSON.parse(text)) ?? null)"
        return json.loads(page.evaluate(function, json.dumps(given)))

    def _answer(self, route: Route) -> None:
        request = route.request
        text = None
        if request.frame == self._page.main_frame and request.resource_type == "document":
            text, self._document = self._document, None
            head = {"content-type": "text/html; charset=utf-8", "content-security-policy": _POLICY}
        elif request.resource_type == "stylesheet":
            text = self._sheets.get(request.url)
            head = {"content-type": "text/css; charset=utf-8"}
            if text is None:
                self._missed.append(request.url)
        if text is None:
            route.abort("aborted")
        else:
            route.fulfill(body=text.encode(errors="replace"), headers=head)


def _is_within(word: tuple[int, int, list[list[float] | None]], top: float, bottom: float) -> bool:
    return all(box is None or (box[1] >= top - 1 and box[3] <= bottom + 1) for box in word[2])


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


def _wrapped(executable: str, home: Path) -> str:
    """Chromium's own sandbox does not start as root: the browser of root runs as the user `nobody`."""
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
                if "sheets" in request:
                    answer = painter.paint(request["html"], request["url"], request["sheets"])
                else:
                    answer = painter.sheets(request["html"], request["url"])
            except (PlaywrightError, ValueError, KeyError) as error:
                answer = {"error": _short(error)}
            print(json.dumps(answer), flush=True)
        painter.close()


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
