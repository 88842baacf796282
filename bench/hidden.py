"""What nobody sees, and whether a model reads it: the vectors of tests/fixtures/hidden, painted by Chromium and cleaned
by the assistant.

`first.json` is to learn from. `unseen.json` is held out: print no more than its `--total`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support import hidden
from tests.support.hidden import Vector

from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.text import readable


@dataclass(frozen=True, slots=True)
class Outcome:
    kind: str
    name: str
    hidden: bool
    leaked: bool


def leaks(vector: Vector) -> bool:
    """Whether the word can be read from the cleaned page, or from what is told of it."""
    page = hidden.filled(vector.html, hidden.WORD)
    try:
        told = [cleaned(page)[0].text_content(), readable(page).text]
    except RecursionError:  # the page is refused
        return False
    return any(hidden.survives(vector.html, one) for one in told)


async def outcomes(vectors: Sequence[Vector], *, painted: bool) -> AsyncIterator[Outcome]:
    """Without `painted`, it is taken for granted that Chromium hides them."""
    if not painted:
        for one in vectors:
            yield Outcome(one.kind, one.name, True, leaks(one))
        return
    async with hidden.open_page() as page:
        for one in vectors:
            yield Outcome(one.kind, one.name, not await hidden.seen(page, one.html), leaks(one))


def table(found: Sequence[Outcome]) -> list[str]:
    """By kind: how many Chromium hides, and how many of these leak."""
    lines = ["| kind | vectors | hidden | leaked |", "|---|---|---|---|"]
    kinds = list(dict.fromkeys(one.kind for one in found))
    groups = [(kind, [one for one in found if one.kind == kind]) for kind in kinds]
    for name, among in [*groups, ("**all**", list(found))]:
        unseen = [one for one in among if one.hidden]
        lines.append(f"| {name} | {len(among)} | {len(unseen)} | {sum(one.leaked for one in unseen)} |")
    return lines


async def measured(vectors: Sequence[Vector], *, painted: bool, quiet: bool) -> list[Outcome]:
    found: list[Outcome] = []
    async for one in outcomes(vectors, painted=painted):
        found.append(one)
        if quiet:
            print(f"{len(found)} of {len(vectors)}", end="\r", file=sys.stderr, flush=True)
        else:
            state = f"{'hidden' if one.hidden else 'SEEN':<8}{'LEAKED' if one.leaked else 'clean':<8}"
            print(f"{one.kind:<24}{state}{one.name}", flush=True)
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hidden", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--file", type=Path, default=hidden.FIXTURES / "first.json")
    parser.add_argument("--only", default="", help="vectors whose name or kind has this")
    parser.add_argument("--unpainted", action="store_true", help="without Chromium: take it that it hides them")
    parser.add_argument("--total", action="store_true", help="print the last line alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(words)
    vectors = [one for one in hidden.load(given.file) if given.only in f"{one.name} {one.kind}"]
    quiet = given.total or given.json
    found = asyncio.run(measured(vectors, painted=not given.unpainted, quiet=quiet))
    if given.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    elif given.total:
        print(table(found)[-1])
    else:
        print("\n" + "\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
