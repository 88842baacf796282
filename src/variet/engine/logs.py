"""The engine's own log: one JSON object a line, in a private file that stays small; people see what matters on stderr.

Requests are told by their names, times and counts, never by what they say.
"""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import queue
import sys
from pathlib import Path
from typing import Any

from variet import paths

_LIMIT_BYTES = 8 << 20


class JsonLines(logging.Formatter):
    """`ts` (ISO 8601, UTC), `level`, `logger`, `message`, then whatever was given as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()
        }  # fmt: skip
        line |= getattr(record, "fields", {})
        if record.exc_text or record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps(line, ensure_ascii=False, default=str)


def engine_log() -> Path:
    return paths.state_dir() / "logs" / "engine.log"


def start(*, verbose: bool, as_json: bool) -> logging.handlers.QueueListener:
    """Log to the file (INFO and above) and to stderr (WARNING, or INFO if `verbose`); `stop()` the result at the end.

    Written by a thread of its own: a slow disk delays no answer.
    """
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO if verbose else logging.WARNING)
    text = logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s")
    console.setFormatter(JsonLines() if as_json else text)
    console.addFilter(_expected)
    handlers: list[logging.Handler] = [console]
    try:
        file = _PrivateFile(engine_log(), maxBytes=_LIMIT_BYTES, backupCount=1, encoding="utf-8")
        file.setFormatter(JsonLines())
        file.addFilter(_expected)
        handlers.append(file)
    except OSError as error:
        print(f"variet: no log file: {error}", file=sys.stderr)
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    root = logging.getLogger()
    root.handlers = [_AsItIs(waiting)]
    root.setLevel(logging.WARNING)
    logging.getLogger("variet").setLevel(logging.INFO)
    listener = logging.handlers.QueueListener(waiting, *handlers, respect_handler_level=True)
    listener.start()
    return listener


class _AsItIs(logging.handlers.QueueHandler):
    """Formatting is the listener's work; within one process nothing needs to be pickled."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Mode 0600, in a folder of mode 0700."""

    def _open(self) -> Any:
        paths.private_dir(Path(self.baseFilename).parent)
        stream = super()._open()
        Path(self.baseFilename).chmod(0o600)
        return stream


def _expected(record: logging.LogRecord) -> bool:
    """A body that the relay aborts on purpose is no server error."""
    return "without completing response" not in str(record.msg)
