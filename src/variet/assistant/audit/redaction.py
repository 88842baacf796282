"""Takes out of every log line what looks like a secret, whoever logs it: a library's error may hold a token."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

# Google's access and refresh tokens, codes and client secrets, by their looks; others by the name before them.
_LOOKS = re.compile(r"ya29\.[\w.-]+|1//[\w-]{20,}|\b4/[\w-]{20,}|GOCSPX-[\w-]+")
_NAMED = re.compile(
    r"(?i)\b(bearer\s+|(?:pin|secret|handle|(?:access|refresh|id)_token|client_secret|code|code_verifier)"
    r"""["']?\s*[:=]\s*["']?)[^\s"'&,;})\]]{4,}"""
)


def redacted(text: str) -> str:
    return _NAMED.sub(r"\1…", _LOOKS.sub("…", text))


def install() -> None:
    """For every logger and handler of this process."""
    logging.setLogRecordFactory(_record)


def _record(*args: Any, **more: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **more)
    try:
        record.msg, record.args = redacted(record.getMessage()), ()
    except (TypeError, ValueError):  # it does not fit its arguments: logging tells that itself, without them
        record.msg, record.args = "a log line that does not fit its arguments", ()
    if record.exc_info and record.exc_info[0] is not None:
        # Formatters take what stands here; others would write it anew.
        record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info)).rstrip())
        record.exc_info = None
    return record
