"""Tables for people from what the benches found, in Markdown, as they go into docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

from bench import exercises
from bench.results import Results


def text(results: Results, machine: dict[str, Any]) -> str:
    parts = [", ".join(f"{key} {value}" for key, value in machine.items())]
    first = results.of("first byte")
    for title, rows in (
        ("Time to first byte, ms (median; in brackets what is added to the first column)", first[:6]),
        ("The same over a scripted server", first[6:]),
    ):
        if rows:
            parts.append(_table(title, rows, lambda row, name: _with_added(row, name)))
    for row in results.of("tokens"):
        shown = {key: row[key] for key in row if key not in ("bench", "case", "unit")}
        lines = [f"  {key}: " + ", ".join(f"{name} {value:.3f}" for name, value in shown[key].items()) for key in shown]
        parts.append(f"\nTokens: {row['case']}, {row['unit']}\n\n" + "\n".join(lines))
    loads = results.of("load")
    for title, rows in (
        ("Requests per second", [row for row in loads if row["case"].startswith("/")]),
        ("Requests per second over a scripted server", [row for row in loads if not row["case"].startswith("/")]),
    ):
        if rows:
            parts.append(_table(title, rows, lambda row, name: f"{row['median'][name]:,.0f}"))
    starts = results.of("start")
    if starts:
        parts.append(_table("Start, ms", starts, lambda row, name: f"{row['median'][name]:,.0f}"))
    swaps = results.of("swap")
    if swaps:
        parts.append(_table("Swap to first token, ms (in brackets the share of the router's time)", swaps, _with_ratio))
        phases = list(swaps[0]["phases"])
        rows = [{"case": row["case"], "median": row["phases"]} for row in swaps]
        assert phases
        parts.append(_table("Of which, in the engine, ms", rows, lambda row, name: f"{row['median'][name]:.0f}"))
    contexts = results.of("context")
    if contexts:
        title = "Back to a conversation after a swap: ms to the first token (in brackets: times the engine's)"
        parts.append(_table(title, contexts, _with_ratio))
        rows = [{"case": row["case"], "median": {**_tokens(row), **row["kept"]}} for row in contexts]
        parts.append(_table("Of which", rows, lambda row, name: f"{row['median'][name]:,.0f}"))
    ahead = results.of("prefetch")
    if ahead:
        title = "From the end of the answer before it to a model's first token, ms, by where its file is"
        parts.append(_table(title, ahead, lambda row, name: f"{row['median'][name]:,.0f}"))
    agreed = results.of("auto agreement")
    if agreed:
        parts.append(_table("What the rules of `auto` say of labelled prompts", agreed, _percent))
    days = results.of("auto")
    if days:
        title = (
            "A hundred conversations of three turns on the owner's machine, by who chooses the tier (mean of orders)"
        )
        parts.append(
            _table(title, days, lambda row, name: _percent(row, name) if name == "below" else _whole(row, name))
        )
    asked = results.of("first request")
    if asked:
        parts.append(_table("Tokens that a model reads before an agent's first word", asked, _whole))
    solved = results.of("exercise")
    if solved:
        parts.append(f"\nTwelve exercises\n\n{exercises.table(solved)}")
    return "\n".join(parts)


def _percent(row: dict[str, Any], name: str) -> str:
    return f"{row['median'][name]:.0%}"


def _whole(row: dict[str, Any], name: str) -> str:
    return f"{row['median'][name]:,.0f}"


def _tokens(row: dict[str, Any]) -> dict[str, float]:
    return {f"tokens reused, {name}": row["reused"].get(name, 0) for name in (*row["reused"], *row.get("broken", {}))}


def _with_added(row: dict[str, Any], name: str) -> str:
    added = row["added"].get(name)
    return f"{row['median'][name]:.2f}" + (f" (+{added:.2f})" if added is not None else "")


def _with_ratio(row: dict[str, Any], name: str) -> str:
    if name in row.get("broken", {}):
        return f"broke off after {row['broken'][name]:,.0f}"
    ratio = row["ratio"].get(name)
    return f"{row['median'][name]:,.0f}" + (f" ({ratio:.2f})" if ratio is not None else "")


def _table(title: str, rows: list[dict[str, Any]], cell: Any) -> str:
    names = list(rows[0]["median"])
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [f"| {row['case']} | {' | '.join(cell(row, name) for name in names)} |" for row in rows]
    return f"\n{title}\n\n" + "\n".join(lines)
