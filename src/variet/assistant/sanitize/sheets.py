"""Pure: the rules of style sheets that may hide something, as selectors that a matcher of plain selectors understands.

Where no browser says what is seen, a rule counts wherever it may apply. What narrows a rule and is not understood (a
pseudo-class, a layer, a condition) is left out of its selector: then the rule applies to more, and never to less.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import tinycss2

from variet.assistant.sanitize.values import parts_of

Declarations = tuple[tuple[str, str], ...]

_MOST_RULES = 20_000
_NUMBER = r"-?\d*\.?\d+"
# States of elements that begin when a person points, presses or visits.
_LATER = frozenset({"hover", "focus", "focus-within", "focus-visible", "active", "visited", "target", "user-invalid",
                    "fullscreen", "popover-open", "modal", "picture-in-picture", "selection"})  # fmt: skip
# Boxes and words that are none of the element's own.
_BESIDE = frozenset({"selection", "placeholder", "marker", "backdrop", "file-selector-button", "target-text",
                     "highlight",
                     "spelling-error", "grammar-error", "-webkit-scrollbar", "-webkit-scrollbar-thumb",
                     "-webkit-scrollbar-track", "-moz-focus-inner", "cue"})  # fmt: skip
_NARROW_PX, _WIDE_PX = 760.0, 1_500.0  # windows on a desk


@dataclass(frozen=True, slots=True)
class Rule:
    """`selector`: of type names, classes, ids and attributes alone, in small letters. `certain`: it says no less than
    the sheet does. `generated`: it is of a box before or behind the element's words."""

    selector: str
    declarations: Declarations
    certain: bool = True
    generated: bool = False


@dataclass(slots=True)
class Sheets:
    """Of one page, in order. `motions`: declarations of its key frames; `fonts`: families that it brings along;
    `properties`: each value that a custom property may have."""

    rules: list[Rule] = field(default_factory=list)
    motions: list[tuple[str, str]] = field(default_factory=list)
    fonts: set[str] = field(default_factory=set)
    properties: dict[str, list[str]] = field(default_factory=dict)


DOUBTFUL = "@supports (doubtful: yes)"  # around what may not count


def read(texts: Iterable[str]) -> Sheets:
    """Raises RecursionError for sheets that nest without end, or have too many rules."""
    found = Sheets()
    for text in texts:
        parsed = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        _gather(parsed, found, around="", certain=True)
    for rule in found.rules:
        for name, value in rule.declarations:
            if name.startswith("--"):
                found.properties.setdefault(name, []).append(value)
    return found


def data_sheet(url: str) -> str:
    """The text of a `data:` address of a style sheet; empty for another."""
    head, comma, text = url.strip().partition(",")
    if not comma or not head.lower().startswith("data:"):
        return ""
    if head.lower().endswith(";base64"):
        with contextlib.suppress(ValueError):
            return base64.b64decode(unquote(text)).decode(errors="replace")
        return ""
    return unquote(text)


