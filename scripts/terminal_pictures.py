"""Pictures of `variet code` for the documentation: the real program in a real terminal, on a scripted model.

`python scripts/terminal_pictures.py` writes docs/terminal/*.svg.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.agent import call, scripted  # noqa: E402
from tests.support.terminal import Terminal, terminal  # noqa: E402

OUT = ROOT / "docs" / "terminal"
_NAMES = {"brown": "yellow"}  # as pyte calls the third colour
# Fonts of whoever looks: a picture fetches nothing.
_PLAIN = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-family: system-ui, sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
SCRIPT = [
    {
        "say": "The sum is taken for a difference. I mend that first.",
        **call("edit", path="sums.py", old="return a - b", new="return a + b"),
    },
    {"say": "Now the tests.", **call("shell", command="python -m pytest -q")},
    {"say": "`add` adds again: it subtracted its second argument. The test passes."},
]


def picture(shown: Terminal, title: str, path: Path) -> None:
    """What stands on the screen, as a picture."""
    screen = shown.pyte_screen
    lines = screen.display
    last = max(at for at, line in enumerate(lines) if line.strip())
    console = Console(record=True, width=screen.columns, file=io.StringIO(), force_terminal=True)
    for row in range(last + 1):
        text = Text(no_wrap=True)
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        for style, alike in itertools.groupby(cells, _style):
            text.append("".join(cell.data for cell in alike), style)
        text.rstrip()
        console.print(text, crop=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text(console.export_svg(title=title, code_format=_PLAIN, unique_id=path.stem), encoding="utf-8")
    print(path.relative_to(ROOT))


def _style(cell: pyte.screens.Char) -> Style:
    def colour(name: str) -> str | None:
        if name == "default":
            return None
        return (
            f"#{name}" if len(name) == 6 and all(one in "0123456789abcdef" for one in name) else _NAMES.get(name, name)
        )

    return Style(
        color=colour(cell.fg), bgcolor=colour(cell.bg), bold=cell.bold, italic=cell.italics,
        underline=cell.underscore, reverse=cell.reverse,
    )  # fmt: skip


@contextlib.contextmanager
def _shown_as(folder: Path) -> Iterator[Path]:
    """The folder under a name that is worth a picture."""
    link = Path(tempfile.gettempdir()) / "example"
    folder.rename(link)
    try:
        yield link
    finally:
        link.rename(folder)


async def main() -> None:
    with tempfile.TemporaryDirectory() as name, _shown_as(Path(name)) as folder:
        work = folder / "sums"
        work.mkdir()
        (work / "sums.py").write_text("def add(a, b):\n    return a - b\n")
        (work / "test_sums.py").write_text("from sums import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n")
        async with (
            scripted(folder, {"answers": SCRIPT}) as server,
            terminal(work, "code", rows=24, VARIET_ENGINE_URL=server.url) as shown,
        ):
            await shown.ready()
            shown.type("add in sums.py is wrong: mend it and run the tests\r")
            await shown.shows("[n]o, or say what instead")
            await shown.shows("+    return a + b")
            picture(shown, "variet code: an edit is asked for", OUT / "asking.svg")
            shown.type("y\r")
            await shown.shows("? $ python -m pytest -q")
            shown.type("s\r")
            await shown.shows("The test passes.")
            await shown.ready()
            picture(shown, "variet code: done", OUT / "done.svg")


if __name__ == "__main__":
    asyncio.run(main())
