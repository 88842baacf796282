"""Mail: what is sent is what was shown, whatever a model or a stranger wrote; what is read breaks on nothing."""

from __future__ import annotations

import base64
import hashlib
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from variet.assistant.mail import parts
from variet.assistant.mail.client import _hit, _letter
from variet.assistant.mail.writing import MailAsked, composed, one_address, previewed
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.flow import flowing
from variet.visible import visible

ME = "me@example.org"


def answered(message_id: str, references: str = "") -> dict[str, Any]:
    headers = [{"name": "Message-ID", "value": message_id}, {"name": "References", "value": references}]
    return {"id": "m1", "threadId": "t1", "payload": {"headers": headers}}


def wish(**args: Any) -> MailAsked:
    return MailAsked.model_validate({"to": ["ada@example.com"], "subject": "hi", "body": "Noon it is", **args})


def headers_of(raw: bytes) -> list[str]:
    return [line.split(b":")[0].decode() for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] not in b" \t"]


INJECTED = "x\r\nBcc: evil@evil.example\r\n\r\n<b>body</b>"


def encoded(text: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


@pytest.mark.parametrize(
    "args",
    [
        {"subject": encoded(INJECTED)}, {"subject": "=?utf-8?q?x=0D=0ABcc:evil?="},
        {"to": [f"{encoded(INJECTED)} <a@example.com>"]},
        {"to": ["=?utf-8?q?x=0D=0AReply-To=3A_evil=40evil.example?= <a@example.com>"]},
        {"to": ['"a@[x.y,b"@z.example']}, {"to": ["a@\u202eexample.com"]}, {"to": ["((((" * 500 + "a@example.com"]},
        {"to": ["\u0430da@example.com"]}, {"to": ["a@example"]}, {"to": ["a b@example.com"]},
    ],
)  # fmt: skip
def test_what_would_put_headers_in_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises((ToolProblem, ValueError)):
        composed(wish(**args), ME, {})


@pytest.mark.parametrize(
    "stranger",
    [
        encoded(encoded(f"<a@b>{INJECTED}")), encoded(INJECTED), INJECTED, f"<x{encoded(INJECTED)}@y>",
        "<a@b>\r\nBcc: e@e", "<" + "a" * 5_000 + "@b>", "", "no id at all",
    ],
)  # fmt: skip
def test_a_stranger_who_is_answered_puts_nothing_in(stranger: str) -> None:
    raw = composed(wish(), ME, answered(stranger, f"{stranger} <ok@example.com> {stranger}"))
    names = headers_of(raw)
    assert set(names) <= {
        "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    } and len(set(names)) == len(names)  # fmt: skip
    assert b"evil" not in raw and b"Bcc" not in raw
    assert raw.split(b"\r\n\r\n", 1)[1].strip() == b"Noon it is"


def test_a_domain_is_shown_as_machines_write_it() -> None:
    assert one_address("ada@ex\u0430mple.com").addr_spec == "ada@xn--exmple-4nf.com"
    assert one_address("Zo\u00eb <zoe@b\u00fccher.example>").addr_spec == "zoe@xn--bcher-kva.example"


def test_a_preview_shows_every_header_and_part() -> None:
    made = EmailMessage()
    made["To"], made["Bcc"], made["X-Odd"] = "a@example.com", "b@example.com", "seen"
    made.set_content("text")
    made.add_alternative("<b>html</b>", subtype="html")
    made.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
    shown = previewed(made.as_bytes())
    for words in (
        "Bcc: b@example.com",
        "X-Odd: seen",
        "[text/html, 12 bytes",
        "<b>html</b>",
        "[application/pdf a.pdf, 1 b",
    ):
        assert words in shown


def test_what_nobody_sees_is_shown_by_its_number() -> None:
    for code in (0xE0100, 0xFE0F, 0x034F, 0x2800, 0x3164, 0x115F, 0xFFA0, 0x00A0, 0x2003, 0x180E, 0x17B4, 0x200B):
        assert visible(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.text(max_size=400), st.text(max_size=60), st.text(max_size=120), st.text(max_size=120))
def test_whatever_is_asked_for_is_sent_as_shown_or_refused(
    subject: str, body: str, name: str, before: str, others: str
) -> None:
    try:
        raw = composed(wish(subject=subject, body=body, to=[f"{name} <a@example.com>"]), ME, answered(before, others))
    except ToolProblem:
        return
    read = message_from_bytes(raw, policy=policy.default)
    assert [one.addr_spec for one in read["To"].addresses] == ["a@example.com"]
    assert len(headers_of(raw)) == len(set(headers_of(raw))) <= 10 and not read.is_multipart()
    assert not {"bcc", "cc", "reply-to"} & {one.lower() for one in headers_of(raw)}


@settings(max_examples=150, deadline=None)
@given(
    st.text(min_size=1, max_size=60),
    st.sampled_from(
        ["text/csv", "text/html", "text/plain", "application/pdf", "image/png", "application/octet-stream"]
    ),
    st.binary(max_size=300),
)
def test_whatever_is_attached_is_sent_as_shown_or_refused(name: str, kind: str, data: bytes) -> None:
    try:
        asked = wish(files=[{"name": name, "kind": kind, "data": base64.b64encode(data).decode(), "path": "/p"}] * 2)
        raw = composed(asked, ME, {})
    except (ToolProblem, ValueError):
        return
    read = message_from_bytes(raw, policy=policy.default)
    held = [(one.get_content_type(), one.get_payload(decode=True)) for one in read.iter_attachments()]
    assert held == [(kind, data)] * 2 and read["To"] == "ada@example.com"
    assert hashlib.sha256(data).hexdigest() in previewed(raw)


def part(kind: str, body: bytes, *headers: tuple[str, str]) -> dict[str, Any]:
    return {
        "id": "m1", "threadId": "t1", "labelIds": ["INBOX"], "snippet": "s",
        "payload": {
            "mimeType": kind.split(";")[0],
            "headers": [{"name": "Content-Type", "value": kind}, *({"name": a, "value": b} for a, b in headers)],
            "body": {"data": base64.urlsafe_b64encode(body).decode().rstrip("="), "size": len(body)},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Subject", "=?utf-8?b?A?="), ("From", "=?utf-8?b?A?="), ("Date", "Thu, 26 Nov 2026 09:30:00 +99999999999999"),
        ("Date", "Thu, 26 Nov 99999999999999999999 09:30:00 +0000"), ("To", "(" * 3_000), ("To", "a" * 500_000),
        ("Cc", "\x00"), ("Date", ""), ("Subject", "=?x-unheard?q?a?="), ("From", "=?utf-8?q?" + "=41" * 5_000 + "?="),
    ],
)  # fmt: skip
def test_no_header_breaks_a_mailbox(name: str, value: str) -> None:
    message = part("text/plain", b"hello", (name, value))
    assert _letter(message, {}, False).text == "hello" and _hit(message, {}).message == "m1"


@pytest.mark.parametrize(
    "charset", ["rot13", "hex", "zlib", "bz2", "base64", "uu", "idna", "punycode", "unicode_escape"]
)
def test_a_charset_that_is_none_unpacks_nothing(charset: str) -> None:
    import bz2

    body = bz2.compress(b"x" * 1_000_000) if charset == "bz2" else b"hello"
    text = _letter(part(f"text/plain; charset={charset}", body), {}, False).text
    assert len(text) < 2_000 and (charset == "bz2" or text == "hello")


@given(st.recursive(st.none() | st.text(max_size=20) | st.integers(), lambda inner: st.dictionaries(
    st.sampled_from(["payload", "headers", "name", "value", "body", "data", "parts", "mimeType", "filename", "size"]),
    inner | st.lists(inner, max_size=3), max_size=4), max_leaves=12))  # fmt: skip
def test_a_header_is_read_of_whatever_comes(value: Any) -> None:
    assert isinstance(parts.decoded_words(str(value)), str) and isinstance(parts.people(str(value)), list)
    parts.date_of({"payload": {"headers": [{"name": "Date", "value": str(value)}]}, "internalDate": str(value)})


@pytest.mark.parametrize(
    ("text", "kept", "count"),
    [
        ("Yes.\n\nOn Thu, 26 Nov 2026, Ada <a@b.example> wrote:\n> Noon?\n> Ada", "Yes.", 3),
        ("Am 26.11.2026 schrieb Ada:\n> Zu Mittag?\nJa.", "Ja.", 2),
        ("> one\nfirst answer\n> two\nsecond answer", "first answer\nsecond answer", 2),
        ("I wrote to the bank and they wrote:\n> pay", "I wrote to the bank and they wrote:", 1),
        ("Please do NOT pay.\n-----Original Message-----\nFrom: Ada\nold", "Please do NOT pay.", 3),
        ("-----Original Message-----\nis a poem", "-----Original Message-----\nis a poem", 0),
    ],
)  # fmt: skip
def test_quotes_are_folded_and_nothing_else(text: str, kept: str, count: int) -> None:
    assert parts.fold(text) == (kept, count)


def leaf(kind: str, text: str, *headers: tuple[str, str]) -> dict[str, Any]:
    return part(kind, text.encode(), *headers)["payload"]  # type: ignore[no-any-return]


def group(kind: str, *children: dict[str, Any]) -> dict[str, Any]:
    """A multipart, of which each child may be one, too."""
    return {
        "mimeType": f"multipart/{kind.split(';')[0]}", "parts": list(children),
        "headers": [{"name": "Content-Type", "value": f"multipart/{kind}"}], "body": {"size": 0},
    }  # fmt: skip


PLAIN, FIRST, LAST = leaf("text/plain", "plain"), leaf("text/html", "<p>first</p>"), leaf("text/html", "<p>last</p>")
NAMED = leaf("text/html", "<p>named</p>", ("Content-ID", "<Root@x>"))
PICTURE = leaf("image/png", "x")
ATTACHED = leaf("text/html", "<p>attached</p>", ("Content-Disposition", "Attachment"))


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (group("alternative", PLAIN, FIRST, LAST), "last"),
        (group("alternative", PLAIN, group("related", FIRST, LAST)), "first"),
        (group("alternative", PLAIN, group("mixed", FIRST, LAST)), "first\n\nlast"),
        (group("alternative", FIRST, PLAIN), "first"),
        (group("alternative", PLAIN, group("related")), "plain"),
        (group("alternative"), ""), (group("related"), ""),
        (group("related", FIRST, LAST), "first"),
        (group('related; start="<Root@x>"', FIRST, NAMED), "named"),
        (group("related; start=Root@x", FIRST, NAMED), "named"),
        (group('related; boundary="start=<Root@x>"', FIRST, NAMED), "first"),
        (group('related; x-restart="<Root@x>"', FIRST, NAMED), "first"),
        (group('related; type="text/html; start=<Root@x>"', FIRST, NAMED), "first"),
        (group("related", PICTURE, LAST), "last"),
        ({**group("alternative", PLAIN, LAST), "filename": "x"}, "last"),
        (group("mixed", PLAIN, {"mimeType": "message/global", "parts": [LAST], "filename": ""}), "plain"),
        (group('related; start="<nowhere@x>"', FIRST, NAMED), "first"),
        (group("mixed", FIRST, PLAIN), "first\n\nplain"), (group("mixed", PLAIN, LAST), "plain\n\nlast"),
        (group("mixed", PLAIN, ATTACHED), "plain"), (ATTACHED, ""),
        (group("signed", group("alternative", PLAIN, LAST), leaf("application/pgp-signature", "x")), "last"),
        (group("mixed", PLAIN, {"mimeType": "message/rfc822", "parts": [LAST], "filename": ""}), "plain"),
    ],
)  # fmt: skip
def test_what_is_read_is_what_a_mail_program_shows(payload: dict[str, Any], text: str) -> None:
    assert parts.body_of({"payload": payload}, quotes=True)[0] == text


