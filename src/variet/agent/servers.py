"""MCP servers that a person configured: connected side by side, each owned by one task, restarted when needed again.

A server that fails is told once and disturbs nobody. What its tools say of themselves is text of a stranger: cleaned,
cut, and remembered by its hash, so that a tool which says something else than before asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from variet import __version__, paths, processes
from variet.agent.settings import ServerSettings
from variet.errors import ToolFailed

if TYPE_CHECKING:
    from mcp.client import Client

log = logging.getLogger("variet.agent")

_CONNECT_S = 20.0
_PATIENCE_S = 10.0  # that a session waits for its servers; those that are slower join later
_MOST_TOOLS = 200  # of one server
_MOST_DESCRIPTION = 400  # characters
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")


@dataclass(frozen=True, slots=True)
class ForeignTool:
    """`name`: the server's and its own, with a dot between. `looks`: it says that it changes nothing. `digest`: of what
    it says of itself."""

    name: str
    description: str
    schema: dict[str, Any]
    looks: bool
    digest: str

    @property
    def signature(self) -> str:
        """One line for the model, as `web.search(query: string, limit?: integer)`."""
        needed = self.schema.get("required") or []
        properties = self.schema.get("properties") or {}
        parts = [
            f"{name}{'' if name in needed else '?'}: {_kind(one if isinstance(one, dict) else {})}"
            for name, one in properties.items()
        ]
        return f"{self.name}({', '.join(parts)})"


@dataclass
class Servers:
    """All of a session."""

    servers: dict[str, _Server] = field(default_factory=dict)
    tools: dict[str, ForeignTool] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()  # tools that the person allowed beforehand, by name
    brokered: frozenset[str] = frozenset()  # servers of Variet's own, which ask its broker for everything
    failed: dict[str, str] = field(default_factory=dict)  # by server: why
    joining: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # that did not answer yet
    _known: dict[str, str] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there are tools, or will be."""
        return bool(self.tools or self.joining)

    @property
    def foreign(self) -> list[ForeignTool]:
        """Those of servers that are not Variet's own."""
        return [tool for name, tool in self.tools.items() if name.partition(".")[0] not in self.brokered]

    async def connect(
        self, wanted: Mapping[str, ServerSettings], brokered: Mapping[str, ServerSettings] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """Those that answer soon are there afterwards, `failed` says what became of others; `joining` are those whose
        tools come as soon as they answer: one slow server keeps nobody waiting. `brokered`: Variet's own. Nobody waits
        for them here: what their tools are is known, and a call waits for its server. `environ`: what `${NAME}` in
        settings stands for, and where programs are."""
        own = brokered or {}
        usable = {name: one for name, one in {**wanted, **own}.items() if not one.disabled}
        self.brokered = frozenset(own)
        for name, one in usable.items():
            try:
                self.servers[name] = _Server(name, one.filled(environ).on_path(environ))
            except KeyError as missing:
                self.failed[name] = f"the variable {missing.args[0]} is not set"
        self.allowed = frozenset(f"{name}.{tool}" for name, one in usable.items() for tool in one.always_allow)
        self._known = _seen()
        self.joining = {name: asyncio.create_task(self._join(name), name=f"mcp {name} joins") for name in self.servers}
        others = [task for name, task in self.joining.items() if name not in own]
        if others:
            await asyncio.wait(others, timeout=_PATIENCE_S)

    async def _join(self, name: str) -> None:
        try:
            tools = await self.servers[name].tools()
        except ToolFailed as error:
            self.failed[name] = error.what
            log.warning("MCP server %s: %s", name, error.what)
        else:
            fresh = {tool.name: tool.digest for tool in tools if tool.name not in self._known}
            if fresh and name not in self.brokered:
                self._learn(fresh)
            self.tools |= {tool.name: tool for tool in tools}
        finally:
            del self.joining[name]

    async def joined(self, server: str) -> None:
        """Waits until a server's tools are there, or it failed."""
        if task := self.joining.get(server):
            await asyncio.wait([task])

    def changed(self, name: str) -> bool:
        """Whether a tool says something else of itself than when it was first seen, or last allowed."""
        tool = self.tools.get(name)
        return tool is not None and self._known.get(name) != tool.digest

    def accept(self, name: str) -> None:
        """A person has allowed the tool as it is now."""
        if self.changed(name):
            self._learn({name: self.tools[name].digest})

    async def call(self, name: str, args: dict[str, Any], say: Any = None) -> tuple[str, bool]:
        """(what it says, whether it failed). Raises ToolFailed where the server is not there."""
        server, _, tool = name.partition(".")
        return await self.servers[server].call(tool, args, say)

    async def close(self) -> None:
        joining = list(self.joining.values())
        for task in joining:
            task.cancel()
        await asyncio.gather(*joining, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self.servers.values()))

    def _learn(self, digests: Mapping[str, str]) -> None:
        self._known = {**_seen(), **digests}
        paths.private_dir(paths.state_dir())
        paths.write_whole(_seen_file(), json.dumps(self._known, indent=1, sort_keys=True), 0o600)


