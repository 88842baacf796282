"""`variet sessions`: what was said and done, where to go on, and what to take back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from variet.commands.common import json_option, print_json
from variet.surfaces.terminal.safe import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from variet.agent.checkpoints import Checkpoints
    from variet.agent.host.client import HostClient
    from variet.agent.sessions import Session

    Act = Callable[[Checkpoints, Session | None], Coroutine[Any, Any, None]]


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  variet sessions                  those of this folder, the latest first
  variet sessions diff             what the last one changed
  variet sessions undo             take its last change back
  variet sessions undo --turn      all that its last turn changed
  variet sessions undo --file a.py what it changed in this file
  variet sessions undo --all ID    take all of a session's changes back
  variet sessions export ID        as Markdown
  variet sessions rename ID TITLE  call it something
  variet sessions remove ID        delete it
  variet sessions watch            follow one that the host keeps open, and answer what it asks
""",
)
@click.option("--all", "everywhere", is_flag=True, help="Of every folder, not only of this one.")
@json_option
@click.pass_context
def sessions(context: click.Context, everywhere: bool, as_json: bool) -> None:
    """List the agent's sessions, see what they changed, and take it back."""
    if context.invoked_subcommand is not None:
        return
    from variet.agent.sessions import listed

    here = str(Path.cwd().resolve())
    found = [one for one in listed() if everywhere or one.header.cwd == here]
    if as_json:
        print_json(
            [{**one.header.model_dump(), "title": one.title, "turns": one.turns, "changed_ms": one.changed_ms}
             for one in found]
        )  # fmt: skip
        return
    if not found:
        click.echo("no sessions" + ("" if everywhere else " of this folder; --all lists those of others"))
    for one in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed_ms / 1000))
        where = f"  {one.header.cwd}" if everywhere else ""
        click.echo(f"{one.header.id}  {when}  {one.turns:>3} turns  {safe(one.title)}{where}")


@sessions.command()
@click.argument("session", required=False)
@click.option("--turn", is_flag=True, help="Of its last turn alone.")
@json_option
def diff(session: str | None, turn: bool, as_json: bool) -> None:
    """Show what a session changed, as a patch (the last one of this folder, where none is named).

    With --json: each file with its hunks, whose ids `variet sessions undo --hunk` takes.
    """
    from variet.agent.changes import Selection

    async def show(kept: Checkpoints, _: Session | None) -> None:
        changes = await kept.changes(kept.chosen(Selection(which="turn" if turn else "all")))
        if as_json:
            print_json(changes.model_dump(mode="json"))
            return
        patch = changes.patch or "it changed nothing\n"
        click.echo(safe(patch) if sys.stdout.isatty() else patch, nl=False)

    _with_steps(session, show)


@sessions.command()
@click.argument("session", required=False)
@click.option("--all", "everything", is_flag=True, help="All that the session changed, not only its last change.")
@click.option("--turn", is_flag=True, help="All that its last turn changed.")
@click.option("--file", "files", multiple=True, metavar="PATH", help="In this file alone; may be repeated.")
@click.option("--hunk", "hunks", multiple=True, metavar="ID", help="This hunk alone (`variet sessions diff --json`).")
@click.option("--to", "mark", metavar="STEP", help="All since this step, itself too (`variet sessions steps`).")
def undo(
    session: str | None, everything: bool, turn: bool, files: tuple[str, ...], hunks: tuple[str, ...], mark: str | None
) -> None:
    """Take changes back; what you changed since stays. An undo can be undone."""
    from variet.agent.changes import Selection
    from variet.agent.events import ChangesUndone

    async def take_back(kept: Checkpoints, opened: Session | None) -> None:
        which: Literal["step", "turn", "all"] = "all" if everything or files or hunks else "turn" if turn else "step"
        chosen = kept.chosen(Selection(which="turn" if turn else which))
        if mark is not None:
            at = next((at for at, one in enumerate(kept.steps) if one.id == mark), None)
            if at is None:
                known = ", ".join(one.id for one in kept.steps)
                raise click.UsageError(f"there is no step {mark!r}; there are: {known}")
            chosen = kept.steps[at:]
        if not chosen:
            click.echo("there is nothing to take back")
            return
        undone = await (kept.undo_hunks(chosen, hunks) if hunks else kept.undo(chosen, files))
        for path in undone.restored:
            click.echo(f"put back  {path}")
        for path, why in undone.left.items():
            click.echo(f"left      {path}: {why}")
        if undone.restored and opened is not None:  # the model hears of it with the next prompt
            opened.note(ChangesUndone(restored=undone.restored, left=dict(undone.left)))

    _with_steps(session, take_back, writes=True)


@sessions.command()
@click.argument("session", required=False)
@json_option
def steps(session: str | None, as_json: bool) -> None:
    """List the edits and commands of a session that changed files."""

    async def show(kept: Checkpoints, _: Session | None) -> None:
        if as_json:
            print_json([{"id": one.id, "call_id": one.call_id, "summary": one.summary} for one in kept.steps])
            return
        for one in kept.steps:
            click.echo(f"{one.id:>5}  {safe(one.summary)}" + ("" if one.after else "  (cut short: not taken back)"))

    _with_steps(session, show)


