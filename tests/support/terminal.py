"""A program in a real terminal: keys go in, and what it printed is read as people would, without escape sequences."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyte

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_=>])")


class Terminal:
    def __init__(self, master: int, process: asyncio.subprocess.Process, rows: int) -> None:
        self._master = master
        self.process = process
        self.raw = ""
        self._seen = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.pyte_screen = pyte.Screen(100, rows)
        self._stream = pyte.Stream(self.pyte_screen)

    @property
    def text(self) -> str:
        return _SEQUENCE.sub("", self.raw).replace("\r", "")

    def read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the program is gone
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
            return
        text = self._decoder.decode(data)
        self.raw += text
        self._stream.feed(text)
        for _ in range(data.count(b"\x1b[6n")):  # it asks where the cursor is
            os.write(self._master, f"\x1b[{self.pyte_screen.cursor.y + 1};{self.pyte_screen.cursor.x + 1}R".encode())

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def until(self, words: str, limit_s: float = 20.0) -> str:
        """Wait until it printed these words, after what was waited for before."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while True:
            at = self.text.find(words, self._seen)
            if at >= 0:
                self._seen = at + len(words)
                return self.text
            assert asyncio.get_running_loop().time() < deadline, f"no {words!r} in:\n{self.screen()}"
            await asyncio.sleep(0.02)

    def screen(self) -> str:
        """What stands there now."""
        return "\n".join(line.rstrip() for line in self.pyte_screen.display).rstrip()

    async def ready(self, limit_s: float = 20.0) -> None:
        """Wait for an empty prompt."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while "›" not in self.screen().splitlines():
            assert asyncio.get_running_loop().time() < deadline, f"no empty prompt on:\n{self.screen()}"
            await asyncio.sleep(0.02)

    async def shows(self, words: str, limit_s: float = 20.0) -> None:
        """Wait until these words stand on the screen: for what is drawn again in its place."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while words not in self.screen():
            assert asyncio.get_running_loop().time() < deadline, f"no {words!r} on:\n{self.screen()}"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def terminal(work: Path, *words: str, rows: int = 40, **env: str) -> AsyncIterator[Terminal]:
    """`variet ...` in a terminal of 100 columns."""
    import fcntl
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
    size = ("COLUMNS", "LINES")  # this terminal has its own size
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VARIET_") and name not in size}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "variet", *words, cwd=work, stdin=slave, stdout=slave, stderr=slave,
        env={**clean, "VARIET_HOME": str(work.parent / "home"), "TERM": "xterm-256color", **env},
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(master, process, rows)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, shown.read)
    try:
        yield shown
    finally:
        loop.remove_reader(master)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(master)
