"""Pure: one function says whether an action is allowed, must be asked for, or is refused, and why.

In this order: a person's refusals; what no mode may do; what changes nothing; a person's permissions; the mode.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from variet.policy import assistant, refusals, shell
from variet.policy.action import Action, Facts, Rule, Sink, Verdict


def decide(action: Action, facts: Facts) -> Verdict:
    """Never less strict for want of a fact: what is not known to be allowed asks, and asking nobody is a refusal."""
    verdict = _judge(action, facts)
    if verdict.answer == "ask" and not facts.person_present:
        return Verdict("deny", verdict.rule_id, f"{verdict.reason}, and nobody is here to be asked")
    return verdict


def refuses_writing(target: str, rules: Iterable[Rule]) -> bool:
    """Whether a person's rules refuse that a path of the workspace is written, whatever the mode."""
    action = Action("write", Sink("write", (target,)), "full")
    return any(rule.answer == "deny" and _hit(rule, action, every=False) for rule in rules)


def _judge(action: Action, facts: Facts) -> Verdict:
    sink = action.sink
    for rule in facts.rules:
        if rule.answer == "deny" and _hit(rule, action, every=False):
            return Verdict("deny", rule.id, rule.reason or _refusal(sink))
    if sink.kind in assistant.KINDS:
        return _assisting(action, facts)
    if sink.kind == "think":
        return Verdict("allow", "thinks", "it touches nothing")
    if sink.kind == "read" and sink.inside:
        return Verdict("allow", "reads", "it only reads, inside the workspace")
    if only_looks(sink) and facts.trusted:
        return Verdict("allow", "looks", "it only looks, inside the workspace")
    if action.mode == "plan" and not (sink.kind == "tool" and sink.looks):
        return Verdict("deny", "plan-mode", "in plan mode nothing is changed and nothing is run")
    for rule in facts.rules:
        if rule.answer == "ask" and _hit(rule, action, every=False):
            return Verdict("ask", rule.id, "your rules ask for it")
    if sink.brokered:
        return Verdict("allow", "brokered", "the broker asks for it where it must")
    if sink.changed:
        return Verdict("ask", "changed", f"{sink.targets[0]} says something else of itself than before")
    if sink.allowed:
        return Verdict("allow", "configured", "it is allowed where its server is configured")
    for rule in facts.rules:
        if rule.answer == "allow" and _hit(rule, action, every=True):
            return Verdict("allow", rule.id, "your rules allow it")
    return _by_mode(action, facts)


def _refusal(sink: Sink) -> str:
    seen = sink.command is None or sink.command.clear
    return "your rules refuse it" if seen else "your rules refuse it, or what it runs cannot be seen: write it plainly"


def only_looks(sink: Sink) -> bool:
    """Whether it is a command that changes nothing and runs nothing else, inside the workspace."""
    return sink.kind == "shell" and sink.inside and sink.command is not None and shell.harmless(sink.command)


def _assisting(action: Action, facts: Facts) -> Verdict:
    allowing = (rule for rule in facts.rules if rule.answer == "allow" and _hit(rule, action, every=True))
    verdict = assistant.judge(action, facts.taint, next(allowing, None))
    asking = next((rule for rule in facts.rules if rule.answer == "ask" and _hit(rule, action, every=False)), None)
    if asking and verdict.answer == "allow":
        return Verdict("ask", asking.id, "your rules ask for it")
    return verdict


def _by_mode(action: Action, facts: Facts) -> Verdict:
    sink, mode = action.sink, action.mode
    if not sink.inside and sink.kind in ("read", "write"):
        return Verdict("ask", "outside", f"{sink.targets[0]} is outside the workspace")
    if sink.guarded:
        return Verdict("ask", "guarded", f"{sink.targets[0]} can run code by itself later")
    if sink.protected:
        return Verdict("ask", "protected", sink.protected)
    if sink.kind == "write":
        if mode in ("auto-edit", "full"):
            return Verdict("allow", mode, f"mode {mode} allows edits inside the workspace")
        return Verdict("ask", "edits", "mode ask asks for each edit")
    if sink.kind == "shell":
        if sink.network:
            return Verdict("ask", "network", "it wants the network")
        if mode == "full" and facts.sandboxed:
            return Verdict("allow", "full", "mode full allows commands in the sandbox")
        what = sink.command.why if sink.command and sink.command.why else "it may change something"
        return Verdict("ask", "commands", what if facts.sandboxed or mode != "full" else f"{what}; no sandbox holds it")
    if mode == "full" and sink.kind == "tool":
        return Verdict("allow", "full", "mode full allows tools that you configured")
    return Verdict("ask", sink.kind, "it reaches outside")


def _hit(rule: Rule, action: Action, *, every: bool) -> bool:
    """Whether a rule speaks of this action; `every`: of all of it, not only of a part."""
    sink = action.sink
    names = ("write", "edit") if sink.kind == "write" else (action.tool,)  # two ways of changing a file
    if not any(fnmatchcase(name, rule.tool) for name in names):
        return False
    if every and sink.network and not rule.network:
        return False
    if not rule.pattern:
        return True
    if sink.kind == "shell":
        return _hit_command(rule, sink, every=every)
    matches = [target == rule.pattern if rule.exact else _hit_path(target, rule.pattern) for target in sink.targets]
    return bool(matches) and (all(matches) if every else any(matches))


def _words(pattern: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(pattern))
    except ValueError:
        return tuple(pattern.split())


def _hit_path(target: str, pattern: str) -> bool:
    return fnmatchcase(target, pattern) or target.startswith(pattern.rstrip("/") + "/")


def _hit_command(rule: Rule, sink: Sink, *, every: bool) -> bool:
    """By words: `git commit` speaks of `git commit -m x`, not of `git commits`. What is not clear is never allowed, but
    for exactly the text that a person has seen. A refusal looks into substitutions and scripts in words, and behind
    options; what cannot be known before it runs counts as refused."""
    parsed = sink.command
    if rule.exact and every:
        return parsed is not None and parsed.text.strip() == rule.pattern.strip()
    words = _words(rule.pattern)
    if parsed is None:
        return not every
    if not every:
        return refusals.may_run(parsed.text, words) if parsed.bash else refusals.may_name(parsed.text, words)
    begins = [command[: len(words)] == words for command in parsed.commands]
    looks = [sink.inside and shell.harmless(replace(parsed, commands=(one,))) for one in parsed.commands]
    return parsed.clear and bool(begins) and all(a or b for a, b in zip(begins, looks, strict=True))
