"""Slash commands of a conversation."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from variet import paths
from variet.agent import sessions
from variet.agent.slash import selection_of
from variet.agent.transcript import markdown
from variet.policy.action import MODES

if TYPE_CHECKING:
    from variet.surfaces.terminal.interactive import Terminal

T = TypeVar("T")
_MOST_LINES = 5  # of what a command in the background said
Act = Callable[["Terminal", str], Awaitable[None] | None]


async def run(text: str, here: Terminal) -> None:
    """What `/name argument` asks for. Raises VarietError."""
    name, _, argument = text[1:].partition(" ")
    name = _ALSO.get(name, name)
    if name not in _ACTS:
        near = [one for one in _ACTS if one.startswith(name)] if name else []
        if len(near) != 1:
            here.printer.say(f"there is no /{name}; /help lists what there is", "yellow")
            return
        name = near[0]
    if here.conversation.working and name in _WAIT:
        here.printer.say(f"/{name} waits: the agent works (Ctrl-C stops it)", "yellow")
        return
    done = _ACTS[name][1](here, argument.strip())
    if inspect.isawaitable(done):
        await done


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Its result, also where the command is stopped meanwhile: half of an undo is worse than none."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def names() -> Sequence[str]:
    """Sessions of this folder, for completion."""
    here = str(Path.cwd().resolve())
    return [one.header.id for one in sessions.listed() if one.header.cwd == here and one.header.kind == "code"][:30]


def _help(here: Terminal, _: str) -> None:
    here.printer.pairs((f"/{name}", what) for name, what in HELP.items())
    here.printer.say("")
    here.printer.pairs(_KEYS)


async def _tier(here: Terminal, name: str) -> None:
    state = here.conversation.state
    if not name:
        here.printer.say(f"{state.tier} ({state.model}); /tier NAME changes it")
        return
    await here.conversation.set_tier(name)


def _mode(here: Terminal, name: str) -> None:
    mode = next((one for one in MODES if one == name), None)
    if mode is None:
        here.printer.say(f"mode {here.conversation.state.mode}; there are: {', '.join(MODES)}")
        return
    here.conversation.set_mode(mode)
    here.printer.say(f"mode {mode}")


def _plan(here: Terminal, _: str) -> None:
    _mode(here, "ask" if here.conversation.state.mode == "plan" else "plan")


async def _diff(here: Terminal, _: str) -> None:
    patch = (await here.conversation.changes()).patch
    here.printer.patch(patch) if patch else here.printer.say("nothing was changed")


async def _undo(here: Terminal, argument: str) -> None:
    undone = await here.conversation.undo(selection_of(argument))
    if not undone.restored and not undone.left:
        here.printer.say("there is nothing to take back")
    for path in undone.restored:
        here.printer.say(f"put back  {path}")
    for path, why in undone.left.items():
        here.printer.say(f"left      {path}: {why}", "yellow")


def _sessions(here: Terminal, _: str) -> None:
    found = [one for one in sessions.listed() if one.header.cwd == here.conversation.header.cwd]
    for one in found[:20]:
        mark = "›" if one.header.id == here.conversation.header.id else " "
        here.printer.say(f"{mark} {one.header.id}  {one.turns:>3} turns  {one.title}")


async def _resume(here: Terminal, name: str) -> None:
    mine = here.conversation.header.id
    name = name or next((one for one in names() if one != mine), "")
    if not name:
        here.printer.say("there is no other session of this folder")
        return
    found = sessions.find(name).name
    if found == mine:
        here.printer.say("that is this one")
        return
    await _whole(here.change(await here.reopen(found, None)))
    here.printer.say(f"session {found} goes on")


async def _new(here: Terminal, _: str) -> None:
    mode = here.conversation.state.mode
    opened = await here.reopen(None, mode)
    chosen = here.conversation.state.mode  # meanwhile
    await _whole(here.change(opened))
    if chosen != mode:
        here.conversation.set_mode(chosen)
    here.printer.say("a new session begins")


async def _compact(here: Terminal, _: str) -> None:
    if not here.conversation.state.turns:
        here.printer.say("there is nothing yet to make shorter")
        return
    await here.conversation.compact()


def _context(here: Terminal, _: str) -> None:
    conversation = here.conversation
    here.printer.say(here.gauge.state())
    here.printer.say(f"session {conversation.header.id}, {len(conversation.runtime.rendering.messages)} messages, "
                     f"model {conversation.state.model}, profile {conversation.state.profile}", "dim")  # fmt: skip
    for name, tool in sorted(conversation.equipment.servers.tools.items()):
        here.printer.say(f"  {name}: {tool.description[:80]}", "dim")


def _export(here: Terminal, name: str) -> None:
    session = here.conversation.session
    path = Path(session.header.cwd) / Path(name or f"session-{session.header.id}.md").expanduser()
    if path.exists():
        here.printer.say(f"{path} is there already; name another file", "yellow")
        return
    try:
        paths.write_whole(path, markdown(session.header, session.events), 0o600)
    except OSError as error:
        here.printer.say(f"{path} cannot be written: {error.strerror or error}", "red")
        return
    here.printer.say(f"written to {os.path.relpath(path)}")


async def _trust(here: Terminal, _: str) -> None:
    here.trust()
    here.printer.say("this folder is trusted from the next session on: /new begins one")


async def _jobs(here: Terminal, argument: str) -> None:
    words = argument.split()
    if words[:1] == ["stop"] and len(words) == 2 and words[1].lstrip("%").isdecimal():
        await here.conversation.stop_job(int(words[1].lstrip("%")))
        here.printer.say(f"stopped %{words[1].lstrip('%')}")
        return
    jobs = here.conversation.jobs()
    for job in jobs:
        state = "runs" if job.exit_code is None else f"ended, exit {job.exit_code}"
        here.printer.say(f"%{job.number} {state}: {job.command}", "cyan")
        for line in job.output.splitlines()[-_MOST_LINES:]:
            here.printer.say(f"    {line[:200]}", "dim")
    here.printer.say("/jobs stop N ends one" if jobs else "nothing runs in the background", "dim")


def _rename(here: Terminal, title: str) -> None:
    if not title:
        here.printer.say(f"it is called: {here.conversation.state.title or '(nothing yet)'}; /rename TITLE changes it")
        return
    here.conversation.rename(title)
    here.printer.say(f"it is called: {here.conversation.state.title}")


def _quit(here: Terminal, _: str) -> None:
    here.leave()


_ACTS: dict[str, tuple[str, Act]] = {
    "help": ("what there is", _help),
    "tier": ("who answers: /tier deep-coder", _tier),
    "mode": ("what it may do: plan, ask, auto-edit, full", _mode),
    "plan": ("into mode plan, and back to ask", _plan),
    "diff": ("what this session changed", _diff),
    "undo": ("take its last change back; /undo turn, /undo all, /undo FILE", _undo),
    "context": ("how full the context is, and what is in it", _context),
    "compact": ("make the conversation shorter", _compact),
    "sessions": ("those of this folder", _sessions),
    "resume": ("go on with another session: /resume ID", _resume),
    "new": ("a new session", _new),
    "jobs": ("commands in the background; /jobs stop N ends one", _jobs),
    "rename": ("call this session something: /rename TITLE", _rename),
    "export": ("this session as Markdown: /export FILE", _export),
    "trust": ("trust this folder: its instructions and servers count", _trust),
    "quit": ("leave", _quit),
}
_ALSO = {"exit": "quit", "clear": "new", "model": "tier"}  # as other agents call them
HELP = {name: what for name, (what, _) in _ACTS.items()}
_KEYS = (
    ("Enter", "send; while the agent works: tell it something more"),
    ("Alt-Enter", "a new line"),
    ("Tab", "complete /commands and @files"),
    ("Shift-Tab", "the next mode"),
    ("Ctrl-C", "stop the agent, or a command that runs"),
    ("Ctrl-D", "leave"),
)
_WAIT = frozenset({"tier", "undo", "resume", "new", "compact"})
