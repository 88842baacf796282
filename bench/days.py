"""What the rule for words and pages costs on benign days: `python -m bench.days`. How often a person is asked, of which
an honest query or page would be the reason.

Twenty conversations (tests/fixtures/days.json) go through the broker's own book and the policy's own function; every
approval is given, as its person would.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.days import Call, Day, Said, load

from variet.assistant.answers import addresses
from variet.assistant.broker.reading import Read, Reading
from variet.assistant.broker.store import Store
from variet.policy.action import Action, Facts
from variet.policy.assistant import sink
from variet.policy.decide import decide

_TOOLS = {"search": ("search.search", "query"), "fetch": ("search.fetch", "url")}


async def walked(day: Day, reading: Reading) -> Counter[str]:
    """How many searches and pages a day has, and how many of them ask, by rule."""
    asker = reading.asker("variet", reading.mint("variet", 0))
    counts: Counter[str] = Counter()
    for step in day.steps:
        if isinstance(step, Said):
            await reading.add(asker, Read(typed=step.text))
            continue
        if step.tool in _TOOLS:
            tool, field = _TOOLS[step.tool]
            counts[step.tool] += 1
            rule = _judged(reading, asker, tool, str(step.args[field]))
            if rule:
                counts[f"{step.tool} asks"] += 1
                counts[rule] += 1
        await reading.add(asker, _read(step))
    return counts


def _judged(reading: Reading, asker: Any, tool: str, target: str) -> str:
    """The rule by which it asks; nothing where it goes out."""
    kind = sink(tool).kind
    verdict = decide(Action(tool, sink(tool, target), "ask"), Facts(taint=reading.taint(asker, kind, target)))
    if verdict.rule_id == "hit":
        reading.visited(asker, target)
    return "" if verdict.answer == "allow" else verdict.rule_id


def _read(step: Call) -> Read:
    if step.private:
        return Read(private=(step.result,), addresses=tuple(addresses(step.result)))
    found = tuple(addresses(step.result))
    hits = found if step.tool == "search" else ()
    return Read(public=(step.result,), addresses=found, hits=hits)


async def main() -> None:
    total: dict[str, Counter[str]] = {}
    days: Counter[str] = Counter()
    for day in load():
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "store.sqlite3")
            counts = await walked(day, Reading(store))
            store.close()
        days[day.kind] += 1
        total.setdefault(day.kind, Counter()).update(counts)
    print("| days | searches | of them ask | pages | of them ask | prompts a day |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, counts in total.items():
        asks = counts["search asks"] + counts["fetch asks"]
        print(f"| {days[kind]} {kind} | {counts['search']} | {counts['search asks']} | {counts['fetch']} | "
              f"{counts['fetch asks']} | {asks / days[kind]:.1f} |")  # fmt: skip
    rules: Counter[str] = Counter()
    for counts in total.values():
        rules.update({name: count for name, count in counts.items() if "-" in name})
    print("\nby rule: " + ", ".join(f"{name} {count}" for name, count in rules.most_common()))


if __name__ == "__main__":
    asyncio.run(main())