def test_an_attachment_without_a_name_is_listed() -> None:
    assert [one.kind for one in parts.attachments({"payload": group("mixed", PLAIN, ATTACHED)})] == ["text/html"]


def test_in_html_quotes_are_what_html_says() -> None:
    message = part("text/html", b"<p>&gt; the invoice is a fraud</p><blockquote>old<br>words</blockquote><p>new</p>")
    text, _, count = parts.body_of(message, quotes=False)
    assert text == "> the invoice is a fraud\n\nnew" and count == 2
    assert "> old\n> words" in parts.body_of(message, quotes=True)[0]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb"), ("<div>a</div><div>b<br>c</div>", "a\nb\nc"), ("a <b> b</b> c", "a b c"),
        ("<ul><li>a</li><li>b <i>c</i></li></ul>", "- a\n- b c"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<pre>a\n  b</pre>", "a\n  b"), ('<a href="https://a.example/x">here</a>!', "here <https://a.example/x>!"),
        ('<a href="https://a.example">https://a.example</a>', "https://a.example"), ("", ""),
        ('<a href="javascript:x()">go</a>', "go"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>c", "> a\n>\n> > b\n\nc"),
    ],
)  # fmt: skip
def test_html_flows(html: str, text: str) -> None:
    assert flowing(html)[0] == text
