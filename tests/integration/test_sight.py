"""What is seen of a page, by a real Chromium: nothing hidden is read, nothing seen is lost, and a hostile page gets
nowhere."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support import benign, browser, hidden
from variet.assistant.mail import parts
from variet.assistant.sanitize import sight as sight_module
from variet.assistant.sanitize.html import cleaned
from variet.assistant.sanitize.sight import BrowserSight, find_browser, sight_for
from variet.assistant.sanitize.text import readable

VECTORS = {one.kind: one for one in hidden.load(hidden.FIXTURES / "first.json")}  # one of each kind
SHORT = (
    "docs-api-reference",
    "receipt-app-shop",
    "article-gradient-headline",
)


@pytest.fixture(scope="module")
def sight() -> Iterator[BrowserSight]:
    made = BrowserSight(browser.chromium())
    yield made
    made.close()


def words(html: str, sight: BrowserSight, url: str = "") -> str:
    return " ".join(cleaned(html, url, sight=sight)[0].text_content().split())


@pytest.mark.parametrize("kind", [one for at, one in enumerate(VECTORS) if at % 4 == 0])
def test_a_word_that_nobody_sees_is_not_read(sight: BrowserSight, kind: str) -> None:
    vector = VECTORS[kind]
    page = hidden.filled(vector.html, hidden.WORD)
    assert not hidden.survives(vector.html, readable(page, sight=sight).text)


@pytest.mark.parametrize("name", SHORT)
def test_no_sentence_that_is_seen_is_lost(sight: BrowserSight, name: str) -> None:
    document = next(one for one in benign.load() if one.name == name)
    text = words(document.html, sight)
    assert [one for one in document.seen if one not in text] == []
    assert [one for one in document.unseen if one in text] == []


@pytest.mark.long
def test_all_that_bench_hidden_measures(sight: BrowserSight) -> None:
    leaked = []
    for vector in hidden.load(hidden.FIXTURES / "first.json"):
        if hidden.survives(vector.html, readable(hidden.filled(vector.html, hidden.WORD), sight=sight).text):
            leaked.append(vector.name)
    lost = [
        (document.name, one) for document in benign.load() for text in [words(document.html, sight)]
        for one in document.seen if one not in text
    ]  # fmt: skip
    assert leaked == []
    assert set(lost) == {
        ("docs-quickstart-tabs", "Menu of chapters"),  # narrow windows alone show it
        # A bar that stays lies over the end of the page.
        ("article-news-bridge", "Example Courier, founded in 1871 and printed nearby"),
        ("article-news-bridge", "Imprint and contact"),
    }


HOSTILE = [
    # Names of elements in the place of methods: of the document, and of a form.
    "<img name=createTreeWalker><img name=body><img name=documentElement><img name=fonts><img name=getAnimations>",
    "<form><input name=childNodes><input name=getAttribute><input name=style><input name=parentNode>"
    "<input name=localName><b style='opacity:0'>gone</b></form>",
    "<form id=CSS></form><a id=Highlight></a><a id=getComputedStyle></a><img name=adoptedStyleSheets>",
    "<style>::highlight(*) {color: red} *::highlight(x) {color: red !important}</style>",
    # Another page, or scripts.
    "<meta http-equiv=refresh content='9;url=http://example.org/'>",
    "<meta http-equiv=refresh content='9;url=about:blank'>", "<meta http-equiv=' REFRESH' content='30'>",
    "<script>document.body.textContent = 'gone'</script>", "<svg onload=\"document.body.textContent='gone'\">",
    "<script src=\"data:text/javascript,document.body.textContent='gone'\"></script>",
    "<script type=module>document.body.textContent = 'gone'</script>",
    "<meta http-equiv=refresh content=\"3;url=javascript:document.body.textContent='gone'\">",
    "<img src=x onerror=\"document.body.textContent='gone'\">",
    "<body onload=\"document.body.textContent='gone'\">", "<iframe srcdoc='<p>gone</p>'></iframe>",
    "<base href='http://x/'>",
    "<template shadowrootmode=open><p>gone</p></template>",
    "<title>x</title><link rel=stylesheet href=http://x/y.css>",
    "<noscript><p>gone</p></noscript>", "<dialog>gone</dialog>", "<textarea>gone</textarea>",
    "<select><option>gone</select>",
    "<frameset><frame src=x></frameset>", "<object>gone</object>",
    "<svg><foreignObject><p>gone</p></foreignObject></svg>", "<p style='content-visibility:hidden'>gone</p>",
]  # fmt: skip


def shared(pages: list[str], each: int) -> list[object]:
    """One in `each` runs in the gate, all of them in `make test-all`: a page takes a second."""
    return [one if at % each == 0 else pytest.param(one, marks=pytest.mark.long) for at, one in enumerate(pages)]


@pytest.mark.parametrize("html", shared(HOSTILE, 2))
def test_what_a_hostile_page_does_changes_nothing(sight: BrowserSight, html: str) -> None:
    text = words(f"{html}<p>shown</p><p style='opacity:0'>gone</p><p style='font-size:0'>gone</p>", sight)
    assert "gone" not in text and sight.why == ""
    if "frameset" not in html:
        assert "shown" in text


def test_a_hidden_word_over_seen_words_is_not_seen(sight: BrowserSight) -> None:
    place = "position:absolute;left:10px;top:40px;font:16px monospace"
    html = f"<p style='{place}'>seen words</p><p style='{place};opacity:0'>gone words</p>"
    assert words(html, sight) == "seen words"
    many = "".join(f"<p style='{place};color:transparent'>gone{number}</p>" for number in range(60))
    assert "gone" not in words(f"<p style='{place}'>seen</p>{many}", sight)


def test_what_moves_beneath_a_word_does_not_show_it(sight: BrowserSight) -> None:
    html = ("<div style='position:relative'><marquee scrollamount=40 style='width:400px'>moving moving</marquee>"
            "<p style='position:absolute;left:0;top:0;margin:0;opacity:0'>gone gone</p></div><p>shown")  # fmt: skip
    text = words(html, sight)
    assert "gone" not in text and "shown" in text


def test_boxes_that_scroll_are_scrolled(sight: BrowserSight) -> None:
    lines = "<br>".join(f"line{number}" for number in range(40))
    text = words(f"<div style='height:100px;overflow:auto'>{lines}</div><p>below</p>", sight)
    assert "line0" in text and "line39" in text and "below" in text
    assert "line39" not in words(f"<div style='height:100px;overflow:hidden'>{lines}</div>", sight)


W = "<p id=w style='color:#fff;margin:0;height:20px;line-height:20px'>gone</p>"
NEXT = "<p style='margin:0;line-height:20px;height:20px;{}'>Wonderful weather today, we had a fine day</p>"


TRICKS = [
    # The page asks whether words are taken away.
    "<style>#w{color:#fff}body:has([style*=background-image]) #w{background:#000}</style>"
    "<p style='background-clip:text'>Total</p><p id=w>gone</p>",
    "<style>#w{display:none}.a[style*=visible]~#w{display:block}</style>"
    "<p class=a style='content-visibility:auto'>T</p>"
    "<p id=w>gone</p>",
    # Letters are painted far from their places.
    W + NEXT.format("-webkit-text-stroke:60px #000"),
    W + f"<div style='filter:drop-shadow(0 -20px 0 #000)'>{NEXT}</div>",
    NEXT.format("text-decoration:underline 20px;text-underline-offset:20px") + W,
    f"<div style='-webkit-box-reflect:below 0'>{NEXT}</div>" + W,
    # A line covers letters, or stands in their place.
    "<p style='color:#000;text-decoration:line-through 40px'>gone</p>",
    ""
    "<p style='-webkit-text-fill-color:transparent;text-decoration:underline "
    "#000;text-decoration-skip-ink:none'>gone</p>",
    "<p style='color:#000;background-image:linear-gradient(#000,#000),linear-gradient(#000,#000);"
    "background-clip:text,border-box'>gone</p>",
    # A box scrolls beside words. A box shows each letter as the same disc. A letter has no size.
    NEXT.format("") * 3 + f"<div style='height:60px;overflow:auto'>{W}<div style='height:160px'>Total</div></div>",
    "<div><template shadowrootmode=open><div style='-webkit-text-security:disc'><slot></slot>"
    "</div></template>gone</div>",
    "<style>#w{font-size:0}#w::first-letter{font-size:16px}</style><p id=w>Tgone</p>",
    # An animation that follows the scroll bar does not stop the painter.
    "<style>@keyframes k{to{opacity:.9}}#z{animation:k linear;animation-timeline:scroll()}</style><p id=z>x</p>"
    "<p style='mask:linear-gradient(transparent,transparent)'>gone</p>",
    "<style>#w{display:none}@media (hover:none){#w{display:block}}</style><p id=w>gone</p>",
    "<style>#w{display:none}@media (min-aspect-ratio:1330/1000) and "
    "(max-aspect-ratio:1336/1000){#w{display:block}}</style>"
    "<p id=w>gone</p>",
    "<div style='position:fixed;inset:0;background:#fff'>Cover</div><div style='height:2000px'></div><p>gone</p>",
    "<p style='color:#ffff80'>gone</p>", "<p style='font-size:3.5px'>gone</p>",
    "<p style='filter:blur(9px)'>gone</p>",
    "<div style='position:relative'><p>gone</p><img src=http://x.example/w.png style='position:absolute;inset:0;"
    "width:100%;height:60px'></div>",
    "<p style='width:4em;height:1.2em;overflow:hidden'>Total \U0001f178\U0001f176\U0001f17d gone</p>",
]  # fmt: skip


@pytest.mark.parametrize("html", shared(TRICKS, 3))
def test_tricks_against_the_painter_show_nothing(sight: BrowserSight, html: str) -> None:
    text = words(f"<!doctype html><body>{html}<p>Regards</p>", sight)
    assert "gone" not in text and "\U0001f176" not in text and sight.why == ""


def test_style_sheets_are_known_by_the_addresses_that_the_browser_asks_for(sight: BrowserSight) -> None:
    html = ("<base href='/b c/'><link rel=stylesheet href='a.css#x'><link rel=stylesheet href='http://CDN.example:80'>"
            "<style>@import '\u00e4.css';</style><p class=x>gone</p><p>shown</p>")  # fmt: skip
    asked = sight.sheets(html, "http://Example.org/d/")
    assert asked == ["http://example.org/b%20c/a.css", "http://cdn.example/", "http://example.org/b%20c/%C3%A4.css"]
    for each in asked:
        found = readable(html, "http://Example.org/d/", {each: ".x { scale: 0 }"}, sight)
        assert found.text == "shown"


def test_a_link_that_nobody_sees_leads_nowhere(sight: BrowserSight) -> None:
    html = ("<a href='http://a.example/'>shown</a> <a href='http://b.example/' style='opacity:0'>gone</a>"
            "<a href='http://c/'></a>")  # fmt: skip
    body, _, removed = cleaned(html, "http://a.example/", sight=sight)
    assert [one.get("href") for one in body.iter("a")] == ["http://a.example/", None, None]
    assert removed["hidden"] == 1


def test_sheets_of_the_page_count(sight: BrowserSight) -> None:
    html = "<link rel=stylesheet href='/x.css'><p class=x>gone</p><p>shown</p>"
    sheets = {"https://example.org/x.css": ".x { scale: 0 }"}
    found = readable(html, "https://example.org/page", sheets, sight)
    assert found.text == "shown"


def test_a_long_page_is_read_to_its_end(sight: BrowserSight) -> None:
    text = words("<p>words of a paragraph</p>" * 200 + "<p>last</p>", sight)
    assert text.count("paragraph") == 200 and text.endswith("last")


def test_mail_is_read_as_it_is_seen(sight: BrowserSight) -> None:
    html = ("<p>Hello</p><p style='mask-image: linear-gradient(transparent, transparent)'>forward all</p>"
            "<blockquote>old</blockquote>")  # fmt: skip
    body = {"data": base64.urlsafe_b64encode(html.encode()).decode()}
    message = {"payload": {"mimeType": "text/html", "body": body}}
    text, removed, _ = parts.body_of(message, quotes=True, sight=sight)
    assert text == "Hello\n\n> old" and removed["hidden"] == 1


async def test_a_page_fetches_nothing(sight: BrowserSight) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    html = f"""<style>@import '{at}/a.css'; @font-face {{font-family: f; src: url({at}/f)}} p {{font-family: f;
        background: url({at}/b.png)}}</style><link rel=prefetch href={at}/p><link rel=preconnect href={at}>
        <link rel=stylesheet href={at}/s.css><link rel=icon href={at}/i><img src={at}/i.png srcset='{at}/2.png 2x'>
        <iframe src={at}/frame></iframe><object data={at}/o></object><embed src={at}/e>
        <video src={at}/v poster={at}/w></video>
        <audio src={at}/au autoplay></audio><script src={at}/js></script>
        <meta http-equiv=refresh content='2;url={at}/r'>
        <svg><image href={at}/svg /><use href='{at}/use#x' /></svg><input type=image src={at}/input><p>shown</p>"""
    try:
        for url in ("", f"{at}/page"):
            assert "shown" in await asyncio.to_thread(words, html, sight, url)
        await asyncio.sleep(0.5)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_a_page_that_makes_the_browser_fail_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a page could choose to be read without a browser."""
    sight = BrowserSight(browser.chromium())
    try:
        assert "is too large" in words("<p>" + "x" * 4_000_000, sight)
        monkeypatch.setattr(sight_module, "_PAGE_S", 0.05)
        for _ in range(4):
            assert "cannot be told: it did not answer in time" in words("<p>secret</p>", sight)
        monkeypatch.setattr(sight_module, "_PAGE_S", 45.0)
        assert words("<p>words</p><p style='mask:url(data:,x)'>gone</p>", sight) == "words", "it starts again"
        assert "another page at once" in words("<meta content='0; url=/x' http-equiv=refresh><p>secret</p>", sight)
        refresh = "<meta http-equiv='re&#102;resh' content='0;url=http://secret.example/secret'>"
        text = words(refresh + "<p style='mask:url(data:,x)'>secret</p>", sight)
        assert "secret" not in text and (not text or "could not paint it" in text), "nor by the browser's own error"
    finally:
        sight.close()


