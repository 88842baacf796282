"""HTML as a person sees it: what is hidden goes, images and scripts too, links say where they lead.

Where there is a browser, it says what is seen (`sight.py`). Else styles are applied by `css-inline` (Rust, html5ever),
the tree is lxml's, and `styles.py` tells what hides an element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from urllib.parse import urljoin, urlsplit

import css_inline
import lxml.etree
import lxml.html
from lxml.html import HtmlElement

from variet.assistant.sanitize.characters import seen
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sight import Sight
from variet.assistant.sanitize.styles import NUMBER, Look, declarations, gone, look, opened, resolved, unseen

_NEVER_SHOWN = frozenset(
    {
        "script", "style", "template", "noscript", "head", "iframe", "frame", "object", "embed", "applet", "audio",
        "video", "canvas", "svg", "math", "map", "area", "link", "meta", "base", "param", "source", "track", "datalist",
        "dialog", "noframes", "noembed", "portal", "slot", "input", "select", "textarea", "option", "progress", "meter",
    }
)  # fmt: skip
_KEPT_ATTRIBUTES = frozenset({"href", "colspan", "rowspan", "start", "lang"})
_TITLE_CHARS = 300
# A host as people write it in a link's text.
_HOST = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,})(?=[/:?#\s]|$)", re.IGNORECASE)
_PIXEL_PX = 3
_NAME = re.compile(r"[a-z][a-z0-9-]*")


def cleaned(
    html: str, url: str = "", sheets: Mapping[str, str] | None = None, sight: Sight | None = None
) -> tuple[HtmlElement, str, Removed]:
    """(its body, its title, what was removed). `url`: what its links are relative to; `sheets`: of the page, from
    elsewhere, by their addresses. A text that is no HTML is all text. Raises RecursionError for styles that nest
    without end."""
    removed = Removed()
    sheets = sheets or {}
    if sight is not None and (found := sight.look(html, url, sheets)) is not None:
        removed["hidden"] += found.hidden
        html, sheets = f"<title>{escape(found.title)}</title><body>{found.html}</body>", {}
    root = _styled(_tree(html), tuple(sheets.values()))
    title = " ".join(" ".join(root.xpath("//head/title//text()")).split())[:_TITLE_CHARS]
    body = root.find("body")
    if body is None:
        body = lxml.html.fromstring("<body></body>")
    _prune(body, look(_style(root, Look()), Look()), removed)
    _tell_links(body, url, removed)
    for element in body.iter():
        if not _NAME.fullmatch(element.tag):
            element.tag = "span"
        for part in ("text", "tail"):
            if text := getattr(element, part):
                kept, unseen_characters = seen(text)
                if unseen_characters:
                    removed["unseen"] += unseen_characters
                    setattr(element, part, kept)
        held = {name: seen(value)[0] for name, value in element.attrib.items() if name in _KEPT_ATTRIBUTES}
        element.attrib.clear()  # one by one would not do: a parser takes names that no library takes again
        element.attrib.update(held)
    return body, title, removed


def linked_sheets(html: str, url: str) -> list[str]:
    """The addresses of a page's style sheets from elsewhere: what they hide is hidden, too."""
    links = [one for one in _tree(html).iter("link") if "stylesheet" in one.get("rel", "").lower().split()]
    found = [_joined(url, one.get("href", "")) for one in links if "print" not in one.get("media", "").lower()]
    return list(dict.fromkeys(one for one in found if one.startswith(("http://", "https://"))))


def _joined(url: str, href: str) -> str:
    """Empty where that is no address."""
    try:
        return urljoin(url, seen(href)[0].strip())  # controls are nothing that a tree takes
    except ValueError:
        return ""


def _style(element: HtmlElement, around: Look) -> dict[str, str]:
    return resolved(declarations(element.get("style", "")), around)


