"""What the broker does with mail, once a person approved it: send, draft, label, archive.

A mail is sent by way of a draft: its id is kept before it is sent, and a draft that is still there was not sent. That
is what tells, after a crash, whether it went out; Message-IDs are Google's to change.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from variet.assistant.broker.carriers import Carrier, Outcome, Prepared
from variet.assistant.google.api import GoogleApi
from variet.assistant.mail import parts
from variet.assistant.problems import ToolProblem

_BOX = "/gmail/v1/users/me"
_METADATA = ["Message-ID", "References", "Subject", "From"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MailAsked(_Asked):
    to: list[str] = Field(min_length=1, max_length=50)
    cc: list[str] = Field(default_factory=list, max_length=50)
    subject: str = Field(max_length=1_000)
    body: str = Field(max_length=100_000)
    reply_to: str = Field("", max_length=200, pattern=r"^[A-Za-z0-9_-]*$")


class LabelAsked(_Asked):
    thread: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")
    add: list[str] = Field(default_factory=list, max_length=20)
    remove: list[str] = Field(default_factory=list, max_length=20)


class ArchiveAsked(_Asked):
    thread: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")


def carriers(api: GoogleApi) -> dict[str, Carrier]:
    """By tool."""
    return {
        "mail.send": Sending(api), "mail.draft": Drafting(api), "mail.label": Labelling(api),
        "mail.archive": Archiving(api),
    }  # fmt: skip


class _Mail:
    """What sending and drafting share: a message is made once, and shown as it was made."""

    verb = ""

    def __init__(self, api: GoogleApi) -> None:
        self._api = api

    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(MailAsked, asked)
        me = str((await self._api.get(f"{_BOX}/profile")).get("emailAddress", ""))
        answered = await self._answered(wish.reply_to) if wish.reply_to else {}
        raw = _composed(wish, me, answered).as_bytes(policy=policy.SMTP)
        payload = {"raw": base64.urlsafe_b64encode(raw).decode(), "thread": str(answered.get("threadId", ""))}
        people = [address for _, address in getaddresses([*wish.to, *wish.cc])]
        return Prepared(
            json.dumps(payload, sort_keys=True).encode(), f"{self.verb} to {', '.join(people)}: {wish.subject}",
            previewed(raw), tuple(people), me,
        )  # fmt: skip

    async def _answered(self, message: str) -> dict[str, Any]:
        return await self._api.get(f"{_BOX}/messages/{message}", format="metadata", metadataHeaders=_METADATA)

    async def _drafted(self, payload: bytes) -> str:
        told = json.loads(payload)
        message = {"raw": told["raw"], **({"threadId": told["thread"]} if told["thread"] else {})}
        made = await self._api.write("POST", f"{_BOX}/drafts", {"message": message})
        return str(made["id"])


class Sending(_Mail):
    verb = "Send mail"

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        draft = await self._drafted(payload)
        note({"draft": draft})
        sent = await self._api.write("POST", f"{_BOX}/drafts/send", {"id": draft})
        return f"sent, as message {sent.get('id', '')}"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        draft = notes.get("draft")
        if not draft:
            return Outcome("failed", "it was not sent; a draft of it may lie in your drafts")
        try:
            await self._api.get(f"{_BOX}/drafts/{draft}", format="minimal")
        except ToolProblem as problem:
            if problem.code != "not_found":
                raise
        else:
            return Outcome("failed", "it was not sent, and lies in your drafts")
        found = await self._api.get(f"{_BOX}/messages", q=f"in:sent rfc822msgid:{_id_of(payload)}", maxResults=1)
        if found.get("messages"):
            return Outcome("done", f"sent, as message {found['messages'][0]['id']}")
        return Outcome("unknown", "its draft is gone, and it is not found among what was sent; look there yourself")


class Drafting(_Mail):
    verb = "Draft mail"

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        return f"it lies in the drafts, as {await self._drafted(payload)}"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        found = await self._api.get(f"{_BOX}/messages", q=f"in:draft rfc822msgid:{_id_of(payload)}", maxResults=1)
        if found.get("messages"):
            return Outcome("done", "it lies in the drafts")
        return Outcome("unknown", "it is not found among the drafts; look there yourself")


class _Sorting:
    """What changes labels of a thread: doing it twice is doing it once, and looking tells whether it was done."""

    def __init__(self, api: GoogleApi) -> None:
        self._api = api

    async def _prepared(self, thread: str, add: list[str], remove: list[str], verb: str) -> Prepared:
        told = await self._api.get(f"{_BOX}/threads/{thread}", format="metadata", metadataHeaders=["Subject", "From"])
        messages = told.get("messages") or [{}]
        subject, sender = parts.header(messages[0], "subject"), parts.header(messages[0], "from")
        labels = await self._labels()
        change = {"thread": thread, "add": _ids(add, labels), "remove": _ids(remove, labels)}
        lines = [f"thread: {subject}", f"from: {sender}", f"messages: {len(messages)}"]
        lines += [f"add: {name}" for name in add] + [f"remove: {name}" for name in remove]
        me = str((await self._api.get(f"{_BOX}/profile")).get("emailAddress", ""))
        payload = json.dumps(change, sort_keys=True).encode()
        return Prepared(payload, f"{verb}: {subject}", "\n".join(lines), (), me)

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        change = json.loads(payload)
        body = {"addLabelIds": change["add"], "removeLabelIds": change["remove"]}
        await self._api.write("POST", f"{_BOX}/threads/{change['thread']}/modify", body)
        return "changed"

    async def reconcile(self, payload: bytes, notes: dict[str, Any]) -> Outcome:
        change = json.loads(payload)
        told = await self._api.get(f"{_BOX}/threads/{change['thread']}", format="minimal")
        held = [set(one.get("labelIds") or ()) for one in told.get("messages") or ()]
        done = all(set(change["add"]) <= one and not set(change["remove"]) & one for one in held)
        return Outcome("done", "changed") if done else Outcome("failed", "it was not changed")

    async def _labels(self) -> dict[str, str]:
        """Ids, by name in small letters."""
        told = await self._api.get(f"{_BOX}/labels")
        return {str(one["name"]).casefold(): str(one["id"]) for one in told.get("labels") or ()}


class Labelling(_Sorting):
    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(LabelAsked, asked)
        if not wish.add and not wish.remove:
            raise ToolProblem("bad_request", "neither a label to add nor one to remove is named")
        if {"trash", "spam"} & {name.casefold() for name in wish.add}:
            raise ToolProblem("bad_request", "nothing is thrown away by a label")
        return await self._prepared(wish.thread, wish.add, wish.remove, "Label mail")


class Archiving(_Sorting):
    async def prepare(self, asked: dict[str, Any]) -> Prepared:
        wish = _parsed(ArchiveAsked, asked)
        return await self._prepared(wish.thread, [], ["INBOX"], "Archive mail")


def previewed(raw: bytes) -> str:
    """A message as it is, for a person to decide by: parsed from what will be sent, not from what was asked for."""
    message = message_from_bytes(raw, policy=policy.default)
    names = ("From", "To", "Cc", "Bcc", "Subject", "In-Reply-To")
    lines = [f"{name}: {message[name]}" for name in names if message[name]]
    body = message.get_body(("plain",))
    lines += ["", str(body.get_content()).replace("\r\n", "\n").rstrip("\n") if body else ""]
    lines += [f"attached: {one.get_filename()}" for one in message.iter_attachments()]
    return "\n".join(lines)


def _composed(wish: MailAsked, me: str, answered: dict[str, Any]) -> EmailMessage:
    message = EmailMessage()
    message["From"] = me
    message["To"] = [one_address(one) for one in wish.to]
    if wish.cc:
        message["Cc"] = [one_address(one) for one in wish.cc]
    message["Subject"] = " ".join(wish.subject.split())
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = f"<{secrets.token_hex(16)}@variet.invalid>"
    before = parts.header(answered, "message-id")
    if before:
        message["In-Reply-To"] = before
        message["References"] = f"{parts.header(answered, 'references')} {before}".strip()
    message.set_content(wish.body)
    return message


def one_address(text: str) -> Address:
    """One person, with one address that can be seen whole. Raises ToolProblem."""
    found = getaddresses([text])
    if len(found) != 1 or not found[0][1] or any(not one.isprintable() for one in text):
        raise ToolProblem("bad_request", f"{text!r} is not one address", "Give each as ada@example.com")
    name, address = found[0]
    local, at, domain = address.rpartition("@")
    if not at or not local or "." not in domain or any(one.isspace() for one in address):
        raise ToolProblem("bad_request", f"{address!r} is no address", "Give it as ada@example.com")
    try:
        return Address(display_name=name, username=local, domain=domain)
    except ValueError as error:
        raise ToolProblem("bad_request", f"{address!r} is no address: {error}") from None


def _id_of(payload: bytes) -> str:
    raw = base64.urlsafe_b64decode(json.loads(payload)["raw"])
    return str(message_from_bytes(raw, policy=policy.default)["Message-ID"]).strip("<> ")


def _ids(names: list[str], known: dict[str, str]) -> list[str]:
    ids = []
    for name in names:
        if name.casefold() not in known:
            raise ToolProblem("not_found", f"there is no label {name!r}", "`labels` lists those there are")
        ids.append(known[name.casefold()])
    return ids


def _parsed(kind: type[_Asked], asked: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolProblem("bad_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