def declared(nodes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of each declaration, in small letters. A value that a browser may not understand counts as well."""
    for node in nodes:
        if node.type == "declaration":
            value = tinycss2.serialize(node.value).strip().lower()
            yield node.lower_name, f"{value} !important" if node.important else value


def _gather(nodes: Iterable[Any], found: Sheets, around: str, *, certain: bool) -> None:
    for node in nodes:
        if len(found.rules) > _MOST_RULES:
            raise RecursionError("its style sheets have too many rules")
        if node.type == "qualified-rule":
            _rule(node, found, around, certain=certain)
        elif node.type == "at-rule":
            _at_rule(node, found, around, certain=certain)


def _rule(node: Any, found: Sheets, around: str, *, certain: bool) -> None:
    inner = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
    declarations = tuple(declared(inner))
    for selector, exact, generated in _selectors(node.prelude, around):
        if declarations:
            found.rules.append(Rule(selector, declarations, certain and exact, generated))
        _gather((one for one in inner if one.type != "declaration"), found, selector, certain=False)


def _at_rule(node: Any, found: Sheets, around: str, *, certain: bool) -> None:
    name = node.lower_at_keyword
    if name == "import":
        for token in node.prelude:
            if token.type in ("url", "string", "function"):
                given_url = (
                    token.value if token.type != "function" else getattr((token.arguments or [token])[0], "value", "")
                )
                text = data_sheet(str(given_url))
                _gather(
                    tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True), found, "", certain=False
                )
    if node.content is None:
        return
    if name.endswith("keyframes"):
        for frame in tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True):
            if frame.type == "qualified-rule":
                found.motions += declared(tinycss2.parse_blocks_contents(frame.content))
        return
    if name == "font-face":
        given = dict(declared(tinycss2.parse_blocks_contents(node.content)))
        if "data:" in given.get("src", "") or set(given) & {"size-adjust", "ascent-override", "unicode-range"}:
            found.fonts.add(given.get("font-family", "").strip("\"' "))
        return
    if name == "property":
        given = dict(declared(tinycss2.parse_blocks_contents(node.content)))
        custom = tinycss2.serialize(node.prelude).strip().lower()
        found.properties.setdefault(custom, []).append(given.get("initial-value", ""))
        return
    if name in (
        "page",
        "counter-style",
        "font-palette-values",
        "view-transition",
        "font-feature-values",
        "position-try",
    ):
        return
    sure = certain and name == "media"
    if name == "media":
        obeyed = _media(tinycss2.serialize(node.prelude).lower())
        if obeyed is False:
            return
        sure = sure and obeyed is True
    inner = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
    own = tuple(declared(inner))
    if own and around:
        found.rules.append(Rule(around, own, certain=False))
    if own and name == "scope":
        found.rules.append(Rule("*", own, certain=False))
    _gather((one for one in inner if one.type != "declaration"), found, around, certain=sure)


def _media(query: str) -> bool | None:
    """Whether each window on a desk obeys it: yes, no, or some may."""
    each = [_condition(one.strip()) for one in query.split(",")]
    if any(one is True for one in each):
        return True
    return False if all(one is False for one in each) else None


def _condition(query: str) -> bool | None:
    if query in ("", "all", "screen", "only screen"):
        return True
    if "not" in query.split() or "not(" in query or " or " in query:
        return None
    if re.match(r"(?:only\s+)?(?:print|speech|tv|handheld|projection|tty)\b", query):
        return False
    found: bool | None = True
    for part in re.split(r"\band\b", re.sub(r"^(?:only\s+)?(?:screen|all)\b", "", query)):
        one = _feature(part.strip(" ()"))
        if one is False:
            return False
        if part.strip() and one is None:
            found = None
    return found


def _feature(text: str) -> bool | None:
    match = re.fullmatch(rf"(min|max)-(?:device-)?width\s*:\s*({_NUMBER})\s*(px|em|rem)", text)
    if match is not None:
        px = float(match[2]) * (1.0 if match[3] == "px" else 16.0)
        if match[1] == "min":
            return True if px <= _NARROW_PX else (False if px > 2 * _WIDE_PX else None)
        return False if px < _NARROW_PX else (True if px >= 2 * _WIDE_PX else None)
    if re.fullmatch(r"prefers-(?:color-scheme\s*:\s*dark|reduced-motion\s*:\s*reduce|contrast\s*:.*)", text):
        return False
    if re.fullmatch(r"prefers-(?:color-scheme\s*:\s*light|reduced-motion\s*:\s*no-preference)", text):
        return True
    if re.fullmatch(r"(?:any-)?(?:pointer\s*:\s*coarse|hover\s*:\s*none)", text):
        return False
    return True if text == "" else None


def _selectors(tokens: list[Any], around: str) -> Iterator[tuple[str, bool, bool]]:
    """(a selector, whether it says the same, whether it is of generated content) for each that may match at first. A
    selector that a browser does not know makes it pass over the whole list: all are certain, or none."""
    known = [_selector(part, around) for part in parts_of(tokens)]
    exact = all(one is not None and one[1] for one in known)
    for one in known:
        if one is not None:
            yield one[0], exact, one[2]


def _selector(tokens: list[Any], around: str) -> tuple[str, bool, bool] | None:
    words: list[str] = []
    exact, generated, empty = not around, False, True  # `empty`: nothing of this compound is written yet
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.type in ("whitespace", "comment"):
            if words and not empty:
                words.append(" ")
                empty = True
        elif token.type == "literal" and token.value in (">", "+", "~"):
            if not words or (empty and words[-1] != " "):
                words.append("*")
            words = [*words[:-1], token.value] if words[-1] == " " else [*words, token.value]
            empty = True
        elif token.type == "literal" and token.value == ":":
            double = at < len(tokens) and tokens[at].type == "literal" and tokens[at].value == ":"
            at += double
            if at >= len(tokens):
                return None
            name = getattr(tokens[at], "lower_value", getattr(tokens[at], "lower_name", ""))
            at += 1
            if name == "root" and empty:
                words.append("html")
                empty = False
            elif double or name in ("before", "after", "first-line", "first-letter"):
                if name in _BESIDE:
                    return None
                generated, exact = generated or name in ("before", "after"), False
            elif name in _LATER:
                return None
            else:
                exact = exact and name in ("link", "any-link", "enabled")
        elif token.type == "literal" and token.value == "|":
            if words and not empty:  # of another name space
                words.pop()
            empty, exact = True, False
        elif token.type == "literal" and token.value == "&":
            exact = False
        elif token.type == "literal" and token.value == "*":
            words.append("*")
            empty = False
        elif token.type == "literal" and token.value == "." and at < len(tokens) and tokens[at].type == "ident":
            words.append("." + _name(tokens[at].value))
            at, empty = at + 1, False
        elif token.type == "hash":
            words.append("#" + _name(token.value))
            empty = False
        elif token.type == "ident":
            words.append(_name(token.value))
            empty = False
        elif token.type == "[] block":
            inner = [one for one in token.content if one.type not in ("whitespace", "comment")]
            names = [one for one in inner if one.type == "ident"]
            if not names:
                return None
            if names[0].lower_value == "style":  # is looked for in a tree that has none: each element may have it
                exact = False
                continue
            words.append(f"[{_name(names[0].value)}]")
            exact, empty = exact and len(inner) == 1, False
        else:
            exact = False
    if empty:
        if words and words[-1] == " ":
            words.pop()
        if not words or words[-1] in (">", "+", "~"):
            words.append("*")
    return "".join(words), exact, generated


def _name(text: str) -> str:
    """An identifier, escaped so that every reader takes it for that."""
    return "".join(one if re.match(r"[a-z_]", one) or (at and re.match(r"[\w-]", one, re.ASCII)) else f"\\{ord(one):x} "
                   for at, one in enumerate(text.lower()))  # fmt: skip


def specificity(selector: str) -> tuple[int, int, int]:
    """https://www.w3.org/TR/selectors-4/#specificity-rules, of a plain selector."""
    bare = re.sub(r"\\[0-9a-f]+ ", "x", selector)
    return (bare.count("#"), bare.count(".") + bare.count("["),
            len(re.findall(r"(?:^|[\s>+~])[a-z_]", bare)))  # fmt: skip
