"""Pure: a message as Gmail's API gives it, as a person would see it.

https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages
Of alternatives a mail program shows the last one that it can show, the HTML before plain text (RFC 2046, 5.1.4); of
related parts the root alone (RFC 2387). Words that stand in another one are seen by nobody.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

from variet.assistant.mail.models import Attached
from variet.assistant.sanitize.characters import seen
from variet.assistant.sanitize.flow import flowing
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sight import Sight
from variet.assistant.sanitize.text import plain

_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w.:+-]+)""", re.IGNORECASE)
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape"})
_MOST_HEADER_CHARS = 10_000
_MOST_SOURCE_CHARS = 500_000
_WROTE = re.compile(r"^.{0,200}(?:wrote|schrieb|écrit|escribió|scrisse|schreef)\b.{0,60}:\s*$", re.IGNORECASE)
_QUOTED = re.compile(r"^-{2,}\s*(?:original message|ursprüngliche nachricht)\s*-{2,}$", re.IGNORECASE)
_FROM = re.compile(r"^(?:from|von|de|da|van)\s*:", re.IGNORECASE)
QUOTE = "\ue000 "  # no text has it: characters without a meaning are taken out of all of them


def header(message: Mapping[str, Any], name: str) -> str:
    """Decoded, on one line; empty where it lacks."""
    return decoded_words(raw_header(message, name))


def raw_header(message: Mapping[str, Any], name: str) -> str:
    """As it came, cut where it is longer than any has a need to be; empty where it lacks."""
    for one in (message.get("payload") or {}).get("headers") or ():
        if str(one.get("name", "")).lower() == name:
            return str(one.get("value") or "")[:_MOST_HEADER_CHARS]
    return ""


def decoded_words(text: str) -> str:
    """RFC 2047, as far as it can be read."""
    with contextlib.suppress(LookupError, ValueError, MessageError):
        text = str(make_header(decode_header(text[:_MOST_HEADER_CHARS])))
    return line(text)


def line(text: str) -> str:
    return " ".join(seen(text)[0].split())


def people(text: str) -> list[str]:
    """Of a header: `Name <address>` each."""
    try:
        found = getaddresses([text])
    except (RecursionError, ValueError, MessageError):
        return ["(a header that cannot be read)"]
    return [f"{name} <{address}>" if name else address for name, address in found if address]


def date_of(message: Mapping[str, Any]) -> str:
    """ISO 8601 in the sender's zone; where that cannot be read, when Google got it, in UTC."""
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        said = parsedate_to_datetime(header(message, "date"))
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).isoformat()
    with contextlib.suppress(ValueError, TypeError, OverflowError, OSError):
        return datetime.fromtimestamp(int(message.get("internalDate", "")) / 1000, UTC).isoformat()
    return ""


def body_of(message: Mapping[str, Any], *, quotes: bool, sight: Sight | None = None) -> tuple[str, Removed, int]:
    """(text, what was removed, folded lines). Raises RecursionError for styles that nest without end."""
    removed = Removed()
    found = []
    folded = 0
    for kind, text in _shown(message.get("payload") or {}):
        html = kind == "text/html"
        words, gone = flowing(text[:_MOST_SOURCE_CHARS], QUOTE, sight) if html else plain(text[:_MOST_SOURCE_CHARS])
        removed.update(gone)
        words, count = (words, 0) if quotes else fold(words.strip(), QUOTE if html else "> ", headed=not html)
        found.append(words.replace(QUOTE, "> ").strip())
        folded += count
    return "\n\n".join(part for part in found if part), removed, folded


def attachments(message: Mapping[str, Any]) -> list[Attached]:
    return list(_attached(message.get("payload") or {}))


def decode(data: str) -> bytes:
    """base64url, as Google gives it, padded or not; nothing where it is none."""
    try:
        return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return b""


def as_text(data: bytes, kind: str) -> str:
    """By the charset that a content type names, else UTF-8, else as old mail is."""
    named = _CHARSET.search(kind)
    for name in (named[1] if named else None, "utf-8"):
        with contextlib.suppress(LookupError, ValueError):
            if name and name.lower().replace("-", "_") not in _NO_CHARSETS:
                return data.decode(name)  # of text encodings alone: others unpack, without end
    return data.decode("cp1252", errors="replace")


def fold(text: str, mark: str = "> ", *, headed: bool = True) -> tuple[str, int]:
    """(text without quoted lines and who wrote them, how many those were). What stands between quotes stays. `headed`:
    so are those behind a line that begins a quoted mail."""
    kept: list[str] = []
    count = 0
    lines = text.split("\n")
    for number, line_ in enumerate(lines):
        if headed and _QUOTED.match(line_.strip()) and any(_FROM.match(one) for one in lines[number + 1 : number + 3]):
            count += sum(bool(one.strip()) for one in lines[number:])
            break
        if line_.lstrip(" ").startswith(mark.rstrip(" ")):
            count += bool(line_.replace(mark.rstrip(" "), "").strip())
            while kept and (not kept[-1].strip() or _said(kept[-1])):
                said = kept.pop().strip()
                count += bool(said)
                if said:
                    break
            continue
        kept.append(line_)
    return "\n".join(kept).strip(), count


def _said(text: str) -> bool:
    """Whether a line says who wrote what stands below it, and when: no sentence of a person's does both."""
    return bool(_WROTE.match(text.strip())) and ("@" in text or any(one.isdigit() for one in text))


def _shown(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, text) of each part that a mail program shows, in order."""
    kind = str(part.get("mimeType", "")).lower()
    children = part.get("parts") or ()
    if kind in ("message/rfc822", "message/global") or (not children and (part.get("filename") or _attachment(part))):
        return []  # listed as what is attached
    if kind == "multipart/alternative":
        shown = [_shown(child) for child in children]
        html = [texts for texts in shown if any(one == "text/html" for one, _ in texts)]
        return next(reversed(html or [texts for texts in shown if texts]), [])
    if kind == "multipart/related":
        first = _shown(_root(part, children))
        return first or next((found for child in children if (found := _shown(child))), [])
    body = part.get("body") or {}
    if kind in ("text/plain", "text/html") and body.get("data"):
        return [(kind, as_text(decode(str(body["data"])), _field(part, "content-type")))]
    return [text for child in children for text in _shown(child)]


def _root(part: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    header = Message()
    header["Content-Type"] = " ".join(_field(part, "content-type").split())
    start = str(header.get_param("start") or "").strip(" <>")
    first = children[0] if children else {}
    return next((one for one in children if start and _field(one, "content-id").strip("<>") == start), first)


def _attached(part: Mapping[str, Any]) -> Iterator[Attached]:
    body = part.get("body") or {}
    inline = body.get("data") and (_attachment(part) or part.get("filename"))
    if body.get("attachmentId") or inline:
        name = decoded_words(str(part.get("filename") or "")) or "without a name"
        yield Attached(
            attachment=str(body.get("attachmentId") or ""), name=name[:200], kind=str(part.get("mimeType", "")),
            bytes=int(body.get("size") or 0),
        )  # fmt: skip
    for child in part.get("parts") or ():
        yield from _attached(child)


def _attachment(part: Mapping[str, Any]) -> bool:
    return _field(part, "content-disposition").lower().startswith("attachment")


def _field(part: Mapping[str, Any], name: str) -> str:
    """A part's own header; empty where it lacks."""
    found = (str(one.get("value")) for one in part.get("headers") or () if str(one.get("name")).lower() == name)
    return next(found, "").strip()
