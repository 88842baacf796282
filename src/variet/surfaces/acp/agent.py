"""The protocol's agent side: sessions, prompts, permissions, modes and tiers. One of these serves one editor.

The agent reads and writes files itself; the editor's own file and terminal methods are not used (the next version of
the protocol drops them). Protocol: agentclientprotocol.com, version 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import acp
from acp import RequestError, schema

from variet import __version__
from variet.agent import sessions
from variet.agent.events import ApprovalRequested, Diff, EventBase, Notice, TierChanged, TurnEnded, TurnStarted
from variet.agent.opening import Opened
from variet.agent.settings import ServerSettings
from variet.approval import Approval, Decision
from variet.errors import VarietError
from variet.policy.action import MODES, Mode
from variet.surfaces.acp.updates import Updates, diffs_of
from variet.surfaces.ending import ended_by_signals
from variet.tiers import TIERS
from variet.visible import one_line

log = logging.getLogger("variet.acp")

Open = Callable[[Path, str | None, dict[str, ServerSettings]], Awaitable[Opened]]
_MODES: dict[Mode, tuple[str, str]] = {
    "plan": ("Plan", "Reads and plans; changes nothing"),
    "ask": ("Ask", "Asks before each edit and command"),
    "auto-edit": ("Edit", "Edits this folder without asking; asks for commands"),
    "full": ("Full", "Runs commands in the sandbox without asking, too"),
}
_COMMANDS = {
    "compact": "make the conversation shorter",
    "diff": "what this session changed",
    "undo": "take its last change back; all: all of them",
    "context": "how full the context is",
}
_GREET_S = 0.1
_STOPS: dict[str, Any] = {"output_tokens": "max_tokens"}
_OPTIONS = {
    "once": schema.PermissionOption(option_id="once", name="Allow", kind="allow_once"),
    "session": schema.PermissionOption(option_id="session", name="Allow for this session", kind="allow_always"),
    "always": schema.PermissionOption(option_id="always", name="Always allow in this folder", kind="allow_always"),
}
_REJECT = schema.PermissionOption(option_id="no", name="Reject", kind="reject_once")


@dataclass
class _Held:
    """One open session. `to_tell`: what the model should know of with the person's next words."""

    opened: Opened
    updates: Updates
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    to_tell: list[str] = field(default_factory=list)
    asking: set[asyncio.Task[None]] = field(default_factory=set)


