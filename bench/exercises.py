"""Twelve exercises in Python for a coding agent (bench/data/exercises), by model and by how it is spoken to; and what
each guard around the loop is worth, switched off one at a time.

Two attempts each, as is usual: the tests are not seen before the first, what they say is told before the second. In the
rows with a check they lie in the folder, and `--check` runs them: each answer is an attempt, and it may go on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.engine import EngineProcess, embedded_config

from bench.results import Results
from variet import paths, toolcalls
from variet.agent import opening
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import CallPart, Compacted, InputAdded, MessageDone, TextPart, TurnEnded, Usage
from variet.agent.formats.base import Draft, Understood
from variet.agent.formats.native import Native, known_tools
from variet.agent.guards import Limits
from variet.agent.model import EngineModel
from variet.agent.opening import Wishes
from variet.agent.sandbox import open_sandbox
from variet.agent.tools.base import Place, Result, Toolbox
from variet.agent.tools.edit import Edit, EditArgs
from variet.agent.tools.shell import Shell, ShellArgs
from variet.agent.workspace import Workspace
from variet.connection import Connection
from variet.errors import ToolFailed

FOLDER = Path(__file__).resolve().parent / "data" / "exercises"
CHECK = "python -m pytest -q -x --tb=short -p no:cacheprovider"
_CHECK_S, _TURN_S = 30, 900
_LIMITS = Limits(steps=6, output_tokens=1_500, checks=4)


@dataclass(frozen=True, slots=True)
class Exercise:
    """`asked`: in a person's words; `files`, `tests`, `solution`: contents by name."""

    name: str
    asked: str
    files: Mapping[str, str]
    tests: Mapping[str, str]
    solution: Mapping[str, str]

    def write(self, folder: Path, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (folder / name).write_text(text.lstrip("\n"), encoding="utf-8")


def exercises() -> list[Exercise]:
    return [Exercise(one.stem, **tomllib.loads(one.read_text(encoding="utf-8"))) for one in sorted(FOLDER.glob("*"))]


# --- what is measured ---


@dataclass(frozen=True, slots=True)
class Variant:
    """`tier`: of the bench's engine; `profile`: how its model is spoken to; `without`: what is switched off."""

    name: str
    tier: str
    profile: str
    checked: bool = False
    limits: Limits = _LIMITS
    without: Callable[[Conversation], None] = lambda _: None


class _Unrescued(Native):
    """Calls that are written as text stay text. (Those that the engine finds are of its tier.)"""

    def understand(self, draft: Draft, tools: Toolbox, workspace: Workspace, new_id: Callable[[], str]) -> Understood:
        understood = super().understand(draft, tools, workspace, new_id)
        return understood if draft.calls else Understood(draft.text)


class _UnhelpfulEdit(Edit):
    """Says that it missed, and not what stands there instead."""

    async def run(self, args: EditArgs, place: Place) -> Result:
        path = place.workspace.resolve(args.path)
        if args.old not in place.workspace.read(path).text:
            raise ToolFailed("old is not in the file")
        return await super().run(args, place)


def _without_rescue(opened: Conversation) -> None:
    opened.runtime.form = _Unrescued()


def _without_miss_help(opened: Conversation) -> None:
    tools = opened.runtime.tools
    opened.runtime.tools = Toolbox({**tools.tools, "edit": _UnhelpfulEdit()}, tools.aliases)


# Those of a group exercise by exercise, one group after the other: a run that is cut compares like with like.
VARIANTS = (
    (
        Variant("1.5B, fences, a check", "deep-coder", "blocks", checked=True),
        Variant("1.5B, fences", "deep-coder", "blocks"),
        Variant("1.5B, native calls", "deep-coder", "native"),
    ),
    (
        Variant("0.5B, fences, a check", "balanced", "blocks", checked=True),
        Variant("0.5B, fences", "balanced", "blocks"),
        Variant("0.5B, native calls", "balanced", "native"),
    ),
    (
        Variant("1.5B, native calls, without rescue", "deep-logic", "native", without=_without_rescue),
        Variant("1.5B, native calls, without nudges", "deep-coder", "native", limits=replace(_LIMITS, nudges=0)),
        Variant("1.5B, native calls, without help for a miss", "deep-coder", "native", without=_without_miss_help),
    ),
)


def config() -> dict[str, Any]:
    """The embedded engine's; the calls of its tier `deep-logic` are not rescued."""
    given = embedded_config()
    given["tiers"]["deep-logic"] = {**given["tiers"]["deep-coder"], "rescue_tool_calls": False}
    return given


# --- one exercise ---


@dataclass
class Found:
    """`attempts`: after which one the tests passed, 0 for none; `well_formed` of `called`: answers that call a tool, or
    try to, and do so as the tool wants it; `nudges`: how often it was told what was wrong, or begun again."""

    attempts: int = 0
    called: int = 0
    well_formed: int = 0
    nudges: int = 0
    usage: Usage = field(default_factory=Usage)
    ends: list[str] = field(default_factory=list)


async def solve(exercise: Exercise, variant: Variant, url: str, folder: Path) -> Found:
    work = folder / "work"
    work.mkdir()
    exercise.write(work, {**exercise.files, **(exercise.tests if variant.checked else {})})
    wishes = Wishes(variant.tier, variant.profile, variant.limits, {"seed": 1}, CHECK if variant.checked else "")
    opened = await opening.start(work, EngineModel(Connection(url)), wishes, "auto-edit", present=False)
    variant.without(opened)
    found = Found()
    try:
        await _turn(opened, exercise.asked, found)
        if variant.checked:
            passes, _ = await tests_pass(exercise, work, folder / "tests")
            answers = sum(isinstance(one, MessageDone) for one in opened.session.events)
            found.attempts = max(1, answers) if passes else 0
            return found
        for attempt in (1, 2):
            passes, said = await tests_pass(exercise, work, folder / f"tests-{attempt}")
            if passes:
                found.attempts = attempt
                break
            if attempt == 1:
                names = " and ".join(exercise.files)
                await _turn(opened, f"{said}\n\nThe tests are right. Mend {names}.", found)
    finally:
        await opened.close()
    return found


async def _turn(opened: Conversation, words: str, found: Found) -> None:
    try:
        async with asyncio.timeout(_TURN_S):
            async for event in run_prompt(opened, words):
                if isinstance(event, MessageDone):
                    _judge(event, opened.runtime.tools, found)
                elif isinstance(event, Compacted) or (isinstance(event, InputAdded) and event.code != "check"):
                    found.nudges += 1
                elif isinstance(event, TurnEnded):
                    found.usage = found.usage + event.usage
                    found.ends.append(event.detail or event.reason)
    except TimeoutError:
        found.ends.append("time")


def _judge(message: MessageDone, tools: Toolbox, found: Found) -> None:
    calls = [part for part in message.content if isinstance(part, CallPart)]
    text = "".join(part.text for part in message.content if isinstance(part, TextPart))
    if calls:
        found.called += 1
        found.well_formed += all(not call.broken and tools.takes(call.tool, call.args) for call in calls)
    elif toolcalls.find(text, known_tools(tools))[1]:
        found.called += 1  # as text, and nobody took it for one


async def tests_pass(exercise: Exercise, work: Path, folder: Path) -> tuple[bool, str]:
    """(whether they do, what they say), in a copy, in a sandbox where there is one."""
    shutil.copytree(work, folder)
    exercise.write(folder, exercise.tests)
    sandbox, _ = await open_sandbox(folder)
    try:
        result = await Shell(sandbox).run(
            ShellArgs(command=CHECK, timeout_s=_CHECK_S), Place(Workspace(folder))
        )  # fmt: skip
    finally:
        if sandbox is not None:
            sandbox.close()
    return not result.failed, result.content


# --- the bench ---


async def run(results: Results, rounds: int) -> None:
    """A case each variant and exercise; models answer with the same seed, so that `rounds` are not needed."""
    lacking = [
        (variant, exercise) for group in VARIANTS for exercise in exercises() for variant in group
        if not results.have("exercise", f"{variant.name}: {exercise.name}")
    ]  # fmt: skip
    if not lacking:
        return
    with tempfile.TemporaryDirectory(prefix="variet-bench-") as name:
        engine = EngineProcess(Path(name) / "engine", paths.models_dir())
        before = os.environ.get("VARIET_HOME")
        os.environ["VARIET_HOME"] = str(Path(name) / "workstation")  # the agent runs in this process
        try:
            await engine.start(config())
            for number, (variant, exercise) in enumerate(lacking):
                folder = Path(name) / str(number)
                folder.mkdir()
                began = time.monotonic()
                found = asdict(await solve(exercise, variant, engine.url, folder))
                seconds = round(time.monotonic() - began)
                usage = found.pop("usage").model_dump()
                results.add(
                    "exercise", f"{variant.name}: {exercise.name}", "", variant=variant.name, seconds=seconds,
                    **found, **usage,
                )  # fmt: skip
        finally:
            engine.kill()
            await engine.wait()
            del os.environ["VARIET_HOME"]
            if before is not None:
                os.environ["VARIET_HOME"] = before


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown, a row a variant."""
    lines = [
        "| | solved at the first attempt | by the second | in the end | calls well-formed | nudges | tokens read "
        "| of which from the cache | written |",
        "|---|" + "---:|" * 8,
    ]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        total = {key: sum(row[key] for row in mine) for key in ("called", "well_formed", "nudges", "prompt", "cached",
                                                               "output")}  # fmt: skip
        solved = [sum(0 < row["attempts"] <= most for row in mine) for most in (1, 2, sys.maxsize)]
        lines.append(
            f"| {variant} | " + " | ".join(f"{one} of {len(mine)}" for one in solved)
            + f" | {_share(total['well_formed'], total['called'])} | {total['nudges']} | {total['prompt']:,} "
            f"| {_share(total['cached'], total['prompt'])} | {total['output']:,} |"
        )  # fmt: skip
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
