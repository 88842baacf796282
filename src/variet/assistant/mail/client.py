"""The mailbox, read. https://developers.google.com/workspace/gmail/api/reference/rest"""

from __future__ import annotations

import asyncio
from typing import Any

from variet.assistant.google.api import GoogleApi, TooLarge
from variet.assistant.mail import parts
from variet.assistant.mail.models import Content, Found, Hit, Labels, Letter, Thread
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.flow import flowing
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sight import Sight
from variet.assistant.sanitize.text import plain

_BOX = "/gmail/v1/users/me"
_AT_ONCE = 8
_LETTER_CHARS = 6_000
_PART_CHARS = 12_000
_MOST_KEPT = 300
_MOST_ATTACHED_BYTES = 5 * 1024 * 1024
_HEADERS = ["From", "To", "Subject", "Date"]
_SYSTEM = {"INBOX": "inbox", "UNREAD": "unread", "STARRED": "starred", "IMPORTANT": "important", "SENT": "sent",
           "DRAFT": "draft", "SPAM": "spam", "TRASH": "trash"}  # fmt: skip


class Mailbox:
    """Every method raises ToolProblem."""

    def __init__(self, api: GoogleApi, sight: Sight | None = None) -> None:
        """`sight`: says what of a mail is seen."""
        self._api = api
        self._sight = sight
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._labels: dict[str, str] = {}
        self._letters: dict[tuple[str, bool], Letter] = {}  # the last that were read: a thread's next part goes on

    async def search(self, query: str, most: int, page: str) -> Found:
        listed = await self._api.get(f"{_BOX}/messages", q=query or None, maxResults=most, pageToken=page or None)
        names = await self._names()
        got = await asyncio.gather(
            *(self._metadata(str(one["id"])) for one in listed.get("messages") or ()), return_exceptions=True
        )
        hits = [_hit(one, names) for one in got if isinstance(one, dict)]
        failed = [one for one in got if isinstance(one, BaseException)]
        for one in failed:
            if not isinstance(one, ToolProblem) or (one.code != "not_found" and not hits):
                raise one
        note = f"{len(failed)} more could not be read" if failed else ""
        return Found(query=query, hits=hits, next_page=str(listed.get("nextPageToken") or ""), note=note)

    async def read(self, thread: str, part: int, *, quotes: bool) -> Thread:
        """Newest first, some letters a part."""
        names = await self._names()
        try:
            whole = await self._thread(thread, "full") if part == 1 else None
        except TooLarge:
            whole = None
        if whole is not None:
            messages = whole
            read = (asyncio.to_thread(_letter, one, names, quotes, self._sight) for one in messages)
            letters = await asyncio.gather(*read)
            self._keep(letters, quotes=quotes)
        else:  # of a long one its further parts, from memory; of one that is too large to be had at once, each mail
            messages = await self._thread(thread, "minimal")
            letters = await self._one_by_one(messages, names, part, quotes=quotes)
        sides = _sides(letters)
        if not 1 <= part <= max(1, len(sides)):
            raise ToolProblem("bad_request", f"this thread has {len(sides)} parts")
        subject = letters[-1].subject if letters else ""
        return Thread(
            thread=thread, subject=subject, letters=sides[part - 1] if sides else [], count=len(messages), part=part,
            next_part=part + 1 if part < len(sides) else None,
        )  # fmt: skip

    async def _thread(self, thread: str, form: str) -> list[dict[str, Any]]:
        return _newest_first(await self._api.get(f"{_BOX}/threads/{_id(thread)}", format=form))

    async def _one_by_one(
        self, messages: list[dict[str, Any]], names: dict[str, str], part: int, *, quotes: bool
    ) -> list[Letter]:
        """As many as this part and the beginning of the next take."""
        letters: list[Letter] = []
        for message in messages:
            name = str(message["id"])
            letter = self._letters.get((name, quotes))
            if letter is None:
                told = await self._api.get(f"{_BOX}/messages/{_id(name)}", format="full")
                letter = await asyncio.to_thread(_letter, told, names, quotes, self._sight)
                self._keep([letter], quotes=quotes)
            letters.append(letter.model_copy(update={"labels": _named(message.get("labelIds") or [], names)}))
            if len(_sides(letters)) > part:
                break
        return letters

    def _keep(self, letters: list[Letter], *, quotes: bool) -> None:
        self._letters.update({(letter.message, quotes): letter for letter in letters})
        for oldest in list(self._letters)[: max(0, len(self._letters) - _MOST_KEPT)]:
            del self._letters[oldest]

    async def attachment(self, message: str, attachment: str, part: int) -> Content:
        """Its text, where it is a text; others are named, not opened: what reads them is what attackers write for."""
        told = await self._api.get(f"{_BOX}/messages/{_id(message)}", format="full")
        known = next((one for one in parts.attachments(told) if one.attachment == attachment), None)
        if known is None:
            raise ToolProblem("not_found", "this message has no such attachment")
        if not (known.kind.startswith("text/") or known.kind in ("application/json", "application/xml")):
            raise ToolProblem("unsupported_type", f"it is {known.kind[:60] or 'of no kind'}, which is not opened")
        if known.bytes > _MOST_ATTACHED_BYTES:
            raise ToolProblem("unsupported_type", f"it has {known.bytes:,} bytes, too many to be read here")
        got = await self._api.get(f"{_BOX}/messages/{_id(message)}/attachments/{_id(attachment)}")
        written = parts.as_text(parts.decode(str(got.get("data") or "")), known.kind)
        if known.kind == "text/html":
            text, removed = await asyncio.to_thread(flowing, written, sight=self._sight)
        else:
            text, removed = await asyncio.to_thread(plain, written)
        count = max(1, -(-len(text) // _PART_CHARS))
        if not 1 <= part <= count:
            raise ToolProblem("bad_request", f"this attachment has {count} parts")
        shown = text[(part - 1) * _PART_CHARS : part * _PART_CHARS]
        return Content(
            name=known.name, kind=known.kind, text=shown, part=part, next_part=part + 1 if part < count else None,
            note=removed.told(),
        )  # fmt: skip

    async def labels(self) -> Labels:
        names = await self._names(fresh=True)
        own = (name for label, name in names.items() if label not in _SYSTEM and not label.startswith("CATEGORY_"))
        return Labels(labels=sorted(own))

    async def _names(self, *, fresh: bool = False) -> dict[str, str]:
        """By id."""
        if fresh or not self._labels:
            told = await self._api.get(f"{_BOX}/labels")
            own = {str(one["id"]): str(one["name"]) for one in told.get("labels") or ()}
            self._labels = {**own, **_SYSTEM}
        return self._labels

    async def _metadata(self, message: str) -> dict[str, Any]:
        async with self._gate:
            return await self._api.get(
                f"{_BOX}/messages/{_id(message)}", format="metadata", metadataHeaders=_HEADERS
            )  # fmt: skip


def _newest_first(thread: dict[str, Any]) -> list[dict[str, Any]]:
    """Its messages; drafts only where there is nothing else."""
    messages = sorted(thread.get("messages") or (), key=lambda one: int(one.get("internalDate") or 0), reverse=True)
    return [one for one in messages if "DRAFT" not in (one.get("labelIds") or ())] or messages


def _hit(message: dict[str, Any], names: dict[str, str]) -> Hit:
    labels = [str(one) for one in message.get("labelIds") or ()]
    return Hit(
        thread=str(message.get("threadId", "")), message=str(message.get("id", "")),
        sender=parts.header(message, "from"), subject=parts.header(message, "subject") or "(no subject)",
        date=parts.date_of(message), snippet=parts.line(str(message.get("snippet") or ""))[:500],
        labels=_named(labels, names), unread="UNREAD" in labels,
    )  # fmt: skip


def _letter(message: dict[str, Any], names: dict[str, str], quotes: bool, sight: Sight | None = None) -> Letter:
    try:
        text, removed, folded = parts.body_of(message, quotes=quotes, sight=sight)
    except RecursionError:
        text, removed, folded = "(it cannot be cleaned: its styles are nested without end)", Removed(), 0
    notes = [removed.told(), f"{folded} quoted lines folded" if folded else ""]
    if len(text) > _LETTER_CHARS:
        notes.append(f"{len(text) - _LETTER_CHARS:,} characters more were left out")
        text = text[:_LETTER_CHARS]
    return Letter(
        message=str(message.get("id", "")), sender=parts.header(message, "from"),
        to=parts.people(parts.header(message, "to")), cc=parts.people(parts.header(message, "cc")),
        date=parts.date_of(message), subject=parts.header(message, "subject") or "(no subject)", text=text,
        attachments=parts.attachments(message), labels=_named(message.get("labelIds") or [], names),
        note="; ".join(note for note in notes if note),
    )  # fmt: skip


def _sides(letters: list[Letter]) -> list[list[Letter]]:
    """Cut so that each is short, and no letter is."""
    sides: list[list[Letter]] = []
    room = 0
    for letter in letters:
        if not sides or room < len(letter.text):
            sides.append([])
            room = _PART_CHARS
        sides[-1].append(letter)
        room -= len(letter.text)
    return sides


def _named(labels: list[str], names: dict[str, str]) -> list[str]:
    return [names.get(label, label) for label in labels if not label.startswith("CATEGORY_")]


def _id(text: str) -> str:
    """Of Google's making: nothing that would make another path of it. Raises ToolProblem."""
    if not text or len(text) > 2_000 or not all(one.isascii() and (one.isalnum() or one in "-_") for one in text):
        raise ToolProblem("bad_request", "that is no id; take one that a search gave")
    return text
