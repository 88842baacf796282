"""The protocol's agent side: sessions, prompts, permissions, modes and tiers. One of these serves one editor.

The agent reads and writes files itself; the editor's own file and terminal methods are not used (the next version of
the protocol drops them). Protocol: agentclientprotocol.com, version 1.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import acp
from acp import RequestError, schema
from pydantic import ValidationError

from variet import __version__
from variet.agent import sessions
from variet.agent.changes import Changes, Selection
from variet.agent.conversation import Conversation
from variet.agent.sessions import Listed
from variet.agent.settings import ServerSettings
from variet.agent.slash import selection_of
from variet.errors import VarietError
from variet.surfaces.acp.options import mode_of, modes, options
from variet.surfaces.acp.prompts import words_of
from variet.surfaces.acp.session import EditorSession
from variet.surfaces.ending import ended_by_signals

Open = Callable[[Path, str | None, dict[str, ServerSettings]], Awaitable[Conversation]]
_COMMANDS = {
    "compact": "make the conversation shorter",
    "diff": "what this session changed",
    "undo": "take its last change back; turn: its last turn; all: all of it; FILE: what it changed there",
    "context": "how full the context is",
}
EXTENSIONS = (
    "_variet/steer", "_variet/changes", "_variet/undo", "_variet/diff", "_variet/rename", "_variet/queue",
    "_variet/jobs",
)  # fmt: skip
_GREET_S = 0.1
_PAGE = 50  # sessions of a list


class VarietAgent:
    """`open_session(folder, id or None, the editor's servers)` opens sessions."""

    def __init__(self, open_session: Open) -> None:
        self._open = open_session
        self._sessions: dict[str, EditorSession] = {}
        self._editor: Any = None

    def on_connect(self, conn: Any) -> None:
        self._editor = conn

    async def initialize(self, protocol_version: int, **_: Any) -> schema.InitializeResponse:
        return schema.InitializeResponse(
            protocol_version=min(protocol_version, acp.PROTOCOL_VERSION),
            agent_info=schema.Implementation(name="variet", title="Variet", version=__version__),
            agent_capabilities=schema.AgentCapabilities(
                load_session=True,
                prompt_capabilities=schema.PromptCapabilities(embedded_context=True),
                mcp_capabilities=schema.McpCapabilities(http=True),
                session_capabilities=schema.SessionCapabilities(
                    list=schema.SessionListCapabilities(), resume=schema.SessionResumeCapabilities(),
                    close=schema.SessionCloseCapabilities(),
                ),
                field_meta={"variet": {"extensions": list(EXTENSIONS)}},
            ),
        )  # fmt: skip

    async def authenticate(self, method_id: str, **_: Any) -> None:
        return None  # the engine's key is this machine's, by pairing

    # --- sessions ---

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> schema.NewSessionResponse:
        session = await self._opened(cwd, None, mcp_servers)
        state = session.conversation.state
        return schema.NewSessionResponse(session_id=session.id, modes=modes(state), config_options=options(state))

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: Any = None, **_: Any
    ) -> schema.LoadSessionResponse:
        session = await self._opened(cwd, session_id, mcp_servers)
        await session.replay()
        state = session.conversation.state
        return schema.LoadSessionResponse(modes=modes(state), config_options=options(state))

    async def resume_session(
        self, session_id: str, cwd: str, mcp_servers: Any = None, **_: Any
    ) -> schema.ResumeSessionResponse:
        state = (await self._opened(cwd, session_id, mcp_servers)).conversation.state
        return schema.ResumeSessionResponse(modes=modes(state), config_options=options(state))

    async def list_sessions(
        self, cwd: str | None = None, cursor: str | None = None, **_: Any
    ) -> schema.ListSessionsResponse:
        """Fifty at a time, the latest first. A cursor names the last one that was listed."""
        found, more = _page(await asyncio.to_thread(sessions.listed), cwd, cursor)
        return schema.ListSessionsResponse(
            sessions=[
                schema.SessionInfo(
                    session_id=one.header.id,
                    cwd=one.header.cwd,
                    title=one.title or None,
                    updated_at=_iso(one.changed_ms),
                )
                for one in found
            ],
            next_cursor=more,
        )

    async def close_session(self, session_id: str, **_: Any) -> None:
        await self._let_go(session_id)

    async def close(self) -> None:
        """The editor is gone: end all that runs."""
        await asyncio.gather(*(self._let_go(name) for name in list(self._sessions)))

    async def _opened(self, cwd: str, name: str | None, servers: Any) -> EditorSession:
        folder = Path(cwd)
        if not folder.is_absolute() or not folder.is_dir():
            raise RequestError.invalid_params({"cwd": f"{cwd} is no folder here"})
        if name is not None:
            await self._let_go(name)
        try:
            conversation = await self._open(folder.resolve(), name, _servers(servers or ()))
        except VarietError as error:
            raise _told(error) from None
        session = self._sessions[conversation.header.id] = EditorSession(conversation, self._editor)
        # Once the editor has the answer that names the session: some drop what comes before.
        asyncio.get_running_loop().call_later(_GREET_S, lambda: asyncio.ensure_future(self._greet(session)))
        return session

    async def _greet(self, session: EditorSession) -> None:
        """What is told once the editor knows of the session."""
        if self._sessions.get(session.id) is not session:
            return
        commands = [schema.AvailableCommand(name=name, description=what) for name, what in _COMMANDS.items()]
        await session.tell(
            schema.AvailableCommandsUpdate(session_update="available_commands_update", available_commands=commands)
        )
        for note in session.conversation.notes:
            await session.say(f"*note: {note}*\n\n")

    async def _let_go(self, name: str) -> None:
        if (session := self._sessions.pop(name, None)) is not None:
            await session.close()

    def _of(self, session_id: str) -> EditorSession:
        session = self._sessions.get(session_id)
        if session is None:
            raise RequestError.invalid_params({"session_id": f"{session_id} is not open; load it first"})
        return session

    # --- prompts ---

    async def prompt(self, session_id: str, prompt: Sequence[Any], **_: Any) -> schema.PromptResponse:
        session = self._of(session_id)
        text, attached = words_of(prompt)
        name, argument = [*text.strip().split(" ", 1), "", ""][:2]
        try:
            if name.startswith("/") and name[1:] in _COMMANDS:
                await self._command(session, name[1:], argument.strip())
                return schema.PromptResponse(stop_reason="end_turn")
            return await session.prompt(text, attached)
        except VarietError as error:
            raise _told(error) from None

    async def cancel(self, session_id: str, **_: Any) -> None:
        if session_id in self._sessions:
            self._sessions[session_id].conversation.cancel()

    # --- commands, modes, tiers ---

    async def _command(self, session: EditorSession, name: str, argument: str) -> None:
        conversation, state = session.conversation, session.conversation.state
        if name == "compact":
            await conversation.compact()
        elif name == "diff":
            patch = (await conversation.changes()).patch
            await session.say(f"```diff\n{patch}```\n" if patch else "Nothing was changed.")
        elif name == "undo":
            undone = await conversation.undo(selection_of(argument))
            lines = [f"put back `{path}`" for path in undone.restored]
            lines += [f"left `{path}`: {why}" for path, why in undone.left.items()]
            await session.say("\n".join(lines) or "There is nothing to take back.")
        else:
            await session.say(
                f"{state.tier} ({state.model}), mode {state.mode}, profile {state.profile}, "
                f"{len(conversation.runtime.rendering.messages)} messages; at most {state.context_tokens:,} tokens"
            )

    async def set_session_mode(self, session_id: str, mode_id: str, **_: Any) -> None:
        self._of(session_id).conversation.set_mode(mode_of(mode_id))

    async def set_config_option(
        self, config_id: str, session_id: str, value: str | bool, **_: Any
    ) -> schema.SetSessionConfigOptionResponse:
        conversation = self._of(session_id).conversation
        try:
            if config_id == "mode":
                conversation.set_mode(mode_of(str(value)))
            elif config_id == "tier":
                await conversation.set_tier(str(value))
            else:
                raise RequestError.invalid_params(
                    {"config_id": f"there is no option {config_id!r}; there are: mode, tier"}
                )
        except VarietError as error:
            raise _told(error) from None
        return schema.SetSessionConfigOptionResponse(config_options=options(conversation.state))

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """`_variet/NAME {sessionId, ...}`: steer {text}, rename {title}, queue, jobs {stop?}, diff, and changes and
        undo, each of {which?, turnId?, paths?, hunks?}."""
        if f"_{method}" not in EXTENSIONS:
            raise RequestError.method_not_found(f"_{method}")
        conversation = self._of(str(params.get("sessionId", ""))).conversation
        try:
            if method == "variet/steer":
                conversation.steer(str(params.get("text", "")))
                return {}
            if method == "variet/rename":
                conversation.rename(str(params.get("title", "")))
                return {"title": conversation.state.title}
            if method == "variet/jobs":
                if isinstance(number := params.get("stop"), int):
                    await conversation.stop_job(number)
                rows = [{"number": one.number, "command": one.command, "exitCode": one.exit_code, "output": one.output}
                        for one in conversation.jobs()]  # fmt: skip
                return {"jobs": rows}
            if method == "variet/queue":
                queue = conversation.state.queue
                return {
                    "prompts": [{"promptId": one.prompt_id, "text": one.text, "from": one.surface} for one in queue]
                }
            if method == "variet/diff":
                return {"patch": (await conversation.changes()).patch}
            selection = _selected(params, otherwise="all" if method == "variet/changes" else "step")
            if method == "variet/changes":
                return _camel(await conversation.changes(selection))
            undone = await conversation.undo(selection)
        except VarietError as error:
            raise _told(error) from None
        return {"restored": list(undone.restored), "left": dict(undone.left)}

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        return None


def _page(found: Sequence[Listed], cwd: str | None, cursor: str | None) -> tuple[list[Listed], str | None]:
    """(one page of the coding sessions, the cursor for the next). Raises RequestError for a cursor of nothing here."""
    here = str(Path(cwd).resolve()) if cwd is not None else None
    shown = [one for one in found if one.header.kind == "code" and here in (None, one.header.cwd)]
    begin = 0
    if cursor is not None:
        begin = next((at for at, one in enumerate(shown, 1) if one.header.id == cursor), 0)
        if not begin:
            raise RequestError.invalid_params({"cursor": f"{cursor} is no session of this list; begin again"})
    page = shown[begin : begin + _PAGE]
    return page, page[-1].header.id if page and len(shown) > begin + _PAGE else None


def _selected(params: dict[str, Any], otherwise: str) -> Selection:
    """Raises RequestError."""
    which = params.get("which", "all" if params.get("all") else otherwise)
    asked = {"which": which, "turn_id": params.get("turnId", "")}
    try:
        return Selection.model_validate({**asked, "paths": params.get("paths", ()), "hunks": params.get("hunks", ())})
    except ValidationError as error:
        raise RequestError.invalid_params({"selection": str(error)}) from None


def _camel(changes: Changes) -> dict[str, Any]:
    """Names as the protocol writes them."""
    files = [
        {
            "path": one.path, "beforeSha256": one.before_sha256, "afterSha256": one.after_sha256, "patch": one.patch,
            "hunks": [hunk.model_dump() for hunk in one.hunks], "turns": list(one.turns),
        }
        for one in changes.files
    ]  # fmt: skip
    return {"files": files, "left": changes.left}


def _servers(given: Sequence[Any]) -> dict[str, ServerSettings]:
    """The servers that the person configured in the editor."""
    found = {}
    for one in given:
        if isinstance(one, schema.McpServerStdio):
            env = {pair.name: pair.value for pair in one.env}
            found[one.name] = ServerSettings(command=one.command, args=tuple(one.args), env=env)
        elif isinstance(one, schema.HttpMcpServer):
            headers = {pair.name: pair.value for pair in one.headers}
            found[one.name] = ServerSettings(url=one.url, headers=headers)
    return found


def _iso(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _told(error: VarietError) -> RequestError:
    return RequestError(-32603, str(error), {"what": error.what, "next": error.next_step})


async def serve(open_session: Open) -> None:
    """On standard input and output, until the editor closes them, or a signal ends it."""
    agent = VarietAgent(open_session)
    serving = asyncio.create_task(acp.run_agent(agent, use_unstable_protocol=True))  # type: ignore[arg-type]
    with ended_by_signals(serving.cancel):
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        finally:
            await agent.close()
