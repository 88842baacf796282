"""HTML as a person sees it: what is hidden goes, images and scripts too, links say where they lead.

Where there is a browser, it says what is seen (`sight.py`). Else styles are applied by `css-inline` (Rust, html5ever),
the tree is lxml's, and `styles.py` tells what hides an element.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from urllib.parse import urljoin, urlsplit

import css_inline
import lxml.etree
import lxml.html
import tinycss2
from lxml.html import HtmlElement

from variet.assistant.sanitize.characters import seen
from variet.assistant.sanitize.colours import WHITE
from variet.assistant.sanitize.report import Removed
from variet.assistant.sanitize.sheets import DOUBTFUL, Declarations, Sheets, data_sheet, declared, read, specificity
from variet.assistant.sanitize.sight import Sight
from variet.assistant.sanitize.styles import SIDES, Look, Values, look, matters, own_name, unreadable
from variet.assistant.sanitize.values import length

_NEVER_SHOWN = frozenset(
    {
        "script", "style", "template", "noscript", "head", "iframe", "frame", "object", "embed", "applet", "audio",
        "video", "canvas", "svg", "math", "map", "area", "link", "meta", "base", "param", "source", "track", "datalist",
        "dialog", "rp", "annotation", "annotation-xml",
        "title", "noframes", "noembed", "portal", "slot", "input", "select", "textarea", "option", "progress", "meter",
    }
)  # fmt: skip
_SIZED = frozenset({"table", "td", "th", "tr", "col", "colgroup", "hr"})
_KEPT_ATTRIBUTES = frozenset({"href", "colspan", "rowspan", "start", "lang"})
_TITLE_CHARS = 300
# A host as people write it in a link's text.
_HOST = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,})(?=[/:?#\s]|$)", re.IGNORECASE)
_PIXEL_PX = 3
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_DEEPEST = 200  # elements: further in, others' parsers would overrun their stacks
_MARK = re.compile(r"--v(\d+)\b")
_MODERN = re.compile(r"\s*(?:<!--.*?-->\s*)*<!doctype\s+html\s*>", re.IGNORECASE | re.DOTALL)
_OWN = "data-variet-style"
# Shown by no browser; css-inline takes HTML in it for HTML behind it.
_ANNOTATION = re.compile(r"<annotation-xml\b.*?(?:</annotation-xml\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_PUSHES = re.compile(r"(?:margin|padding|height|min-height|border|border-width|inset|top|block-size|min-block-size)"
                     r"(?:-(?:top|bottom|block|block-start|block-end|width))*")  # fmt: skip
_PUSHED_PX = 40.0
_BOXES = frozenset({"overflow", "overflow-x", "overflow-y", "overflow-block", "overflow-inline", "contain", "height",
                    "max-height", "block-size", "max-block-size", "width", "max-width", "inline-size",
                    "max-inline-size"})  # fmt: skip
_DARK = (18.0, 18.0, 18.0)  # of Chromium's dark pages
_PAINTED = frozenset({"img", "svg", "canvas", "video", "iframe", "object", "embed", "picture", "input",
                      "textarea", "select", "button"})  # fmt: skip
_PAINTS = ("background", "background-color", "background-image", "backdrop-filter", "border-image")
_COVERING, _BEYOND = "a box over it", "a box beside it"
_REACH_PX, _PULLED_PX = 40.0, 10.0
_LEAST_ROOT_PX = 8.0  # of the root's letters: a `rem` is read as 16 pixels


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
        removed["late"] += found.cut and not found.failed
        if found.failed:
            told = (
                f"(What a person would see of this cannot be told: {found.failed}. The user can open it in a browser.)"
            )
            found = replace(found, html=f"<p>{escape(told)}</p>")
        html, sheets = f"<title>{escape(found.title)}</title><body>{found.html}</body>", {}
    root, styles = _styled(html, sheets)
    title = " ".join("".join(root.xpath("(//head/title)[1]//text()")).split())[:_TITLE_CHARS]
    body = root.find("body")
    if body is None:
        body = lxml.html.fromstring("<body></body>")
    around = styles.look(root, Look(), quiet=True)
    if around.dark:
        around = styles.look(root, Look(colours=((WHITE, 1.0),), backgrounds=(_DARK,), under=(_DARK,)), quiet=True)
    if around.font_px < _LEAST_ROOT_PX or any("hidden" in one.attrib for one in (root, body)):
        around = Look(gone=True)
    _prune(body, around, styles, removed)
    _tell_links(body, url, removed)
    for element in body.iter():
        if not _NAME.fullmatch(element.tag):
            element.tag = "span"
        for part in ("text", "tail"):
            if text := getattr(element, part):
                kept, unseen_characters = seen(text)
                removed["unseen"] += unseen_characters
                if kept != text:
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


def _tree(html: str) -> HtmlElement:
    """No deeper than 255 elements: libxml2 reads no further, and what comes behind would overrun others' stacks."""
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=False)
    data = html.encode("utf-8", errors="replace").replace(b"\0", b"")
    try:
        return lxml.html.document_fromstring(data, parser=parser, ensure_head_body=True)
    except lxml.etree.ParserError:  # there is not one element, nor a word
        return lxml.html.document_fromstring(b"<body></body>", parser=parser, ensure_head_body=True)


