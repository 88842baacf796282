"""`python -m bench.plot RESULTS.jsonl OUT.svg`: the bench of conversations as bars on a logarithmic scale, as SVG."""

from __future__ import annotations

import html
import math
import sys
from pathlib import Path
from typing import Any

from bench.results import Results

_WIDTH, _ROW, _BAR = 860, 74, 16
_LEFT, _RIGHT, _TOP = 250, 70, 58
_COLOURS = ("#8b97a8", "#c98a3c", "#1f5fbf")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#3b4654}.quiet{fill:#76818f}line{stroke:#c9d0d9;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#dfe5ec}.quiet{fill:#9dabbc}line{stroke:#3a4554}}"
)


def drawn(rows: list[dict[str, Any]]) -> str:
    """An SVG of `rows`: each a case with `median`, milliseconds by contender."""
    names = list(rows[0]["median"])
    times = [ms / 1000 for row in rows for ms in row["median"].values()]
    low, high = 10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times)))
    span = _WIDTH - _LEFT - _RIGHT

    def x(seconds: float) -> float:
        return _LEFT + span * math.log10(seconds / low) / math.log10(high / low)

    height = _TOP + _ROW * len(rows) + 34
    words = "Seconds to the first token of a conversation that comes back after a swap"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{words}</title><style>{_STYLE}</style>",
        f'<text x="10" y="20">{words} (logarithmic)</text>',
    ]
    for place, name in enumerate(names):
        at = 10 + place * 230
        out.append(f'<rect x="{at}" y="30" width="12" height="12" fill="{_COLOURS[place]}"/>')
        out.append(f'<text x="{at + 18}" y="41">{html.escape(name)}</text>')
    mark = low
    while mark <= high:
        out.append(f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP}" y2="{height - 28}"/>')
        out.append(f'<text class="quiet" x="{x(mark):.1f}" y="{height - 10}" text-anchor="middle">{mark:g} s</text>')
        mark *= 10
    for index, row in enumerate(rows):
        top = _TOP + index * _ROW + 12
        out.append(
            f'<text x="{_LEFT - 10}" y="{top + 2 * _BAR - 3}" text-anchor="end">{html.escape(row["case"])}</text>'
        )
        for place, name in enumerate(names):
            y = top + place * (_BAR + 2)
            if name not in row["median"]:
                out.append(f'<text class="quiet" x="{_LEFT + 6}" y="{y + 13}">broke off</text>')
                continue
            seconds = row["median"][name] / 1000
            width = x(seconds) - _LEFT
            out.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[place]}"/>')
            out.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 13}">{seconds:.3g} s</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(drawn(Results(source, fresh=False).of("context")), encoding="utf-8")
