"""`auto` on labelled prompts: how often its rules agree, and what its choices cost beside always asking for the right
tier.

Nothing is timed and no model runs: the engine's own rules and costs decide, on the plan of the machine that
config/engine_models.json describes (load times from the headers of its models). The prompts of bench/data were written
and labelled by hand; the rules were tuned on one half alone.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import headers

from bench.results import Results
from variet.engine import config_file, gguf_facts, hardware
from variet.engine.auto.choice import Option, choose
from variet.engine.auto.rules import HEIGHT, Need, Rules
from variet.engine.auto.wording import Wording
from variet.engine.config import AutoConfig
from variet.engine.facts import Facts
from variet.engine.ledger import Demand, Tenant, choose_victims
from variet.engine.plan import Plan, make_plan
from variet.tiers import TIERS, Tier

_ROOT = Path(__file__).resolve().parent.parent
_ANSWER_TOKENS = 400
_TURNS = 3  # of each conversation: a question and two follow-ups


@dataclass(frozen=True, slots=True)
class Prompt:
    label: Tier
    text: str


def prompts(half: str) -> list[Prompt]:
    lines = (_ROOT / "bench" / "data" / f"auto_{half}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [Prompt(next(one for one in TIERS if one == label), text.replace("\\n", "\n")) for label, text in rows]


@dataclass(slots=True)
class Machine:
    """The owner's, with what is loaded on it; a swap is a load for which something had to go."""

    plan: Plan
    models: dict[Tier, str]
    speeds: dict[Tier, float]
    loaded: list[str] = field(default_factory=list)
    swaps: int = 0
    waited_s: float = 0.0

    def coming_s(self, model: str) -> tuple[float, float]:
        if model in self.loaded:
            return 0.0, 0.0
        return self.plan.models[model].load_s, sum(self.plan.models[one].load_s for one in self._gone_for(model))

    def bring(self, model: str) -> None:
        if model in self.loaded:
            return
        gone = self._gone_for(model)
        self.swaps += 1
        self.waited_s += self.plan.models[model].load_s
        self.loaded = [one for one in self.loaded if one not in gone] + [model]

    def _gone_for(self, model: str) -> list[str]:
        def demand(name: str) -> Demand:
            return self.plan.models[name].demand_mib

        tenants = [
            Tenant(place, demand(name), True, False, self.plan.models[name].load_s)
            for place, name in enumerate(self.loaded)
        ]
        return [self.loaded[place] for place in choose_victims(demand(model), tenants, self.plan.capacity_mib) or ()]

    def options(self) -> list[Option]:
        made = []
        for tier in TIERS:
            load_s, back_s = self.coming_s(self.models[tier])
            made.append(Option(tier, self.models[tier], load_s, back_s, write_s=_ANSWER_TOKENS / self.speeds[tier]))
        return made


Strategy = Callable[[Machine, Prompt, Need], Tier]


def _always_right(_machine: Machine, prompt: Prompt, _need: Need) -> Tier:
    return prompt.label


def _by_rules(_machine: Machine, _prompt: Prompt, need: Need) -> Tier:
    return need.tier


def _by_cost(machine: Machine, _prompt: Prompt, need: Need) -> Tier:
    return choose(need, machine.options(), AutoConfig().worth_s).tier


def _perfect_rules(machine: Machine, prompt: Prompt, _need: Need) -> Tier:
    return choose(Need(prompt.label, "label"), machine.options(), AutoConfig().worth_s).tier


STRATEGIES: dict[str, Strategy] = {
    "the right tier": _always_right, "rules alone": _by_rules, "auto": _by_cost,
    "auto, were its rules perfect": _perfect_rules,
}  # fmt: skip


def agreement(rules: Rules, said: Sequence[Prompt]) -> dict[str, float]:
    needs = [(rules.need(Wording(one.text)).tier, one.label) for one in said]
    return {
        "same tier": sum(need == label for need, label in needs) / len(needs),
        "as high": sum(HEIGHT[need] == HEIGHT[label] for need, label in needs) / len(needs),
        "too low": sum(HEIGHT[need] < HEIGHT[label] for need, label in needs) / len(needs),
        "too high": sum(HEIGHT[need] > HEIGHT[label] for need, label in needs) / len(needs),
    }


def day(machine: Machine, rules: Rules, said: Sequence[Prompt], strategy: Strategy) -> dict[str, float]:
    """All prompts one after another, each with its follow-ups, which say nothing that could tell a tier."""
    below = answers = 0
    for prompt in said:
        need = rules.need(Wording(prompt.text))
        for turn in range(_TURNS):
            if turn:
                need = rules.need_of_all([Wording("thanks, go on")], need)
            tier = strategy(machine, prompt, need)
            machine.bring(machine.models[tier])
            answers += 1
            below += HEIGHT[tier] < HEIGHT[prompt.label]
    return {"swaps": machine.swaps, "waited_s": machine.waited_s, "below": below / answers}


def _facts(name: str, folder: Path) -> Facts:
    with headers.write_header(name, folder / f"{name}.gguf", vocabulary=8).open("rb") as stream:
        return gguf_facts.facts_of([gguf_facts.read_header(stream, name)])


def owners_plan() -> tuple[Plan, dict[Tier, str], dict[Tier, float]]:
    config = config_file.load(_ROOT / "config" / "engine_models.json")
    with tempfile.TemporaryDirectory() as folder:
        facts = {name: _facts(name, Path(folder)) for name in headers.OWNER_MODELS}
        plan = make_plan(config, hardware.describe(config.hardware), Path(folder), facts)
    return (
        plan,
        {tier: config.tiers[tier].model for tier in TIERS},
        {tier: config.tiers[tier].expected_tokens_per_s or 30.0 for tier in TIERS},
    )


async def run(results: Results, rounds: int) -> None:
    """`rounds`: orders in which the prompts come."""
    rules = Rules(AutoConfig())
    for half in ("tuning", "held_back"):
        case = f"{half.replace('_', ' ')} half, {len(prompts(half))} prompts"
        if not results.have("auto agreement", case):
            results.add("auto agreement", case, "share", median=agreement(rules, prompts(half)))
    plan, models, speeds = owners_plan()
    said = prompts("held_back")
    for name, strategy in STRATEGIES.items():
        if results.have("auto", name):
            continue
        totals = {"swaps": 0.0, "waited_s": 0.0, "below": 0.0}
        for seed in range(rounds):
            order = random.Random(seed).sample(said, len(said))
            machine = Machine(plan, models, speeds, loaded=[models["fast"]])
            for key, value in day(machine, rules, order, strategy).items():
                totals[key] += value / rounds
        results.add("auto", name, "a day", median=totals)