def _styled(html: str, sheets: Mapping[str, str]) -> tuple[HtmlElement, _Styles]:
    """A tree as browsers build it, and the styles of its elements. css-inline (html5ever) parses, and finds the
    elements of each rule: a property of the rule's own number is put into their `style`."""
    html = _ANNOTATION.sub("", html)
    tree = _tree(html)
    if _depth(tree) < _DEEPEST:
        plain = css_inline.CSSInliner(inline_style_tags=False, keep_style_tags=True, keep_link_tags=True,
                                      load_remote_stylesheets=False)  # fmt: skip
        tree = _tree(_inlined(plain, html.replace("\0", "")))
    texts = [*_own_sheets(tree), *sheets.values()]
    found = read(texts)
    inline: dict[str, Declarations] = {}
    for element in list(tree.iter(lxml.etree.Element)):
        for name in ("class", "id"):
            if name in element.attrib:
                element.set(name, element.get(name, "").lower())
        if "style" in element.attrib:
            text = element.attrib.pop("style")
            element.set(_OWN, text)
            if text not in inline:
                inline[text] = tuple(declared(tinycss2.parse_blocks_contents(text)))
                for name, value in inline[text]:
                    if name.startswith("--"):
                        found.properties.setdefault(name, []).append(value)
    for element in list(tree.iter("style", "link")):
        element.drop_tree()
    marks = "\n".join(f"{rule.selector}{{--v{at}:1}}" for at, rule in enumerate(found.rules)
                      if any(matters(name) for name, _ in rule.declarations))  # fmt: skip
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, extra_css=marks or None)
    marked = _tree(_inlined(inliner, lxml.html.tostring(tree, encoding="unicode"))) if marks else tree
    moving = any(matters(name) for name, _ in found.motions)
    return marked, _Styles(found, inline, moving=moving, quirks=not _MODERN.match(html))


def _inlined(inliner: css_inline.CSSInliner, html: str) -> str:
    """Raises RecursionError where it cannot: a page whose styles are not known is not read."""
    try:
        return inliner.inline(html)
    except css_inline.InlineError as error:
        raise RecursionError("its styles cannot be read") from error


def _cell(given: Mapping[str, str]) -> str:
    """The cell of a grid that an element asks for: `2/1`, or the name of an area. `auto` and `span` are no one cell."""
    sides = (given.get(f"grid-{side}") or given.get(f"grid-{side}-start", "auto") for side in ("row", "column"))
    return given.get("grid-area", "") or "/".join(sides)


def _is_pulled_up(given: Mapping[str, str]) -> bool:
    """Whether a margin pulls an element over the element before it."""
    margins = ("margin", "margin-top", "margin-block", "margin-block-start")
    sizes = (length(part) for name in margins for part in given.get(name, "").split())
    return any(size is not None and size < -_PULLED_PX for size in sizes)


def _is_solid(element: HtmlElement, given: Mapping[str, str]) -> bool:
    """Whether an element is a picture or has borders, is shown, and is larger than a badge."""
    shown = given.get("opacity") != "0" and given.get("visibility") != "hidden"
    painted = element.tag in _PAINTED or any(name.startswith("border") for name in given)
    return shown and painted and not _is_small(element, given)