def _tree(html: str) -> HtmlElement:
    """No deeper than 255 elements: libxml2 reads no further, and what comes behind would overrun others' stacks."""
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=False)
    data = html.encode("utf-8", errors="replace").replace(b"\0", b"")
    try:
        return lxml.html.document_fromstring(data, parser=parser, ensure_head_body=True)
    except lxml.etree.ParserError:  # there is not one element, nor a word
        return lxml.html.document_fromstring(b"<body></body>", parser=parser, ensure_head_body=True)


def _styled(tree: HtmlElement, sheets: tuple[str, ...]) -> HtmlElement:
    """With each element's styles in its own `style` attribute."""
    for sheet in tree.iter("style"):
        sheet.text = seen(opened(sheet.text or ""))[0]
    inliner = css_inline.CSSInliner(
        inline_style_tags=True, keep_style_tags=False, keep_link_tags=False, load_remote_stylesheets=False,
        extra_css="\n".join(opened(one) for one in sheets) or None,
    )  # fmt: skip
    try:
        return _tree(inliner.inline(lxml.html.tostring(tree, encoding="unicode")))
    except css_inline.InlineError:  # a sheet that cannot be read hides nothing in a browser either
        return tree


def _prune(body: HtmlElement, around: Look, removed: Removed) -> None:
    """Takes out what nobody sees. No recursion: pages may be deep on purpose."""
    waiting = [(body, around)]
    while waiting:
        element, around = waiting.pop()
        mine = look(_style(element, around), _by_attributes(element, around))
        blind = unseen(mine)
        if blind and element.text and element.text.strip():
            removed["hidden"] += 1
            element.text = ""
        for child in list(element):
            if blind and child.tail and child.tail.strip():
                removed["hidden"] += 1
                child.tail = " "
            if _stays(child, mine, removed):
                waiting.append((child, mine))
            else:
                child.drop_tree()


def _stays(element: HtmlElement, around: Look, removed: Removed) -> bool:
    name = element.tag if isinstance(element.tag, str) else ""
    if name == "img":
        removed["pixel" if _is_pixel(element, around) else "image"] += 1
        return False
    if not name or name in _NEVER_SHOWN:
        return False
    if "hidden" in element.attrib or gone(_style(element, around)):
        removed["hidden"] += bool(element.text_content().strip())
        return False
    return True


def _by_attributes(element: HtmlElement, around: Look) -> Look:
    """Colours and sizes as old pages have them."""
    style = {}
    if bgcolor := element.get("bgcolor"):
        style["background-color"] = bgcolor.lower()
    if element.get("background"):
        style["background-image"] = "url(x)"
    if element.tag == "font" and element.get("color"):
        style["color"] = element.get("color", "").lower()
    if element.tag == "body" and element.get("text"):
        style["color"] = element.get("text", "").lower()
    return look(style, around) if style else around


def _is_pixel(image: HtmlElement, around: Look) -> bool:
    style = _style(image, around)
    for name in ("width", "height"):
        size = re.match(rf"\s*({NUMBER})", image.get(name) or style.get(name, ""))
        if size is not None and float(size[1]) <= _PIXEL_PX:
            return True
    return gone(style) or "hidden" in image.attrib


def _tell_links(body: HtmlElement, url: str, removed: Removed) -> None:
    """Links are absolute; one whose text names another site than it leads to says so."""
    for link in list(body.iter("a")):
        if "href" not in link.attrib:
            continue
        target = _joined(url, link.get("href", ""))
        try:
            host = urlsplit(target).hostname or ""
            scheme = urlsplit(target).scheme
        except ValueError:
            target = host = scheme = ""
        if scheme not in ("http", "https", "mailto"):
            link.attrib.pop("href", None)
            continue
        link.set("href", target)
        named = _HOST.search(link.text_content().strip())
        if host and named is not None and not _same_site(named[1].lower(), host.lower()):
            removed["link"] += 1
            for child in list(link):
                child.drop_tag()
            link.text = f"(a link whose text named {named[1].lower()}, and which leads to {host})"


def _same_site(named: str, host: str) -> bool:
    named, host = named.removeprefix("www."), host.removeprefix("www.")
    return host == named or host.endswith(f".{named}") or named.endswith(f".{host}")