class _Server:
    """One server. Its client is opened and closed by one task: its cancel scopes may not be shared."""

    def __init__(self, name: str, settings: ServerSettings) -> None:
        self._name = name
        self._settings = settings
        self._owner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._client: asyncio.Future[Client] | None = None

    async def tools(self) -> list[ForeignTool]:
        """Raises ToolFailed."""
        client = await self._connected()
        found: list[ForeignTool] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(_CONNECT_S):
                while True:
                    page = await client.list_tools(cursor=cursor)
                    found += [_foreign(self._name, tool) for tool in page.tools]
                    cursor = page.next_cursor
                    if not cursor or len(found) >= _MOST_TOOLS:
                        return found[:_MOST_TOOLS]
        except TimeoutError:
            raise ToolFailed(f"it did not list its tools within {_CONNECT_S:g} s") from None
        except Exception as error:  # noqa: BLE001 - of a stranger's program
            raise ToolFailed(f"it could not list its tools: {_told(error)}") from None

    async def call(self, tool: str, args: dict[str, Any], say: Any) -> tuple[str, bool]:
        async def said(progress: float, total: float | None, message: str | None) -> None:
            if say is not None and message:
                say(f"{_clean(message)}\n")

        client = await self._connected()
        limit_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                answer = await client.call_tool(tool, args, progress_callback=said)
        except TimeoutError:
            raise ToolFailed(f"{self._name}.{tool} did not answer within {limit_s:g} s") from None
        except Exception as error:  # noqa: BLE001 - likewise
            if await self._ended(error):
                raise ToolFailed(f"the server {self._name} ended: {_told(error)}", next_step="Call it again") from None
            raise ToolFailed(f"{self._name}.{tool} failed: {_told(error)}") from None
        return _text(answer), bool(answer.is_error)

    async def _ended(self, error: Exception) -> bool:
        """Whether the server is gone; then its owner lets go of it, and the next call starts it again."""
        from mcp.shared.exceptions import MCPError
        from mcp.types import CONNECTION_CLOSED

        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
            await self.close()
        return self._owner is None or self._owner.done()

    async def close(self) -> None:
        if self._owner is None:
            return
        self._stop.set()
        _, late = await asyncio.wait([self._owner], timeout=5)
        for task in late:
            task.cancel()
        await asyncio.gather(self._owner, return_exceptions=True)

    async def _connected(self) -> Client:
        """Raises ToolFailed."""
        if self._owner is None or self._owner.done():
            self._stop = asyncio.Event()
            self._client = asyncio.get_running_loop().create_future()
            self._owner = asyncio.create_task(self._own(self._client), name=f"mcp {self._name}")
        assert self._client is not None
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await asyncio.shield(self._client)
        except TimeoutError:
            self._owner.cancel()
            raise ToolFailed(f"it did not answer within {_CONNECT_S:g} s") from None

    async def _own(self, ready: asyncio.Future[Client]) -> None:
        try:
            async with _client(self._name, self._settings) as client:
                if not ready.done():
                    ready.set_result(client)
                await self._stop.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and the session goes on
            if not ready.done():
                ready.set_exception(ToolFailed(f"it cannot be used: {_told(error)}"))
        finally:
            if not ready.done():
                ready.cancel()


