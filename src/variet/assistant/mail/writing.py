"""What the broker does with mail, once a person approved it: send, draft, label, archive.

A mail is sent by way of a draft, whose id is kept before. After a crash the draft is thrown away: where that works, it
was not sent and cannot be any more; where there is none, it was sent. Message-IDs are Google's to change.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from typing import Annotated, Any

import idna
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from variet.assistant.broker.carriers import Carrier, Outcome, Prepared
from variet.assistant.google.api import GoogleApi
from variet.assistant.mail import parts
from variet.assistant.mail.files import MOST, File
from variet.assistant.problems import ToolProblem
from variet.visible import one_line

_BOX = "/gmail/v1/users/me"
_MOST_NAMED = 3  # recipients in one line
_METADATA = ["Message-ID", "References", "Subject", "From"]
_MACHINES = frozenset({"date", "message-id", "references", "mime-version", "content-type", "content-transfer-encoding"})
_MESSAGE_ID = re.compile(r"<[!-;>@-~]{1,250}@[!-;@-~]{1,250}>")
_MOST_REFERENCES = 10
_LONGEST_ADDRESS = 320
_ATTACHED_CHARS = 2_000  # of a text that is attached, shown to who decides
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+)*")


Person = Annotated[str, Field(max_length=_LONGEST_ADDRESS)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MailAsked(_Asked):
    to: list[Person] = Field(min_length=1, max_length=50)
    cc: list[Person] = Field(default_factory=list, max_length=50)
    subject: str = Field(max_length=1_000)
    body: str = Field(max_length=100_000)
    reply_to: str = Field("", max_length=200, pattern=r"^[A-Za-z0-9_-]*$")
    files: list[File] = Field(default_factory=list, max_length=MOST)


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
        me = await _me(self._api)
        answered = await self._answered(wish.reply_to) if wish.reply_to else {}
        raw = composed(wish, me, answered)
        thread = str(answered.get("threadId", ""))
        payload = {"raw": base64.urlsafe_b64encode(raw).decode(), "thread": thread, "account": me}
        people = [one_address(one).addr_spec for one in (*wish.to, *wish.cc)]
        shown = previewed(raw)
        if thread:
            subject, sender = (one_line(parts.header(answered, name)) for name in ("subject", "from"))
            shown += f"\n\nin the thread of: {subject}, by {sender}"
        shown += "".join(f"\n\n{one_line(one.name)} was read from {one_line(one.path)}" for one in wish.files)
        # The last screen says it, too, however long the text is.
        shown += f"\n\nto all of these, {len(people)}: {', '.join(people)}"
        to = ", ".join(people) if len(people) <= _MOST_NAMED else f"{len(people)} people, who stand at the end"
        return Prepared(
            json.dumps(payload, sort_keys=True).encode(), f"{self.verb} to {to}: {wish.subject}",
            shown, tuple(people), me,
        )  # fmt: skip

    async def _answered(self, message: str) -> dict[str, Any]:
        return await self._api.get(f"{_BOX}/messages/{message}", format="metadata", metadataHeaders=_METADATA)

    async def _drafted(self, payload: bytes) -> str:
        told = json.loads(payload)
        await _same_account(self._api, told["account"])
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
            # A request that is still on its way finds nothing to send then.
            await self._api.write("DELETE", f"{_BOX}/drafts/{draft}")
        except ToolProblem as problem:
            if problem.code != "not_found":
                raise
        else:
            return Outcome("failed", "it was not sent")
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
        lines = [f"thread: {one_line(subject)}", f"from: {one_line(sender)}", f"messages: {len(messages)}"]
        lines += [f"add: {name}" for name in add] + [f"remove: {name}" for name in remove]
        me = await _me(self._api)
        payload = json.dumps({**change, "account": me}, sort_keys=True).encode()
        return Prepared(payload, f"{verb}: {subject}", "\n".join(lines), (), me)

    async def carry_out(self, payload: bytes, note: Callable[[dict[str, Any]], None]) -> str:
        change = json.loads(payload)
        await _same_account(self._api, change["account"])
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
    """A message as it is, for a person to decide by: parsed from what will be sent, not from what was asked for. Every
    header but those that only machines read, every part."""
    message = message_from_bytes(raw, policy=policy.default)
    lines = [f"{name}: {value}" for name, value in message.items() if name.lower() not in _MACHINES]
    for part in message.walk():
        if part.is_multipart():
            continue
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        attached = part.get_filename() is not None
        if part.get_content_type() != "text/plain" or attached:
            name = f"{part.get_content_type()} {part.get_filename() or ''}".strip()
            lines += ["", f"[{name}, {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}]"]
        if part.get_content_maintype() == "text":
            text = parts.as_text(data, str(part["Content-Type"])).replace("\r\n", "\n").rstrip("\n")
            left_out = len(text) - _ATTACHED_CHARS if attached else 0
            lines += ["", text[:_ATTACHED_CHARS] if left_out > 0 else text]
            if left_out > 0:
                lines += [f"[and {left_out:,} characters more of {part.get_filename()}]"]
    return "\n".join(lines)


def composed(wish: MailAsked, me: str, answered: dict[str, Any]) -> bytes:
    """The message, checked to be what was asked for and nothing more. Raises ToolProblem."""
    message = EmailMessage()
    to, cc = [one_address(one) for one in wish.to], [one_address(one) for one in wish.cc]
    message["From"] = me
    message["To"] = to
    if cc:
        message["Cc"] = cc
    message["Subject"] = _plain(" ".join(wish.subject.split()), "the subject")
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = f"<{secrets.token_hex(16)}@variet.invalid>"
    # A stranger wrote these: taken as they are, undecoded, and of them only what looks like an id.
    before = _MESSAGE_ID.findall(parts.raw_header(answered, "message-id"))[:1]
    if before:
        message["In-Reply-To"] = before[0]
        known = _MESSAGE_ID.findall(parts.raw_header(answered, "references"))[-_MOST_REFERENCES:]
        message["References"] = " ".join([*(one for one in known if one != before[0]), *before])
    lines = wish.body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    message.set_content("\n".join(line.rstrip() for line in lines))
    for file in wish.files:
        main, _, sub = file.kind.partition("/")
        name = _plain(" ".join(file.name.split()), "the name of a file")
        message.add_attachment(_bytes(file), maintype=main, subtype=sub, filename=name)
    raw = message.as_bytes(policy=policy.SMTP)
    _check(raw, message, to, cc, wish.files)
    return raw


def one_address(text: str) -> Address:
    """One person, with one address that can be seen whole, its domain as machines write it. Raises ToolProblem."""
    found = getaddresses([text]) if len(text) <= _LONGEST_ADDRESS and "((" not in text else []
    if len(found) != 1 or not found[0][1] or any(not one.isprintable() for one in text):
        raise ToolProblem("bad_request", f"{text[:100]!r} is not one address", "Give each as ada@example.com")
    name, address = found[0]
    local, _, domain = address.rpartition("@")
    try:
        domain = idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        domain = ""
    if not _LOCAL.fullmatch(local) or "." not in domain:
        raise ToolProblem("bad_request", f"{address!r} is no address", "Give it as ada@example.com")
    return Address(display_name=_plain(name, "a name"), username=local, domain=domain)


def _plain(text: str, what: str) -> str:
    """Python's email package decodes encoded words where a header is set, line ends in them too (CVE-2024-6923)."""
    if "=?" in text:
        raise ToolProblem("bad_request", f"{what} has '=?' in it, which mail takes for a code", "Leave it out")
    return text