def _reaches_out(given: Mapping[str, str]) -> bool:
    """Whether something is painted far around a box."""
    parts = [*given.get("box-shadow", "").split(), *given.get("outline", "").split(),
             *given.get("outline-width", "").split(), *re.split(r"[\s/]+", given.get("border-image", "")),
             *given.get("border-image-outset", "").split()]  # fmt: skip
    return any((size := length(part)) is not None and size > _REACH_PX for part in parts)


def _is_small(element: HtmlElement, given: Mapping[str, str]) -> bool:
    sizes = [
        length(given.get(name) or f"{element.get(name, '?').removesuffix('px')}px") for name in ("width", "height")
    ]
    return all(size is not None and size <= 60 for size in sizes)


def _covers(declarations: Declarations) -> bool:
    """Whether a generated box may lie over the words of its element. A small one is a bullet, or a badge."""
    given = dict(declarations)
    if not any(word in given.get("position", "") for word in ("absolute", "fixed")):
        return False
    small = all((size := length(given.get(name, "?"))) is not None and size <= 60 for name in ("width", "height"))
    return not small and any(name in given for name in ("background", "background-color", "background-image", "border",
                                                        "backdrop-filter", "box-shadow"))  # fmt: skip


def _depth(tree: HtmlElement) -> int:
    deepest = depth = 0
    for event, _ in lxml.etree.iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _own_sheets(tree: HtmlElement) -> Iterator[str]:
    """A sheet that may not count undoes nothing: one in a template, an alternate one, and each with a title but the
    first."""
    titles: list[str] = []
    for element in tree.iter("style", "link"):
        words = element.get("rel", "").lower().split()
        if element.tag == "style":
            if element.get("type", "").strip().lower() not in ("", "text/css"):
                continue
            text = f"@media {element.get('media') or 'all'} {{{element.text or ''}\n}}"
        elif "stylesheet" in words:
            text = data_sheet(element.get("href", ""))
        else:
            continue
        title = element.get("title", "")
        titles += [title] * bool(title)
        inert = next(element.iterancestors("template"), None) is not None
        doubtful = inert or "alternate" in words or (title and title != titles[0])
        yield f"{DOUBTFUL} {{{text}\n}}" if doubtful else text