@contextlib.asynccontextmanager
async def _client(name: str, settings: ServerSettings) -> AsyncIterator[Client]:
    import httpx2
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.types import Implementation

    me = Implementation(name="variet", version=__version__)
    async with contextlib.AsyncExitStack() as stack:
        if settings.command:
            log = stack.enter_context(_log(name))
            search = settings.env.get("PATH", os.environ.get("PATH", os.defpath))
            if shutil.which(settings.command, path=search) is None:
                raise ToolFailed(f"there is no program {settings.command}")
            command, *args = processes.behind_keeper([settings.command, *settings.args])
            parameters = StdioServerParameters(command=command, args=args, env=settings.env or None)
            transport = stdio_client(parameters, errlog=log)
        elif settings.url:
            limits = httpx2.Timeout(_CONNECT_S, read=settings.timeout_s)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=settings.headers, timeout=limits))
            transport = streamable_http_client(settings.url, http_client=http)
        else:
            raise ToolFailed("it has neither a command nor a url")
        yield await stack.enter_async_context(Client(transport, client_info=me))


def _log(name: str) -> TextIO:
    """What a server says beside its answers; of its last run."""
    folder = paths.private_dir(paths.private_dir(paths.state_dir()) / "servers")
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.log"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return io.TextIOWrapper(os.fdopen(handle, "wb"), encoding="utf-8")


def _foreign(server: str, tool: Any) -> ForeignTool:
    schema = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    told = _clean(tool.description or "").strip()
    looks = bool(tool.annotations and tool.annotations.read_only_hint)
    seen = json.dumps([tool.name, tool.description, schema, looks], sort_keys=True)
    short = told if len(told) <= _MOST_DESCRIPTION else f"{told[:_MOST_DESCRIPTION]} …"
    return ForeignTool(f"{server}.{_clean(tool.name)}", short, schema, looks, hashlib.sha256(seen.encode()).hexdigest())


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "|".join(json.dumps(one) for one in schema["enum"][:12])
    kinds = schema.get("type") or "/".join(_kind(one) for one in schema.get("anyOf", ()) if isinstance(one, dict))
    if kinds == "array":
        items = schema.get("items")
        return f"[{_kind(items if isinstance(items, dict) else {})}]"
    return "|".join(kinds) if isinstance(kinds, list) else str(kinds or "any")


def _text(answer: Any) -> str:
    """What an answer says in words; what is no text is named."""
    parts: list[str] = []
    for block in answer.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource" and hasattr(block.resource, "text"):
            parts.append(f"{block.resource.uri}:\n{block.resource.text}")
        else:
            parts.append(f"({block.type}, left out)")
    if not parts and answer.structured_content:
        parts.append(json.dumps(answer.structured_content, ensure_ascii=False))
    return _clean("\n".join(parts))


def _clean(text: str) -> str:
    """Without characters that people would not see."""
    return _UNSEEN.sub("", text)


def _told(error: BaseException) -> str:
    """The words of an error, of the first within a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return _clean(str(error))[:300] or type(error).__name__


def _seen_file() -> Path:
    return paths.state_dir() / "foreign_tools.json"


def _seen() -> dict[str, str]:
    try:
        known = json.loads(_seen_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(one) for name, one in known.items()} if isinstance(known, dict) else {}


_MOST_TOLD = 6_000  # characters of all descriptions together


def told(tools: Sequence[ForeignTool], before: Sequence[str] = ()) -> str:
    """What the model reads of further tools: whole where that is little, else their names and first sentences. Not
    again what stands in what it was told `before`."""
    known = {line for text in before for line in text.split("\n")}
    fresh = [one for one in sorted(tools, key=lambda one: one.name) if not {_whole(one), _short(one)} & known]
    if not fresh:
        return ""
    begin = "Further tools, each called as call_tool(name, args):\n"
    whole = "\n".join(map(_whole, fresh))
    if len(whole) <= _MOST_TOLD:
        return begin + whole
    short = "\n".join(map(_short, fresh))
    return f"{begin}{short[:_MOST_TOLD]}\n(a call with wrong arguments is answered with those that it takes)"


def _whole(tool: ForeignTool) -> str:
    return " ".join(f"- {tool.signature}{f': {tool.description}' if tool.description else ''}".split("\n"))


def _short(tool: ForeignTool) -> str:
    return " ".join(f"- {tool.name}: {tool.description.partition('. ')[0][:80]}".split("\n"))