class VarietAgent:
    """`open_session(folder, id or None, the editor's servers)` opens sessions."""

    def __init__(self, open_session: Open) -> None:
        self._open = open_session
        self._held: dict[str, _Held] = {}
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
            ),
        )  # fmt: skip

    async def authenticate(self, method_id: str, **_: Any) -> None:
        return None  # the engine's key is this machine's, by pairing

    # --- sessions ---

    async def new_session(self, cwd: str, mcp_servers: Any = None, **_: Any) -> schema.NewSessionResponse:
        held = await self._opened(cwd, None, mcp_servers)
        name = held.opened.session.header.id
        return schema.NewSessionResponse(
            session_id=name, modes=_modes(held.opened), config_options=_options(held.opened)
        )

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: Any = None, **_: Any
    ) -> schema.LoadSessionResponse:
        held = await self._opened(cwd, session_id, mcp_servers)
        for event in list(held.opened.session.events):
            for update in held.updates.replay(event):
                await self._editor.session_update(session_id, update)
        return schema.LoadSessionResponse(modes=_modes(held.opened), config_options=_options(held.opened))

    async def resume_session(
        self, session_id: str, cwd: str, mcp_servers: Any = None, **_: Any
    ) -> schema.ResumeSessionResponse:
        held = await self._opened(cwd, session_id, mcp_servers)
        return schema.ResumeSessionResponse(modes=_modes(held.opened), config_options=_options(held.opened))

    async def list_sessions(self, cwd: str | None = None, **_: Any) -> schema.ListSessionsResponse:
        found = await asyncio.to_thread(sessions.listed)
        return schema.ListSessionsResponse(
            sessions=[
                schema.SessionInfo(
                    session_id=one.header.id,
                    cwd=one.header.cwd,
                    title=one.title or None,
                    updated_at=_iso(one.changed_ms),
                )
                for one in found
                if one.header.kind == "code" and (cwd is None or one.header.cwd == str(Path(cwd).resolve()))
            ]
        )

    async def close_session(self, session_id: str, **_: Any) -> None:
        await self._let_go(session_id)

    async def close(self) -> None:
        """The editor is gone: end all that runs."""
        await asyncio.gather(*(self._let_go(name) for name in list(self._held)))

    async def _opened(self, cwd: str, name: str | None, servers: Any) -> _Held:
        folder = Path(cwd)
        if not folder.is_absolute() or not folder.is_dir():
            raise RequestError.invalid_params({"cwd": f"{cwd} is no folder here"})
        if name is not None:
            await self._let_go(name)
        try:
            opened = await self._open(folder.resolve(), name, _servers(servers or ()))
        except VarietError as error:
            raise _told(error) from None
        held = _Held(opened, Updates(opened.kit.workspace.root))
        self._held[opened.session.header.id] = held
        # Once the editor has the answer that names the session: some drop what comes before.
        asyncio.get_running_loop().call_later(_GREET_S, lambda: asyncio.ensure_future(self._greet(held)))
        return held

    async def _greet(self, held: _Held) -> None:
        """What is told once the editor knows of the session."""
        name = held.opened.session.header.id
        if name not in self._held:
            return
        commands = [schema.AvailableCommand(name=one, description=what) for one, what in _COMMANDS.items()]
        await self._editor.session_update(
            name,
            schema.AvailableCommandsUpdate(session_update="available_commands_update", available_commands=commands),
        )
        for note in held.opened.notes:
            await self._say(name, f"*note: {note}*\n\n")

    async def _let_go(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        held.opened.agent.cancel()
        async with held.lock:  # the turn's end is written first
            await held.opened.close()

    def _of(self, session_id: str) -> _Held:
        held = self._held.get(session_id)
        if held is None:
            raise RequestError.invalid_params({"session_id": f"{session_id} is not open; load it first"})
        return held

    # --- prompts ---

    async def prompt(self, session_id: str, prompt: Sequence[Any], **_: Any) -> schema.PromptResponse:
        held = self._of(session_id)
        if held.lock.locked():
            raise RequestError.invalid_request({"prompt": "a turn is under way; _variet/steer tells it something more"})
        async with held.lock:
            text, context = words_of(prompt)
            name, argument = [*text.strip().split(" ", 1), "", ""][:2]
            if name.startswith("/") and name[1:] in _COMMANDS:
                return await self._command(session_id, held, name[1:], argument.strip())
            parts = (held.opened.context(), *held.to_tell, context)
            held.to_tell = []
            told = "\n\n".join(part for part in parts if part)
            return await self._turn(session_id, held, held.opened.agent.run(text, told))

    async def _turn(self, session_id: str, held: _Held, events: Any) -> schema.PromptResponse:
        stop: Any = "end_turn"
        usage: schema.Usage | None = None
        problem = ""
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    problem = await self._see(session_id, held, event) or problem
                    if isinstance(event, TurnEnded) and event.parent_id is None:
                        stop, usage = await self._stop(session_id, event, problem)
        except VarietError as error:
            raise _told(error) from None
        finally:
            for task in held.asking:
                task.cancel()
        return schema.PromptResponse(stop_reason=stop, usage=usage)

    async def _see(self, session_id: str, held: _Held, event: EventBase) -> str:
        """Tell an event. The words of an error that ends the turn."""
        if isinstance(event, Notice) and event.level == "error" and event.parent_id is None:
            return f"{event.text}. {event.next}".strip()
        for update in held.updates.of(event):
            await self._editor.session_update(session_id, update)
        if isinstance(event, ApprovalRequested):
            task = asyncio.create_task(self._ask(session_id, held, event.approval))
            held.asking.add(task)
            task.add_done_callback(held.asking.discard)
        elif isinstance(event, TierChanged):
            await self._editor.session_update(session_id, _options_update(held.opened))
        elif isinstance(event, TurnStarted) and event.parent_id is None and len(_turns(held)) == 1:
            title = " ".join(event.input.split())[:80]
            await self._editor.session_update(
                session_id, schema.SessionInfoUpdate(session_update="session_info_update", title=title)
            )
        return ""

    async def _stop(self, session_id: str, event: TurnEnded, problem: str) -> tuple[str, schema.Usage]:
        """(the protocol's reason, what the turn cost). Raises RequestError for a turn that failed."""
        used = event.usage
        usage = schema.Usage(
            total_tokens=used.prompt + used.output, input_tokens=used.prompt, output_tokens=used.output,
            cached_read_tokens=used.cached,
        )  # fmt: skip
        if event.reason == "error":
            raise RequestError(-32603, problem or f"the turn failed: {event.detail}", {"code": event.detail})
        if event.reason == "limit":
            await self._say(session_id, f"\n*stopped at a limit: {event.detail}*\n")
            return _STOPS.get(event.detail, "max_turn_requests"), usage
        return ("cancelled" if event.reason == "cancelled" else "end_turn"), usage

    async def cancel(self, session_id: str, **_: Any) -> None:
        if session_id in self._held:
            self._held[session_id].opened.agent.cancel()

    async def _ask(self, session_id: str, held: _Held, approval: Approval) -> None:
        """A person's decision, by the editor's dialog. What is no clear yes is a no."""
        call = schema.ToolCallUpdate(
            tool_call_id=approval.id.removeprefix("approval-"), title=approval.summary, status="pending",
            content=_shown(approval, held.opened.kit.workspace.root),
            field_meta={"variet": approval.model_dump()},
        )  # fmt: skip
        options = [*(_OPTIONS[scope] for scope in approval.scopes), _REJECT]
        chosen = "no"
        meta: dict[str, Any] = {}
        try:
            answer = await self._editor.request_permission(session_id, call, options)
            chosen = answer.outcome.option_id if isinstance(answer.outcome, schema.AllowedOutcome) else "no"
            meta = answer.field_meta or {}
        except Exception as error:  # noqa: BLE001 - an editor that fails has not said yes
            log.warning("the editor did not ask its person: %s: %s", type(error).__name__, error)
            meta = {"feedback": "The editor could not ask the user."}
        scope = next((one for one in approval.scopes if one == chosen), None)
        held.opened.agent.answer(
            Decision(
                approval_id=approval.id, payload_sha256=approval.payload_sha256,
                choice="approve" if scope else "reject", scope=scope or "once", surface="acp",
                feedback=meta.get("feedback"),
            )
        )  # fmt: skip

    # --- commands, modes, tiers ---

    async def _command(self, session_id: str, held: _Held, name: str, argument: str) -> schema.PromptResponse:
        opened = held.opened
        if name == "compact":
            return await self._turn(session_id, held, opened.agent.compact())
        if name == "diff":
            patch = await self._patch(held)
            await self._say(session_id, f"```diff\n{patch}```\n" if patch else "Nothing was changed.")
        elif name == "undo":
            done = await self._undo(held, everything=argument == "all")
            lines = [f"put back `{path}`" for path in done["restored"]]
            lines += [f"left `{path}`: {why}" for path, why in done["left"].items()]
            await self._say(session_id, "\n".join(lines) or "There is nothing to take back.")
        else:
            kit = opened.kit
            await self._say(
                session_id,
                f"{kit.facts.name} ({kit.facts.model}), mode {kit.permissions.mode}, profile {kit.profile}, "
                f"{len(kit.rendering.messages)} messages; at most {kit.facts.context_tokens:,} tokens",
            )
        return schema.PromptResponse(stop_reason="end_turn")

    async def set_session_mode(self, session_id: str, mode_id: str, **_: Any) -> None:
        held = self._of(session_id)
        held.opened.agent.set_mode(_mode(mode_id))
        await self._editor.session_update(session_id, _options_update(held.opened))

    async def set_config_option(
        self, config_id: str, session_id: str, value: str | bool, **_: Any
    ) -> schema.SetSessionConfigOptionResponse:
        held = self._of(session_id)
        if config_id == "mode":
            held.opened.agent.set_mode(_mode(str(value)))
            await self._editor.session_update(
                session_id, schema.CurrentModeUpdate(session_update="current_mode_update", current_mode_id=str(value))
            )
        elif config_id == "tier":
            if held.lock.locked():
                raise RequestError.invalid_request({"tier": "a turn is under way; change the tier after it"})
            try:
                held.opened.agent.sit(await held.opened.seat(str(value)), "chosen by the person")
            except VarietError as error:
                raise _told(error) from None
        else:
            raise RequestError.invalid_params({"config_id": f"there is no option {config_id!r}; there are: mode, tier"})
        return schema.SetSessionConfigOptionResponse(config_options=_options(held.opened))

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """`_variet/steer {sessionId, text}`, `_variet/undo {sessionId, all?}`, `_variet/diff {sessionId}`."""
        if method not in ("variet/steer", "variet/undo", "variet/diff"):
            raise RequestError.method_not_found(f"_{method}")
        held = self._of(str(params.get("sessionId", "")))
        if method == "variet/steer":
            held.opened.agent.steer(str(params.get("text", "")))
            return {}
        if method == "variet/diff":
            return {"patch": await self._patch(held)}
        if held.lock.locked():
            raise RequestError.invalid_request({"undo": "a turn is under way; cancel it first"})
        async with held.lock:
            return await self._undo(held, everything=bool(params.get("all")))

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        return None

    async def _patch(self, held: _Held) -> str:
        kept = held.opened.kit.checkpoints
        return await kept.diff(kept.steps) if kept else ""

    async def _undo(self, held: _Held, *, everything: bool) -> dict[str, Any]:
        kept = held.opened.kit.checkpoints
        if kept is None or not kept.steps:
            return {"restored": [], "left": {}}
        undone = await kept.undo(kept.steps if everything else kept.steps[-1:])
        if undone.restored:
            names = ", ".join(undone.restored)
            held.to_tell.append(f"The user took changes back; these files stand as before: {names}")
        return {"restored": list(undone.restored), "left": dict(undone.left)}

    async def _say(self, session_id: str, text: str) -> None:
        await self._editor.session_update(session_id, acp.update_agent_message_text(text))


def words_of(blocks: Sequence[Any]) -> tuple[str, str]:
    """(the person's words, files that the editor sent along). Links stay names: the agent reads them itself."""
    words: list[str] = []
    attached: list[str] = []
    for block in blocks:
        if block.type == "text":
            words.append(block.text)
        elif block.type == "resource_link":
            words.append(f"@{_path_of(block.uri)}")
        elif block.type == "resource" and getattr(block.resource, "text", None) is not None:
            name = _path_of(block.resource.uri)
            words.append(f"@{name}")
            attached.append(f"{name}, as the editor shows it:\n```\n{block.resource.text}\n```")
        else:
            words.append(f"({block.type}, which cannot be read here)")
    return "".join(words), "\n\n".join(attached)


def _path_of(uri: str) -> str:
    parsed = urlparse(uri)
    return unquote(parsed.path) if parsed.scheme == "file" else uri


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


def _modes(opened: Opened) -> schema.SessionModeState:
    modes = [schema.SessionMode(id=one, name=_MODES[one][0], description=_MODES[one][1]) for one in MODES]
    return schema.SessionModeState(current_mode_id=opened.kit.permissions.mode, available_modes=modes)


def _options(opened: Opened) -> list[Any]:
    kit = opened.kit
    modes = [schema.SessionConfigSelectOption(value=one, name=_MODES[one][0], description=_MODES[one][1])
             for one in MODES]  # fmt: skip
    names = [*TIERS, *([kit.facts.name] if kit.facts.name not in TIERS else [])]
    tiers = [schema.SessionConfigSelectOption(value=one, name=one) for one in names]
    return [
        schema.SessionConfigOptionSelect(
            type="select", id="mode", name="Mode", category="mode", current_value=kit.permissions.mode, options=modes
        ),
        schema.SessionConfigOptionSelect(
            type="select", id="tier", name="Tier", category="model", current_value=kit.facts.name, options=tiers
        ),
    ]


def _options_update(opened: Opened) -> schema.ConfigOptionUpdate:
    return schema.ConfigOptionUpdate(session_update="config_option_update", config_options=_options(opened))


def _mode(name: str) -> Mode:
    mode = next((one for one in MODES if one == name), None)
    if mode is None:
        raise RequestError.invalid_params({"mode_id": f"there is no mode {name!r}; there are: {', '.join(MODES)}"})
    return mode


def _shown(approval: Approval, root: Path) -> list[Any]:
    """What a dialog shows: the change itself, or all that the call is given."""
    if approval.sink == "write" and approval.preview.startswith("--- "):
        name = approval.preview.split("\n", 2)[1].removeprefix("+++ b/")
        diff = Diff(path=name, before_sha256="", after_sha256=None, patch=approval.preview)
        return diffs_of(diff, root)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", approval.preview)), 3)
    head = f"{one_line(approval.summary)}\n\nbecause {one_line(approval.reason)}"
    return [acp.tool_content(acp.text_block(f"{head}\n\n{fence}\n{approval.preview}\n{fence}"))]


def _turns(held: _Held) -> list[TurnStarted]:
    return [event for event in held.opened.session.events if isinstance(event, TurnStarted)]


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
