"""What the engine did in the last weeks, in SQLite: requests, swaps and the journal. Names, times and counts, never
what was said.

Rows are gathered in memory and written by a thread every second, so nothing waits for the disk; a disk that fails costs
rows, and is said once. Reading opens a connection of its own: write-ahead logging lets both go on side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from variet import paths

log = logging.getLogger("variet.engine.history")
Kind = Literal["request", "swap", "moment"]
Rows = list[tuple[Any, ...]]
_WRITE_S = 1.0
_TIDY_S = 3600.0
_DAY_S = 86_400.0
_MOST_WAITING = 20_000  # rows, while the disk takes none
_BUSY_S = 5.0
_TABLES = """
create table if not exists happened (at real not null, kind text not null, model text not null, tier text not null,
  prompt integer not null, cached integer not null, output integer not null, row text not null);
create index if not exists happened_at on happened (kind, at);
"""


class History:
    """One an engine. `keep_days` may be changed at any time; 0 keeps nothing."""

    def __init__(self, path: Path, keep_days: float) -> None:
        self.path = path
        self.keep_days = keep_days
        self._waiting: Rows = []
        self._failed = False
        self._tidied_at = -_TIDY_S

    def add(self, kind: Kind, at: float, row: Mapping[str, Any]) -> None:
        """`at`: Unix seconds; `row`: as programs will get it again."""
        if self.keep_days <= 0 or len(self._waiting) >= _MOST_WAITING:
            return
        counts = (row.get("prompt_tokens") or 0, row.get("cached_tokens") or 0, row.get("output_tokens") or 0)
        text = json.dumps(row)
        self._waiting.append((at, kind, row.get("model") or "", row.get("tier") or "", *counts, text))

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            while True:
                await asyncio.sleep(_WRITE_S)
                await self.flush()
        finally:
            self._write(self._taken())

    async def flush(self) -> None:
        """Write what waits."""
        if self._waiting or time.monotonic() - self._tidied_at >= _TIDY_S:
            await asyncio.to_thread(self._write, self._taken())

    def latest(self, kind: Kind, *, before: float | None = None, most: int = 100) -> list[dict[str, Any]]:
        """Rows of a kind, the newest first, each with its `at`. Raises sqlite3.Error."""
        words = "select at, row from happened where kind = ? and at < ? order by at desc limit ?"
        with self._open(writing=False) as file:
            found = file.execute(words, (kind, before or 1e12, most)).fetchall()
        return [{"at": at, **json.loads(row)} for at, row in found]

    def rates(self, since: float, step_s: float) -> list[dict[str, Any]]:
        """Requests and tokens in steps of time from `since` on: those in which anything was. Raises sqlite3.Error."""
        words = (
            "select cast((at - ?) / ? as integer) as step, tier, count(*), sum(prompt), sum(cached), sum(output) "
            "from happened where kind = 'request' and at >= ? group by step, tier order by step"
        )
        with self._open(writing=False) as file:
            found = file.execute(words, (since, step_s, since)).fetchall()
        return [
            {
                "at": since + step * step_s, "tier": tier, "requests": count, "prompt_tokens": prompt,
                "cached_tokens": cached, "output_tokens": output,
            }
            for step, tier, count, prompt, cached, output in found
        ]  # fmt: skip

    # --- inside; in a thread ---

    def _taken(self) -> Rows:
        rows, self._waiting = self._waiting, []
        return rows

    def _write(self, rows: Rows) -> None:
        try:
            with self._open(writing=True) as file:
                file.executemany("insert into happened values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                if time.monotonic() - self._tidied_at >= _TIDY_S:
                    file.execute("delete from happened where at < ?", (time.time() - self.keep_days * _DAY_S,))
                    self._tidied_at = time.monotonic()
            self._failed = False
        except (sqlite3.Error, OSError, OverflowError, ValueError) as error:
            if not self._failed:
                log.warning("%s cannot be written; what happens is not kept meanwhile: %s", self.path, error)
            self._failed = True
            if any(word in str(error) for word in ("malformed", "not a database")):
                self._set_aside()

    def _set_aside(self) -> None:
        """A damaged file is kept under another name, and a new one begun."""
        with contextlib.suppress(OSError):
            self.path.replace(self.path.with_suffix(".damaged"))
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _open(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        if writing:
            paths.private_dir(self.path.parent)
            if not self.path.exists():
                self.path.touch(0o600)
        file = sqlite3.connect(self.path, timeout=_BUSY_S)
        try:
            if writing:
                file.execute("pragma journal_mode = wal")
                file.execute("pragma synchronous = normal")
                file.executescript(_TABLES)
            with file:
                yield file
        finally:
            file.close()
