"""The mail tools over MCP. What reads is done here, with a token that can do no more; what writes, the broker does."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field

from variet.assistant.answers import Done, problems_told
from variet.assistant.gate import Caller
from variet.assistant.google.places import places
from variet.assistant.google.reader import reader
from variet.assistant.mail import files
from variet.assistant.mail.client import Mailbox
from variet.assistant.mail.models import Content, Found, Labels, Letter, Thread
from variet.assistant.sanitize.sight import Sight

_MOST_HITS = 25
_LOOKS = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=True)
_ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)
_SORTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)

Answer = Annotated[CallToolResult, Done] | InputRequiredResult
Query = Annotated[str, Field(description="in Gmail's syntax, as from:ada newer_than:7d", max_length=500)]
To = Annotated[list[str], Field(description="as Ada <ada@example.com>; copies as cc: ada@example.com", max_length=50)]
Body = Annotated[str, Field(description="plain text", max_length=100_000)]
ReplyTo = Annotated[str, Field(description="id of the message that this answers, as read gives it")]
Files = Annotated[list[str], Field(description="whole paths of files to attach", max_length=files.MOST)]
ThreadId = Annotated[str, Field(description="its id, as search gives it")]


def server(sight: Sight | None = None) -> MCPServer[Any]:
    """For any of MCP's transports."""
    api, gate, life = reader("mail", places().gmail)
    box = Mailbox(api, sight)
    made: MCPServer[Any] = MCPServer("variet-mail", title="Mail", lifespan=life, log_level="WARNING")

    async def search(
        context: Context[Any, Any],
        query: Query = "in:inbox",
        limit: Annotated[int, Field(ge=1, le=_MOST_HITS)] = 10,
        page: Annotated[str, Field(description="next_page of the answer before")] = "",
    ) -> Annotated[CallToolResult, Found]:
        with problems_told():
            found = await box.search(query, limit, page)
            return await gate.show(Caller.of(context), "mail.search", _listed(found), found)

    async def read(
        context: Context[Any, Any],
        thread: ThreadId,
        part: Annotated[int, Field(ge=1, description="of a long thread; 1 has the newest")] = 1,
        quotes: Annotated[bool, Field(description="with the lines that each message quotes")] = False,
    ) -> Annotated[CallToolResult, Thread]:
        with problems_told():
            told = await box.read(thread, part, quotes=quotes)
            return await gate.show(Caller.of(context), "mail.read", _thread(told), told)

    async def attachment(
        context: Context[Any, Any],
        message: Annotated[str, Field(description="its id, as read gives it")],
        attachment: Annotated[str, Field(description="its id, as read gives it")],
        part: Annotated[int, Field(ge=1)] = 1,
    ) -> Annotated[CallToolResult, Content]:
        with problems_told():
            told = await box.attachment(message, attachment, part)
            more = f"\n(more: part {told.next_part})" if told.next_part else ""
            note = f"\n({told.note})" if told.note else ""
            return await gate.show(
                Caller.of(context), "mail.attachment", f"{told.name} ({told.kind})\n{told.text}{note}{more}", told
            )

    async def labels(context: Context[Any, Any]) -> Annotated[CallToolResult, Labels]:
        with problems_told():
            told = await box.labels()
            return await gate.show(
                Caller.of(context), "mail.labels", "\n".join(told.labels) or "no labels of your own", told
            )

    async def send(
        context: Context[Any, Any], to: To, subject: str, body: Body, reply_to: ReplyTo = "", files: Files | None = None
    ) -> Answer:
        with problems_told():
            return await gate.done(context, "mail.send", await _wish(to, subject, body, reply_to, files or []))

    async def draft(
        context: Context[Any, Any], to: To, subject: str, body: Body, reply_to: ReplyTo = "", files: Files | None = None
    ) -> Answer:
        with problems_told():
            return await gate.done(context, "mail.draft", await _wish(to, subject, body, reply_to, files or []))

    async def label(
        context: Context[Any, Any], thread: ThreadId,
        add: Annotated[list[str] | None, Field(description="names, as labels gives them")] = None,
        remove: Annotated[list[str] | None, Field(description="names; unread marks it as read")] = None,
    ) -> Answer:  # fmt: skip
        with problems_told():
            return await gate.done(context, "mail.label", {"thread": thread, "add": add or [], "remove": remove or []})

    async def archive(context: Context[Any, Any], thread: ThreadId) -> Answer:
        with problems_told():
            return await gate.done(context, "mail.archive", {"thread": thread})

    add = made.add_tool
    add(search, title="Search mail", description="Finds messages.", annotations=_LOOKS)
    add(read, title="Read a thread", description="Reads a thread, the newest message first.", annotations=_LOOKS)
    add(attachment, title="Read an attachment", description="Reads a text that is attached.", annotations=_LOOKS)
    add(labels, title="List labels", description="Lists labels.", annotations=_LOOKS)
    after = "The person approves it first; wait for the result."
    add(send, title="Send mail", description=f"Sends a message. {after}", annotations=_ACTS)
    add(draft, title="Draft mail", description=f"Puts a message into the drafts. {after}", annotations=_SORTS)
    add(label, title="Label a thread", description=f"Adds and removes labels. {after}", annotations=_SORTS)
    add(archive, title="Archive a thread", description=f"Takes a thread out of the inbox. {after}", annotations=_SORTS)
    return made


async def _wish(to: list[str], subject: str, body: str, reply_to: str, paths: list[str]) -> dict[str, Any]:
    """As the broker wants it. Raises ToolProblem."""
    copies = [one for one in to if one.lstrip().lower().startswith("cc:")]
    read = await asyncio.to_thread(files.files, paths)
    return {
        "to": [one for one in to if one not in copies], "cc": [one.lstrip()[3:].strip() for one in copies],
        "subject": subject, "body": body, "reply_to": reply_to, "files": [one.model_dump() for one in read],
    }  # fmt: skip


def _listed(found: Found) -> str:
    lines = []
    for hit in found.hits:
        new = " (unread)" if hit.unread else ""
        lines.append(f"- {hit.date} {hit.sender}: {hit.subject}{new}\n  thread {hit.thread}\n  {hit.snippet}")
    if not found.hits:
        lines.append("no message matches")
    more = f"(more: page {found.next_page})" if found.next_page else ""
    return "\n".join(part for part in (*lines, f"({found.note})" if found.note else "", more) if part)


def _thread(thread: Thread) -> str:
    more = f"(older ones: part {thread.next_part})" if thread.next_part else ""
    head = f"{thread.subject}, {thread.count} messages, newest first"
    return "\n\n".join(part for part in (head, *map(_letter, thread.letters), more) if part)


def _letter(letter: Letter) -> str:
    copies = f"\ncc: {', '.join(letter.cc)}" if letter.cc else ""
    attached = "".join(
        f"\nattached: {one.name} ({one.kind}, {one.bytes:,} bytes), id {one.attachment}" for one in letter.attachments
    )
    head = f"from: {letter.sender}\nto: {', '.join(letter.to)}{copies}\ndate: {letter.date}\nmessage: {letter.message}"
    note = f"\n({letter.note})" if letter.note else ""
    return f"{head}{attached}\n\n{letter.text}{note}"
