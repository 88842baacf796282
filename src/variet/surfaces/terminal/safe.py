"""Pure: text of models and tools, made safe for a terminal: no escape sequences, no other control characters."""

from __future__ import annotations

import re

# C0 but for line end and tab, DEL, C1, and what turns the direction of writing around.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")


def safe(text: str) -> str:
    return _UNSAFE.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))
