"""What a person would see of a page or a mail: an installed Chromium paints it, and `painter.py` looks at the picture.

Without such a browser, or where it fails, `html.py` reads the styles by itself, and takes out more than it must.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

from variet import processes
from variet.assistant.environment import BROWSER

log = logging.getLogger(__name__)

_START_S, _PAGE_S, _IDLE_S = 20.0, 40.0, 300.0
_MOST_CHARS = 3_000_000  # of a page and its sheets
_SLOW, AT_ONCE = "it did not answer in time", "it leads to another page at once"
_REASONS = (_SLOW, AT_ONCE)
_MOST_FAILURES = 3  # one after the other: then the browser is left alone
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "microsoft-edge", "brave-browser",
          "chrome", "msedge")  # fmt: skip
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "{PROGRAMFILES}/Google/Chrome/Application/chrome.exe",
    "{PROGRAMFILES(X86)}/Microsoft/Edge/Application/msedge.exe",
    "{PROGRAMFILES}/Microsoft/Edge/Application/msedge.exe",
)
_ENVIRONMENT = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LOCALAPPDATA", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Seen:
    """`html`: the page again, with the words that are seen alone, and without styles. `hidden`: passages that are not
    seen. `cut`: there was no time for all of it. `failed`: why nothing can be said of this page."""

    html: str
    title: str
    hidden: int
    cut: bool
    failed: str = ""


class Sight(Protocol):
    def look(self, html: str, url: str, sheets: Mapping[str, str]) -> Seen | None:
        """`url`: of the page; `sheets`: its style sheets from elsewhere, by address. None: there is no browser."""
        ...

    def sheets(self, html: str, url: str) -> list[str] | None:
        """The addresses of the style sheets that a page asks for."""
        ...


def find_browser(wish: str = "auto") -> str | None:
    """Path of a Chromium. `wish`: `auto`, `off`, or a path."""
    if wish == "off":
        return None
    if wish != "auto":
        return shutil.which(wish)
    places = (place.format_map(_Known(os.environ)) for place in _PLACES)
    return next((found for found in map(shutil.which, (*_NAMES, *places)) if found), None)


class _Known(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "/nowhere"


def sight_for(wish: str = "auto") -> BrowserSight | None:
    """Of the browser that is found; `VARIET_BROWSER` in the environment goes first. It ends with this process."""
    found = find_browser(os.environ.get(BROWSER) or wish)
    if found is None:
        return None
    sight = BrowserSight(found)
    atexit.register(sight.close)
    return sight


class BrowserSight:
    """A browser that starts with the first page and ends when nothing was asked of it for five minutes. One page at a
    time; calls block: they belong in a thread."""

    def __init__(self, executable: str) -> None:
        self.executable = executable
        self.why = ""  # what went wrong last
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._idle: threading.Timer | None = None
        self._failures = 0

    def look(self, html: str, url: str, sheets: Mapping[str, str]) -> Seen | None:
        if len(html) + sum(map(len, sheets.values())) > _MOST_CHARS:
            return Seen("", "", 1, True, "it is too large")
        answer = self._answered({"html": html, "url": url, "sheets": dict(sheets)})
        if answer is None:
            return None
        if self.why:
            # A model reads the reason: words of the page, which a browser's error may have, are none.
            return Seen("", "", 1, True, self.why if self.why in _REASONS else "a browser could not paint it")
        return Seen(str(answer["html"]), str(answer["title"]), int(answer["hidden"]), bool(answer["cut"]))

    def sheets(self, html: str, url: str) -> list[str] | None:
        answer = self._answered({"html": html, "url": url}) if len(html) <= _MOST_CHARS else None
        return None if answer is None or self.why else [str(one) for one in answer["sheets"]]

    def _answered(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """None: no browser starts. With `why`: this page made it fail; nothing is said of such a page, lest it chooses
        how it is read."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                if self._failures >= _MOST_FAILURES:
                    return None
                try:
                    self._start()
                except (OSError, ValueError, queue.Empty) as error:
                    self._failures += 1
                    self.why = str(error) or "it did not start in time"
                    log.warning("the browser that says what is seen does not start: %s", self.why)
                    self._end()
                    return None
                self._failures = 0
            try:
                answer = self._ask(request)
            except (OSError, ValueError, queue.Empty) as error:
                self.why = str(error) or _SLOW
                self._end()
                return {}
            self._wait()
            self.why = str(answer.get("error", ""))
            return answer

    def close(self) -> None:
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError, ValueError, queue.Empty."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer(_PAGE_S)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        line = self._lines.get(timeout=limit_s)
        if not line:
            raise OSError("it ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def _start(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="variet-sight-", ignore_cleanup_errors=True)
        words = [sys.executable, "-m", "variet.assistant.sanitize.painter", self.executable, self._home.name]
        known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        known["TMPDIR"] = known["TEMP"] = known["TMP"] = self._home.name
        self._process = subprocess.Popen(
            processes.behind_keeper(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", errors="replace", env=known, cwd=self._home.name,
            creationflags=0x08000000 if os.name == "nt" else 0, start_new_session=os.name != "nt",
        )  # fmt: skip
        if os.name == "nt":
            processes.leash().hold(self._process.pid)
        self._lines = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
        if "error" in (ready := self._answer(_START_S)):
            raise OSError(ready["error"])

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(_IDLE_S, self.close)
        self._idle.daemon = True
        self._idle.start()

    def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is not None:
            with contextlib.suppress(OSError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
            self._process.terminate()  # the keeper ends the browser, too
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process = None
        if self._home is not None:
            self._home.cleanup()
            self._home = None


def _read(source: IO[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError, OSError), source:
        for line in source:
            lines.put(line)
    lines.put("")
