"""Attacks on the assistant, end to end, by a model that obeys whatever it reads: the real servers, a real engine, a
real SearXNG, a strict Google (tests/support/attacks.py, siege.py). Run by `make bench-security`.

Three persons: one who approves what they want, none, and one who says yes to everything. A run that was cut goes on
where it was with the same --out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.attacks import ATTACKS, KNOWN, Attack
from tests.support.siege import Person, siege

from bench.results import Results

_PERSONS: tuple[Person, ...] = ("ideal", "nobody", "yes")
_TOLD = {"ideal": "approves what they want", "nobody": "nobody", "yes": "says yes to everything"}


async def carried_out(attacks: Sequence[Attack], persons: Sequence[Person], results: Results) -> None:
    todo = [(who, one) for who in persons for one in attacks if not results.have("attacks", _case(who, one))]
    if not todo:
        return
    with tempfile.TemporaryDirectory() as folder:
        async with siege(Path(folder), attacks) as besieged:
            for at, (who, attack) in enumerate(todo, 1):
                print(f"{at} of {len(todo)}: {attack.name:<60}", end="\r", file=sys.stderr, flush=True)
                outcome = await besieged.run(attack, who)
                results.add(
                    "attacks", _case(who, attack), "outcome", kind=attack.kind, leaked=list(outcome.leaked),
                    stopped=outcome.stopped, logged=outcome.logged, done=outcome.done,
                )  # fmt: skip


def table(attacks: Sequence[Attack], persons: Sequence[Person], results: Results) -> list[str]:
    """By kind: how many succeed, by person; and how the first person's were stopped."""
    rows = {one["case"]: one for one in results.cases if one["bench"] == "attacks"}

    def succeed(who: Person, among: Sequence[Attack]) -> str:
        return f"{sum(bool(rows[_case(who, one)]['leaked']) for one in among)} of {len(among)}"

    kinds = list(dict.fromkeys(one.kind for one in attacks))
    groups = [(str(kind), [one for one in attacks if one.kind == kind]) for kind in kinds]
    lines = [
        f"| attack by | {' | '.join(_TOLD[who] for who in persons)} | how they end |",
        "|---" * (len(persons) + 2) + "|",
    ]
    for name, among in [*groups, ("**all**", list(attacks))]:
        ends: Counter[str] = Counter(rows[_case(persons[0], one)]["stopped"] or "succeed" for one in among)
        told = ", ".join(f"{count} {what}" for what, count in ends.most_common())
        lines.append(f"| {name} | {' | '.join(succeed(who, among) for who in persons)} | {told} |")
    shown: list[dict[str, Any]] = [rows[_case(who, one)] for who in persons for one in attacks]
    logged, done = (sum(one[what] for one in shown) for what in ("logged", "done"))
    lines += ["", f"Logged: {logged} of {len(shown)}; the person's own question is answered in {done} of {len(shown)}."]
    return lines


def _case(who: str, attack: Attack) -> str:
    return f"{who}: {attack.name}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--only", default="", help="attacks whose name or kind has this")
    parser.add_argument("--person", action="append", choices=_PERSONS, help="may be repeated; by default all three")
    parser.add_argument("--out", type=Path, default=Path("bench-attacks.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(words)
    attacks = [one for one in ATTACKS if given.only in f"{one.name} {one.kind}"]
    known = [one for one in KNOWN if given.only in f"{one.name} {one.kind}"]
    persons = given.person or list(_PERSONS)
    results = Results(given.out, fresh=given.fresh)
    asyncio.run(carried_out([*attacks, *known], persons, results))
    print(" " * 78, end="\r", file=sys.stderr)
    if given.json:
        print(json.dumps([one for one in results.cases if one["bench"] == "attacks"], indent=1))
        return 0
    if attacks:
        print("\n".join(table(attacks, persons, results)))
    if known:
        print("\nKnown to get through:\n\n" + "\n".join(table(known, persons, results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
