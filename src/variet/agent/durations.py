"""How long a test runner says that it took. It changes from run to run where nothing else does: taken out, the same
failure reads the same, a repeated one is known for what it is, and with the same seed a model says the same again.
"""

from __future__ import annotations

import re

_TOOK = r"\d+(?:[.,]\d+)?\s?(?:ns|µs|us|ms|s|secs?|seconds?)(?: \(\d+:\d\d:\d\d\))?"
_COUNT = (
    r"\b\d+ (?:passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?|tests?|passing|failing|pending|"
    r"filtered out)\b"
)
# At the end of a line that counts: pytest, unittest, cargo, mocha.
_TOTALS = re.compile(rf"^(?P<kept>.*{_COUNT}.*?)(?:[ ;]+(?:finished )?in {_TOOK}| \({_TOOK}\))(?=[ =]*$)", re.MULTILINE)
# A line of its own: jest, vitest, rspec, ctest.
_LINES = re.compile(
    rf"^[ \t]*(?:(?:Time:|Duration|Finished in|Total Test time \(real\) =)[ \t]+{_TOOK}.*|Start at[ \t]+[\d:]+)\n?",
    re.MULTILINE,
)
# A package, or a test: go.
_PACKAGES = re.compile(rf"^(?P<kept>(?:ok|FAIL|PASS|--- \w+:)[ \t].*?)[ \t]+(?:{_TOOK}|\({_TOOK}\))$", re.MULTILINE)


def without_durations(text: str) -> str:
    """The same text without them. Only what runners say in their own lines: a time in a failed assertion stays."""
    text = _TOTALS.sub(lambda match: match["kept"], text)
    return _PACKAGES.sub(lambda match: match["kept"], _LINES.sub("", text))