@dataclass(frozen=True, slots=True)
class _Styles:
    sheets: Sheets
    inline: Mapping[str, Declarations]
    moving: bool  # key frames may hide
    quirks: bool

    def look(self, element: HtmlElement, around: Look, *, quiet: bool = False) -> Look:
        """`quiet`: nothing is cut off by the window itself."""
        values = self.values(element)
        own = _by_attributes(element)
        merged = {**own, **values}
        if self.moving is False:
            for name in ("animation", "animation-name", "-webkit-animation", "-webkit-animation-name"):
                merged.pop(name, None)
        if any(font and font in " ".join(merged.get(name, ())) for font in self.sheets.fonts for name in
               ("font-family", "font")):  # fmt: skip
            merged["content"] = ["a font of the page's own"]
        if quiet:
            for name in ("overflow", "overflow-x"):
                merged.pop(name, None)
        if any(self._lies_over(child) for child in element if isinstance(child.tag, str)):
            return Look(gone=True)
        chars = 0
        if any(name in _BOXES for name in merged):  # else it makes no difference, and a page may be large
            text = "".join(element.itertext())
            chars = len(" ".join(text.split())) + 40 * sum(1 for _ in element.iter("br", "p", "div", "li", "tr"))
        if self.quirks and element.tag == "table":  # it has none of the colours around it then
            black = ((0.0, 0.0, 0.0), 1.0)
            around = replace(around, colours=(*(one for one in around.colours if one != black), black))
        found = look(merged, around, self.sheets.properties, chars)
        return Look(gone=True) if self._pushed(element, merged) or self._overflows(element, merged) else found

    def _lies_over(self, element: HtmlElement) -> bool:
        """Whether an element is as large as the element around it, and lies over that."""
        given = {name: " ".join(found) for name, found in self.values(element).items()}
        if "none" in given.get("display", "") or not _covers(tuple(given.items())):
            return False
        whole = all("100" in given.get(name, "") for name in ("width", "height"))
        return whole or "inset" in given or given.keys() >= {"top", "left", "right", "bottom"}

    def covered(self, children: Sequence[HtmlElement]) -> set[int]:
        """Which of an element's children may lie under another of them. Where boxes end is not known: only what is
        right before or behind, and what stands in the same cell of a grid."""
        found: set[int] = set()
        cells: dict[str, int] = {}
        before: dict[str, str] = {}
        for at, child in enumerate(children):
            if not isinstance(child.tag, str):
                continue
            given = {name: " ".join(values) for name, values in self.values(child).items()}
            cell = _cell(given)
            if cell in cells:
                found.add(cells[cell])
            if "auto" not in cell and "span" not in cell:
                cells[cell] = at
            paints = child.tag in _PAINTED or any(name in given for name in _PAINTS)
            placed = any(one in given.get("position", "") for one in ("absolute", "fixed"))
            pulled = _is_pulled_up(given)
            if child.tag == "dialog" and "open" in child.attrib:
                found |= set(range(len(children)))
            if pulled and before.get("position", "static") != "static" and "position" not in given:
                found.add(at)
            if _reaches_out(given) or (pulled and paints):
                found.add(at - 1)
            if placed and _is_solid(child, given):
                found |= {at - 1, 0}
            if _BEYOND in given.get("content", ""):
                found |= {at - 1, at + 1}
            before = given
        return {one for one in found if 0 <= one < len(children)}

    def _overflows(self, element: HtmlElement, values: Values) -> bool:
        """Whether a row of boxes goes on where its box cuts it off."""
        given = {name: " ".join(found) for name, found in values.items()}
        cuts = any(re.search("hidden|clip", given.get(name, "")) for name in ("overflow", "overflow-x", "contain"))
        if (
            not cuts
            or "flex" not in given.get("display", "")
            or not any(name in given for name in ("width", "max-width"))
        ):
            return False
        return any(
            ((size := length(part)) is not None and size >= 100) or (part.endswith("%") and part not in ("0%", "100%"))
            for inner in list(element)[1:] if isinstance(inner.tag, str)
            for name, found in self.values(inner).items() if name in ("flex", "flex-basis", "width", "min-width")
            for value in found for part in value.split()
        )  # fmt: skip

    def _pushed(self, element: HtmlElement, values: Values) -> bool:
        """Whether what is in a box that cuts off may be moved out of it by what stands before it."""
        if not any(re.search("hidden|clip", value) for name in ("overflow", "overflow-x", "overflow-y", "contain")
                   for value in values.get(name, ())):  # fmt: skip
            return False
        if not any(name in values for name in ("height", "max-height", "block-size", "max-block-size")):
            return False
        return any(
            _PUSHES.fullmatch(name)
            and any((size := length(part)) is None or size > _PUSHED_PX for part in value.split())
            for inner in element.iter(lxml.etree.Element)
            for name, found in self.values(inner).items() if inner is not element or name.startswith("padding")
            for value in found if value not in ("auto", "none", "initial", "inherit")
        )  # fmt: skip

    def values(self, element: HtmlElement) -> dict[str, list[str]]:
        """By property: what wins of the rules that certainly apply, and each of the others."""
        sure: dict[str, tuple[tuple[object, ...], str]] = {}
        found: dict[str, list[str]] = {}
        entries: list[tuple[tuple[object, ...], Declarations, bool]] = []
        for number in _MARK.findall(element.get("style", "")):
            rule = self.sheets.rules[int(number)]
            if rule.generated:
                if _covers(rule.declarations):
                    found["content"] = [_COVERING]
                    beyond = any(name in SIDES and length(value) != 0 for name, value in rule.declarations)
                    found["content"] += [_BEYOND] * beyond
                continue
            entries.append(((0, specificity(rule.selector), int(number)), rule.declarations, rule.certain))
        if own := element.get(_OWN):
            entries.append(((1, (0, 0, 0), 0), self.inline.get(own, ()), True))
        for weight, declarations, certain in entries:
            for at, (name, text) in enumerate(declarations):
                if not matters(name) or name.startswith("--"):
                    continue
                important = text.endswith("!important")
                value = text.removesuffix("!important").strip()
                own = own_name(name)
                if not certain or own != name:  # which browser knows an old name is not looked at: it may hide, no more
                    found.setdefault(own, []).append(value)
                elif name not in sure or (important, *weight, at) >= sure[name][0]:
                    sure[name] = ((important, *weight, at), value)
        for name, (_, value) in sure.items():
            found.setdefault(name, []).append(value)
        return found