@sessions.command()
@click.argument("session", required=False)
@json_option
def watch(session: str | None, as_json: bool) -> None:
    """Follow a session that the host keeps open (the one of this folder, where none is named).

    What it asks can be answered here, too. Ctrl-C leaves; the work goes on. Sessions of `variet code` and `variet acp`
    are not kept there yet: `variet sessions export` shows how far they are.
    """
    import asyncio
    import contextlib

    from variet import connection
    from variet.agent import sessions as kept_sessions
    from variet.agent.host.client import HostClient
    from variet.agent.host.hosted import HostedConversation
    from variet.agent.host.wire import Opening
    from variet.errors import SessionError, VarietError
    from variet.surfaces.terminal.watch import watch as watched

    def tell(problem: VarietError) -> None:
        click.echo(str(problem), err=True)

    async def run() -> None:
        async with HostClient("variet sessions watch", start=False) as client:
            name = kept_sessions.find(session).name if session else await _open_here(client)
            if name not in {one.id for one in await client.sessions()}:
                raise SessionError(
                    f"session {name} is not open in the host",
                    next_step=f"`variet sessions export {name}` shows what it said and did so far",
                )
            engine = connection.find()
            opening = Opening(root=str(Path.cwd()), session=name, engine=engine.url, only_join=True)
            conversation = await HostedConversation.open(client, opening, tell)
            try:
                await watched(conversation, as_json=as_json)
            finally:
                await conversation.close()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _open_here(client: HostClient) -> str:
    """The session of this folder that the host keeps open. Raises SessionError."""
    from variet.errors import SessionError

    here = str(Path.cwd().resolve())
    found = [one.id for one in await client.sessions() if one.cwd == here]
    if len(found) != 1:
        what = f"{len(found)} sessions of this folder are open" if found else "no session of this folder is open"
        raise SessionError(what, next_step="`variet host status` lists those that are; name one")
    return found[0]


@sessions.command()
@click.argument("session")
@click.argument("title")
def rename(session: str, title: str) -> None:
    """Call a session TITLE in lists."""
    import asyncio

    from variet.agent import sessions as kept_sessions
    from variet.agent.events import TitleChanged
    from variet.agent.host.client import release
    from variet.agent.titles import title_of
    from variet.errors import SessionError

    name, words = kept_sessions.find(session).name, title_of(title)
    if not words:
        raise SessionError("a title has at least one word", next_step="Give it a word")
    asyncio.run(release(name))
    opened = kept_sessions.resume(name)
    try:
        opened.note(TitleChanged(title=words))
    finally:
        opened.close()
    click.echo(f"{name} is called: {safe(words)}")


@sessions.command()
@click.argument("session", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(session: tuple[str, ...], yes: bool) -> None:
    """Delete sessions: what was said in them, and what undo needs. Files of the workspace stay as they are."""
    import asyncio

    from variet.agent import sessions as kept_sessions
    from variet.agent.host.client import release

    titles = {one.header.id: one.title for one in kept_sessions.listed()}
    names = [kept_sessions.find(one).name for one in session]
    for name in names:
        click.echo(f"{name}  {safe(titles.get(name, ''))}", err=True)
    if not yes and not click.confirm(f"Delete {'it' if len(names) == 1 else 'all of them'}?", err=True):
        raise click.Abort
    for name in names:
        asyncio.run(release(name))
        click.echo(f"removed: {kept_sessions.remove(name)}")


@sessions.command()
@click.argument("session")
def export(session: str) -> None:
    """Print a session as Markdown."""
    from variet.agent.sessions import read
    from variet.agent.transcript import markdown

    header, events = read(session)
    text = markdown(header, events)
    click.echo(safe(text) if sys.stdout.isatty() else text)


def _with_steps(session: str | None, act: Act, *, writes: bool = False) -> None:
    """Do something with what a session changed. `writes`: raises SessionError where somebody else works on it; what
    only reads is done beside them."""
    import asyncio

    from variet.agent import sessions as kept_sessions
    from variet.agent.checkpoints import Checkpoints
    from variet.agent.host.client import release
    from variet.agent.workspace import Workspace
    from variet.errors import SessionError

    async def run() -> None:
        name = session or kept_sessions.latest(Path.cwd().resolve())
        if name is None:
            raise SessionError("there is no session of this folder", next_step="`variet sessions --all` lists others")
        folder = kept_sessions.find(name)
        root = Path(kept_sessions.read(name)[0].cwd)
        if why := Checkpoints.refusal(root):
            raise SessionError(f"nothing was kept: {why}")
        checkpoints = Checkpoints(Workspace(root), folder / "steps.json")
        if not writes:
            await act(checkpoints, None)
            return
        await release(folder.name)
        opened = kept_sessions.resume(name)
        try:
            await checkpoints.open()
            await act(checkpoints, opened)
        finally:
            opened.close()

    asyncio.run(run())
