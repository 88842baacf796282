"""`variet bench`: how fast each tier really is, beside what its owner expects."""

from __future__ import annotations

import secrets
import statistics
from typing import Any

import click

from variet.commands import client
from variet.commands.common import json_option, print_json

_WORDS = "The quick brown fox jumps over the lazy dog while seven wizards quietly mix a box of jumbo liquid prizes. "


@click.command(
    epilog="""\b
Examples:
  variet bench                    every tier; models are swapped as needed
  variet bench fast deep-coder --repeat 5
"""
)
@click.argument("tiers", nargs=-1)
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(8, 4096), help="Tokens of each answer.")
@click.option("--prompt-words", default=400, show_default=True, type=click.IntRange(1), help="Length of each prompt.")
@click.option(
    "--repeat", default=3, show_default=True, type=click.IntRange(1, 50), help="Answers a tier; the median counts."
)
@json_option
def bench(tiers: tuple[str, ...], tokens: int, prompt_words: int, repeat: int, as_json: bool) -> None:
    """Measure load time, prefill and generation speed of TIERS (by default all) on the running engine.

    Tiers of one model are measured once. What is expected comes from $.tiers.TIER.expected_tokens_per_s.
    """
    known = client.call("GET", "/engine/status").json()["tiers"]
    unknown = [tier for tier in tiers if tier not in known]
    if unknown:
        raise click.UsageError(f"no tier {', '.join(unknown)}; there are: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    for tier in tiers or tuple(known):
        same = next((row for row in rows if row["model"] == known[tier]["model"]), None)
        click.echo(f"{tier}: {'as ' + same['tier'] if same else 'measuring ...'}", err=True)
        measured = (
            {key: same[key] for key in ("load_s", "prefill_tokens_per_s", "tokens_per_s")}
            if same
            else _measure(tier, known[tier]["model"], tokens, prompt_words, repeat)
        )
        expected = known[tier]["expected_tokens_per_s"]
        share = round(measured["tokens_per_s"] / expected, 2) if expected else None
        rows.append(
            {"tier": tier, "model": known[tier]["model"], **measured, "expected_tokens_per_s": expected, "share": share}
        )
    if as_json:
        print_json(rows)
    else:
        _show(rows)


def _measure(tier: str, model: str, tokens: int, prompt_words: int, repeat: int) -> dict[str, Any]:
    """Swap the tier in, then let it answer; every prompt begins differently, so that nothing of it is cached."""
    before = client.call("GET", "/engine/status").json()["swaps"]
    _ask(tier, "Say hello.", 1)
    swaps = client.call("GET", "/engine/status").json()["swaps"]
    loaded = swaps[-1] if swaps[-1:] != before[-1:] and swaps[-1]["model"] == model else None
    text = (_WORDS * (prompt_words // 20 + 1)).split()[:prompt_words]
    timings = [_ask(tier, f"{secrets.token_hex(8)} {' '.join(text)}", tokens) for _ in range(repeat)]
    return {
        "load_s": round(loaded["phases_ms"]["load"] / 1000, 2) if loaded else None,
        "prefill_tokens_per_s": round(statistics.median(one["prompt_per_second"] for one in timings), 1),
        "tokens_per_s": round(statistics.median(one["predicted_per_second"] for one in timings), 1),
    }


def _ask(tier: str, prompt: str, tokens: int) -> dict[str, float]:
    body = {"model": tier, "prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0}
    timings: dict[str, float] = client.call("POST", "/completion", body, timeout_s=None).json()["timings"]
    return timings


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tier", "model", "load s", "prefill tok/s", "tok/s", "expected", "share")
    for row in rows:
        share = row["share"]
        colour = "" if share is None else "green" if share >= 0.9 else "yellow" if share >= 0.7 else "red"
        cells = (row["load_s"], row["prefill_tokens_per_s"], row["tokens_per_s"], row["expected_tokens_per_s"])
        shown = ["-" if cell is None else f"{cell:g}" for cell in cells]
        table.add_row(row["tier"], row["model"], *shown, "-" if share is None else f"[{colour}]{share:.0%}[/]")
    Console().print(table)
