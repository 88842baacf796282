"""`variet connect CLIENT --check`: whether a client does a small task through this engine, a swap in the middle too."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from variet.commands import client as engine
from variet.commands.common import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from variet.connect.catalogue import Catalogue
    from variet.connect.clients import Client, Where
    from variet.connect.trial import Verdict

_ASK_S = 1800.0


class _Engine:
    """What a trial asks, over HTTP."""

    def requests(self, since: float) -> list[dict[str, Any]]:
        recent = engine.call("GET", "/engine/requests").json()["recent"]
        return [row for row in recent if row["began_at"] >= since]

    def swaps(self, since: float) -> list[dict[str, Any]]:
        return [row for row in engine.call("GET", "/engine/status").json()["swaps"] if row["at"] >= since]

    def ask(self, model: str) -> None:
        engine.call(
            "POST", "/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 1}, timeout_s=_ASK_S
        ).json()


def check(client: Client, found: Catalogue, where: Where, limit_s: float, as_json: bool, *, commands: bool) -> None:
    """`commands`: it may run some, too. Raises SystemExit with 1 where the client did not do what it was asked,
    VarietError where it cannot be tried."""
    from variet.connect import trial

    words, own = _words(client, commands=commands)
    env = {**os.environ, **client.environment(found, where), **own}
    verdicts: list[Verdict] = []
    for other in (None, _another_tier()):
        if verdicts and other is None:
            break
        how = "as it is" if other is None else "with a swap in the middle"
        if not as_json:
            click.echo(f"{client.title}, {how}:")
        verdict = trial.run(
            words, env, _Engine(), other=other, limit_s=limit_s, tell=(lambda _: None) if as_json else click.echo
        )
        verdicts.append(verdict)
        if not as_json:
            _tell(client.name, verdict)
        if not verdict.good:
            break
    largest = max(one.largest_tokens for one in verdicts)
    reading = _reading_s(largest)
    if as_json:
        print_json({
            "client": client.name, "good": all(one.good for one in verdicts), "largest_tokens": largest,
            "reading_s": reading, "runs": [{**asdict(one), "good": one.good} for one in verdicts],
        })  # fmt: skip
    elif len(verdicts) == 1 and verdicts[0].good:
        click.echo("no second run with a swap: all tiers of this engine are one model")
    if largest and not as_json:
        told = ", ".join(f"{tier} {'not measured yet' if s is None else f'{s:.0f} s'}" for tier, s in reading.items())
        click.echo(f"its largest request was {largest:,} tokens; where none of it is known, to read it takes: {told}")
    if not all(one.good for one in verdicts):
        raise SystemExit(1)


def _words(client: Client, *, commands: bool) -> tuple[list[str], Mapping[str, str]]:
    """Its command, and what is to be in its environment. Raises VarietError."""
    from variet.connect import trial
    from variet.connect.changes import recall
    from variet.errors import VarietError

    run = client.headless(trial.PROMPT, trial.FILE, commands=commands)
    if run is None:
        raise VarietError(f"{client.title} has no way to run without a person", next_step="Try it by hand")
    program = shutil.which(client.program)
    if program is None:
        raise VarietError(f"`{client.program}` is not on the search path", next_step=f"Install {client.title}")
    if not recall(client.name, None).files:
        raise VarietError(f"{client.title} is not connected", next_step=f"Run: variet connect {client.name}")
    return [program, *run.words], run.env


def _reading_s(tokens: int) -> dict[str, float | None]:
    """Seconds that each tier takes to read so much anew, where this engine has measured it."""
    tiers = engine.call("GET", "/engine/status").json()["tiers"]
    speeds = {name: one.get("prefill_tokens_per_s") for name, one in tiers.items()}
    return {name: round(tokens / speed, 1) if speed else None for name, speed in speeds.items()}


def _another_tier() -> str | None:
    """One whose model is not the one that clients use most, and that can run."""
    from variet.connect.clients.base import MAIN

    tiers = engine.call("GET", "/engine/status").json()["tiers"]
    model = tiers[MAIN]["model"]
    return next((name for name, one in tiers.items() if one["model"] != model and not one["problem"]), None)


def _tell(client: str, verdict: Verdict) -> None:
    if verdict.good:
        what = "good: the file is changed as asked"
    elif verdict.exit_code is None:
        what = "not good: it was ended, for it took too long (--limit says how long it may)"
    elif not verdict.requests:
        what = f"not good: it never asked this engine, and ended with {verdict.exit_code}"
    elif verdict.key_refused:
        what = f"not good: the engine refused its key; run `variet connect {client}` again"
    elif verdict.changed:
        what = f"not good: the file is changed as asked, but it ended with {verdict.exit_code}"
    else:
        what = f"not good: the file is not as asked; it ended with {verdict.exit_code}"
    swapped = f", {verdict.swaps} swaps" if verdict.other else ""
    failed = f" ({verdict.failed} failed)" if verdict.failed else ""
    click.echo(
        f"  {what}; {verdict.seconds:.0f} s, {verdict.requests} requests{failed}, "
        f"{verdict.prompt_tokens:,} tokens read, {verdict.cached_tokens:,} of them known already, "
        f"{verdict.output_tokens:,} written{swapped}"
    )
    if verdict.other and not verdict.swaps:
        click.echo("  there was no swap: its tiers live together, or it was done before")
    if not verdict.good and verdict.said.strip():
        click.echo("  what it said last:")
        for line in verdict.said.strip().splitlines()[-12:]:
            click.echo(f"    {line[:300]}")