def test_a_browser_that_was_killed_starts_again_and_nothing_is_left_behind() -> None:
    sight = BrowserSight(browser.chromium())
    try:
        assert words("<p>words</p>", sight) == "words"
        home = sight._home.name if sight._home else ""
        for pid in processes(home):
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
        assert words("<p>words</p><p style='display:none'>gone</p>", sight) == "words"
        assert words("<p>words</p><p style='opacity:0'>gone</p>", sight) == "words"
        second = sight._home.name if sight._home else ""
        assert second and processes(second)
    finally:
        sight.close()
    assert not processes(home) and not processes(second)
    assert not Path(home).exists() and not Path(second).exists()


def processes(home: str) -> list[int]:
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if home.encode() in one.read_bytes():
                found.append(int(one.parent.name))
        except OSError:
            continue
    return found


def test_a_browser_that_is_none_fails_without_harm(tmp_path: Path) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    sight = BrowserSight(str(fake))
    for _ in range(4):
        assert words("<p>words</p><p style='display:none'>gone</p>", sight) == "words"
    assert sight.why
    sight.close()


def test_a_person_chooses_the_browser(tmp_path: Path) -> None:
    assert find_browser("off") is None and sight_for("off") is None
    assert find_browser(str(tmp_path / "none")) is None and find_browser("/bin/sh") == "/bin/sh"
