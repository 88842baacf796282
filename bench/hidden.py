"""What nobody sees, and whether a model reads it: the vectors of tests/fixtures/hidden, painted by Chromium and cleaned
by the assistant.

A file that was looked at says little more of the cleaner than that it forgets nothing. What comes through of pages that
were not thought of, a new file says, written without knowing the cleaner, and printed by `--total` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support import benign, hidden
from tests.support.hidden import Vector

from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.sight import Sight, sight_for
from variet.assistant.sanitize.text import readable


@dataclass(frozen=True, slots=True)
class Outcome:
    """`leaked`: without a browser; `by_sight`: with the assistant's browser."""

    kind: str
    name: str
    hidden: bool
    leaked: bool
    by_sight: bool


def leaks(vector: Vector, sight: Sight | None = None) -> bool:
    """Whether the word can be read from the cleaned page, or from what is told of it."""
    page = hidden.filled(vector.html, hidden.WORD)
    try:
        found = readable(page, sight=sight).text
        told = [found] if sight else [found, cleaned(page)[0].text_content()]
    except RecursionError:  # the page is refused
        return False
    return any(hidden.survives(vector.html, one) for one in told)


async def outcomes(vectors: Sequence[Vector], *, painted: bool) -> AsyncIterator[Outcome]:
    """Without `painted`, it is taken for granted that Chromium hides them, and the assistant has no browser."""
    if not painted:
        for one in vectors:
            yield Outcome(one.kind, one.name, True, leaks(one), False)
        return
    sight = sight_for()
    assert sight is not None, "there is no Chromium: make test-tools"
    try:
        async with hidden.open_page() as page:
            for one in vectors:
                by_sight = await asyncio.to_thread(leaks, one, sight)
                yield Outcome(one.kind, one.name, not await hidden.seen(page, one.html), leaks(one), by_sight)
    finally:
        sight.close()


def table(found: Sequence[Outcome]) -> list[str]:
    """By kind: how many Chromium hides, and how many of these leak."""
    lines = ["| kind | vectors | hidden | leaked without a browser | with a browser |", "|---|---|---|---|---|"]
    kinds = list(dict.fromkeys(one.kind for one in found))
    groups = [(kind, [one for one in found if one.kind == kind]) for kind in kinds]
    for name, among in [*groups, ("**all**", list(found))]:
        unseen = [one for one in among if one.hidden]
        leaked, by_sight = sum(one.leaked for one in unseen), sum(one.by_sight for one in unseen)
        lines.append(f"| {name} | {len(among)} | {len(unseen)} | {leaked} | {by_sight} |")
    return lines


async def measured(vectors: Sequence[Vector], *, painted: bool, quiet: bool) -> list[Outcome]:
    found: list[Outcome] = []
    async for one in outcomes(vectors, painted=painted):
        found.append(one)
        if quiet:
            print(f"{len(found)} of {len(vectors)}", end="\r", file=sys.stderr, flush=True)
        else:
            state = f"{'hidden' if one.hidden else 'SEEN':<8}{'LEAKED' if one.leaked else 'clean':<8}"
            state += "BY SIGHT " if one.by_sight else ""
            print(f"{one.kind:<24}{state}{one.name}", flush=True)
    return found


def kept(sight: Sight | None) -> list[str]:
    """Returns a line for each seen sentence that is lost and for each hidden sentence that is kept, then the totals."""
    lines, lost_all, left_all = [], 0, 0
    documents = benign.load()
    for document in documents:
        text = " ".join(cleaned(document.html, sight=sight)[0].text_content().split())
        lost = [one for one in document.seen if one not in text]
        left = [one for one in document.unseen if one in text]
        lost_all, left_all = lost_all + len(lost), left_all + len(left)
        lines += [f"{document.name}: lost: {one[:70]}" for one in lost]
        lines += [f"{document.name}: hidden, but kept: {one[:70]}" for one in left]
    seen, unseen = (sum(len(getattr(one, name)) for one in documents) for name in ("seen", "unseen"))
    return [*lines, f"lost {lost_all} of {seen} seen sentences, kept {left_all} of {unseen} hidden ones"]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hidden", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--file", type=Path, action="append", help="by default all of tests/fixtures/hidden")
    parser.add_argument("--only", default="", help="vectors whose name or kind has this")
    parser.add_argument("--unpainted", action="store_true", help="without Chromium: take it that it hides them")
    parser.add_argument("--total", action="store_true", help="print the last line alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--benign", action="store_true", help="which sentences of honest mails and pages are lost")
    given = parser.parse_args(words)
    if given.benign:
        sight = sight_for()
        for name, one in (("without a browser", None), ("with a browser", sight)):
            print(f"{name}:\n  " + "\n  ".join(kept(one)), flush=True)
        return 0
    files = given.file or hidden.files()
    vectors = [one for file in files for one in hidden.load(file) if given.only in f"{one.name} {one.kind}"]
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