def _prune(body: HtmlElement, around: Look, styles: _Styles, removed: Removed) -> None:
    """Takes out the words that nobody sees. No recursion: pages may be deep on purpose."""
    opened: dict[str, HtmlElement] = {}  # of `details` with one name no more than the first is open
    for one in body.iter("details"):
        if one.get("name") and "open" in one.attrib:
            opened.setdefault(one.get("name", ""), one)
    waiting = [(body, styles.look(body, around, quiet=True))]
    while waiting:
        element, mine = waiting.pop()
        blind = unreadable(mine)
        if blind and element.text and element.text.strip():
            removed["hidden"] += 1
            element.text = ""
        shut = element.tag == "details" and (
            "open" not in element.attrib or opened.get(element.get("name", ""), element) is not element
        )
        children = list(element)
        covered = styles.covered(children)
        if 0 in covered and element.text and element.text.strip():
            removed["hidden"] += 1
            element.text = " "
        for at, child in enumerate(children):
            if (blind or shut) and child.tail and child.tail.strip():
                removed["hidden"] += 1
                child.tail = " "
            inner = styles.look(child, mine) if isinstance(child.tag, str) else mine
            if at in covered or (shut and child.tag != "summary"):
                inner = Look(gone=True)
            if _stays(child, inner, styles, removed):
                waiting.append((child, inner))
            else:
                child.drop_tree()


def _stays(element: HtmlElement, mine: Look, styles: _Styles, removed: Removed) -> bool:
    name = element.tag if isinstance(element.tag, str) else ""
    if name == "img":
        removed["pixel" if mine.gone or _is_pixel(element, styles.values(element)) else "image"] += 1
        return False
    if not name or name in _NEVER_SHOWN:
        return False
    columns = name == "table" and any((one := styles.look(column, mine)).gone or one.invisible
                                      for column in element.iter("col", "colgroup"))  # fmt: skip
    shadowed = any("shadowrootmode" in child.attrib for child in element.iterchildren("template"))
    if "hidden" in element.attrib or "popover" in element.attrib or mine.gone or columns or shadowed:
        removed["hidden"] += bool(element.text_content().strip())
        return False
    return True


def _by_attributes(element: HtmlElement) -> dict[str, list[str]]:
    """Colours as old pages have them. Browsers take each word for a colour there."""
    found: dict[str, list[str]] = {}
    for name, tags, attribute in (("background-color", None, "bgcolor"), ("color", ("font",), "color"),
                                  ("color", ("body",), "text")):  # fmt: skip
        value = element.get(attribute)
        if value and (tags is None or element.tag in tags):
            value = value.strip().lower()
            found[name] = [f"#{value}" if re.fullmatch(r"[0-9a-f]{6}|[0-9a-f]{3}", value) else value]
    for side in ("width", "height"):
        size = element.get(side, "").strip().removesuffix("px")
        if size and element.tag in _SIZED:
            found[side] = [size if size.endswith("%") else f"{size}px"]
    if element.get("dir", "").strip().lower() in ("rtl", "ltr"):
        found["direction"] = [element.get("dir", "").strip().lower()]
    if background := element.get("background"):
        found["background-image"] = [f"url({background})"]
    if element.tag == "a" and "href" in element.attrib:
        body = next(element.iterancestors("body"), None)
        found["color"] = [(body.get("link") or "inherit").strip().lower() if body is not None else "inherit"]
    return found


def _is_pixel(image: HtmlElement, values: Values) -> bool:
    for name in ("width", "height"):
        sizes = [length(value) for value in values.get(name, ())]
        if size := re.match(r"\s*(\d*\.?\d+)", image.get(name, "")):
            sizes.append(float(size[1]))
        if any(one is not None and one <= _PIXEL_PX for one in sizes):
            return True
    return "hidden" in image.attrib


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