def _bytes(file: File) -> bytes:
    try:
        return base64.b64decode(file.data, validate=True)
    except ValueError:
        raise ToolProblem("bad_request", f"{file.name!r} is no base64") from None


def _check(raw: bytes, message: EmailMessage, to: list[Address], cc: list[Address], files: list[File]) -> None:
    """Raises ToolProblem where what will be sent reads otherwise than what was put together."""
    read = message_from_bytes(raw, policy=policy.default)
    names = [name for name, _ in read.items()]
    same = names == [name for name, _ in message.items()] and len({name.lower() for name in names}) == len(names)
    people = [(list(read["To"].addresses), to), (list(read["Cc"].addresses) if cc else [], cc)]
    same = same and all([one.addr_spec for one in got] == [one.addr_spec for one in wanted] for got, wanted in people)
    same = same and read["Subject"] == message["Subject"] and not any(part.defects for part in read.walk())
    body, *attached = [part for part in read.walk() if not part.is_multipart()]
    held = [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in attached]
    same = same and held == [(" ".join(one.name.split()), one.kind.lower(), _bytes(one)) for one in files]
    same = same and body.get_content_type() == "text/plain" and body.get_filename() is None
    if not same:
        raise ToolProblem("bad_request", "this message cannot be written safely", "Say it in plainer words")


async def _me(api: GoogleApi) -> str:
    return str((await api.get(f"{_BOX}/profile")).get("emailAddress", ""))


async def _same_account(api: GoogleApi, account: str) -> None:
    """Raises ToolProblem where another account is signed in than when it was shown."""
    now = await _me(api)
    if now != account:
        raise ToolProblem("conflict", f"it was shown for {account}, and {now} is signed in now")


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
