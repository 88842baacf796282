"""Pure: whether a browser would show an element, by the styles it has. https://www.w3.org/TR/CSS22/visuren.html

Sheets are applied to elements by `css-inline`, which passes over rules in blocks (`@media`, `@supports`, `@layer`):
those that a wide screen would obey are taken out of their blocks before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tinycss2
import tinycss2.color4

_WIDTH_PX = 1280.0
_OFF_PX = 400.0  # further out than that is out of sight
_SMALL_PX = 3.0  # letters
_FAINT = 0.08  # opacity
_CLOSE = 24.0  # of two colours, in the sum of their channels, 0 to 765
_OPEN_BLOCKS = frozenset({"supports", "layer", "container", "scope", "starting-style"})
_UNITS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78, "q": 0.945, "vw": 12.8, "vh": 8.0,
          "rem": 16.0, "ch": 8.0, "ex": 8.0}  # fmt: skip
_NAMED_SIZES = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0,
                "xx-large": 32.0}  # fmt: skip
NUMBER = r"-?\d*\.?\d+"
_NUMBER = re.compile(rf"({NUMBER})\s*([a-z%]*)", re.IGNORECASE)
_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,([^()]*))?\)")
_MOST_STEPS, _MOST_VALUE = 8, 2_000  # of variables within variables, and characters of what they make
_UNKNOWN_COLOURS = ("var(", "color-mix(", "light-dark(", "url(", "gradient(")
Rgb = tuple[float, float, float]
_WHITE: Rgb = (255.0, 255.0, 255.0)


def opened(sheet: str) -> str:
    """A style sheet with the rules of its blocks outside of them, as far as a wide screen obeys them."""
    return "\n".join(_rules(tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True)))


def _rules(rules: Iterable[Any]) -> Iterable[str]:
    for rule in rules:
        if rule.type != "at-rule":
            if rule.type == "qualified-rule":
                yield rule.serialize()
            continue
        name = rule.lower_at_keyword
        if rule.content is None or not (name in _OPEN_BLOCKS or (name == "media" and _obeyed(rule))):
            continue
        inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
        yield from _rules(inner)


def _obeyed(rule: Any) -> bool:
    """Whether a wide screen obeys a media query; what is not known counts as obeyed."""
    query = tinycss2.serialize(rule.prelude).lower()
    return any(_one_obeyed(one) for one in query.split(","))


def _one_obeyed(query: str) -> bool:
    if re.search(r"\b(?:print|speech)\b", query) and "not" not in query:
        return False
    for found in re.finditer(rf"(min|max)-width\s*:\s*({NUMBER})\s*(px|em|rem)", query):
        px = float(found[2]) * (1.0 if found[3] == "px" else 16.0)
        if (px > _WIDTH_PX) if found[1] == "min" else (px < _WIDTH_PX):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Look:
    """What an element hands on to those in it. `background`: None where it is a picture, and nobody knows; `variables`:
    custom properties."""

    font_px: float = 16.0
    colour: Rgb = (0.0, 0.0, 0.0)
    colour_alpha: float = 1.0
    background: Rgb | None = _WHITE
    opacity: float = 1.0
    invisible: bool = False  # by `visibility`, which those in it may undo
    variables: Mapping[str, str] = field(default_factory=dict)


def declarations(style: str) -> dict[str, str]:
    """Of a `style` attribute, the last of each name; `!important` wins."""
    found: dict[str, str] = {}
    important: set[str] = set()
    for one in tinycss2.parse_declaration_list(style, skip_comments=True, skip_whitespace=True):
        if one.type != "declaration" or (one.lower_name in important and not one.important):
            continue
        found[one.lower_name] = tinycss2.serialize(one.value).strip().lower()
        if one.important:
            important.add(one.lower_name)
    return found


def resolved(style: dict[str, str], around: Look) -> dict[str, str]:
    """With the values of custom properties in place of their names; those of others around, too."""
    own = {name: value for name, value in style.items() if name.startswith("--")}
    known = {**around.variables, **own}
    return {name: _filled(value, known) if "var(" in value else value for name, value in style.items()}


def _filled(value: str, known: Mapping[str, str]) -> str:
    for _ in range(_MOST_STEPS):
        filled = _VARIABLE.sub(lambda found: known.get(found[1], found[2] or ""), value)
        if filled == value or len(filled) > _MOST_VALUE:
            break
        value = filled
    return value


def look(style: dict[str, str], around: Look) -> Look:
    """Of an element with these declarations, `resolved`."""
    mine = replace(around, font_px=_font_px(style, around.font_px), opacity=around.opacity * _opacity(style))
    if own := {name: value for name, value in style.items() if name.startswith("--")}:
        mine = replace(mine, variables={**around.variables, **own})
    if "visibility" in style:
        mine = replace(mine, invisible=style["visibility"] in ("hidden", "collapse"))
    if (colour := _colour(style.get("color", ""))) is not None:
        mine = replace(mine, colour=colour[0], colour_alpha=colour[1])
    if "-webkit-text-fill-color" in style and (fill := _colour(style["-webkit-text-fill-color"])) is not None:
        mine = replace(mine, colour=fill[0], colour_alpha=fill[1])
    shown = " ".join(style.get(name, "") for name in ("background", "background-image", "background-color"))
    if any(one in shown for one in _UNKNOWN_COLOURS):
        return replace(mine, background=None)
    behind = style.get("background-color") or style.get("background", "")
    for word in [behind, *behind.split()]:
        if (colour := _colour(word)) is not None and colour[1] > 0:
            under = mine.background or _WHITE
            mixed = tuple(
                top * colour[1] + below * (1 - colour[1]) for top, below in zip(colour[0], under, strict=True)
            )
            return replace(mine, background=(mixed[0], mixed[1], mixed[2]))
    return mine


def gone(style: dict[str, str]) -> bool:
    """Whether an element and all in it is nowhere to be seen, whatever those in it say."""
    if style.get("display", "").split(" ")[0] == "none" or style.get("content-visibility") == "hidden":
        return True
    return _clipped(style) or _outside(style)


def unseen(mine: Look) -> bool:
    """Whether letters with such a look cannot be read."""
    if mine.invisible or mine.opacity <= _FAINT or mine.colour_alpha <= _FAINT or mine.font_px < _SMALL_PX:
        return True
    if mine.background is None:
        return False
    return sum(abs(one - other) for one, other in zip(mine.colour, mine.background, strict=True)) < _CLOSE


def _opacity(style: dict[str, str]) -> float:
    found = [_fraction(style["opacity"])] if "opacity" in style else []
    found += [_fraction(one) for one in re.findall(r"opacity\(\s*([^)]*)\)", style.get("filter", ""))]
    product = 1.0
    for one in found:
        product *= max(0.0, min(1.0, one))
    return product


def _fraction(text: str) -> float:
    found = _NUMBER.match(text.strip())
    if found is None:
        return 1.0
    return float(found[1]) / (100.0 if found[2] == "%" else 1.0)


def _font_px(style: dict[str, str], around: float) -> float:
    text = style.get("font-size", "")
    if not text and "font" in style:
        found = re.search(rf"(?:^|\s)({NUMBER}(?:px|pt|em|rem|%|ex|ch|vw|vh)|0)(?:/|\s)", style["font"])
        text = found[1] if found else ""
    if text in _NAMED_SIZES:
        return _NAMED_SIZES[text]
    size = _px(text, around, around)
    return around if size is None else size


def _px(text: str, of: float, em: float = 16.0) -> float | None:
    """A length; `of`: what `%` is of. None for what is none."""
    found = _NUMBER.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    number, unit = float(found[1]), found[2].lower()
    if unit in ("em", "%"):
        return number * of / 100.0 if unit == "%" else number * em
    if not unit:
        return 0.0 if number == 0 else None
    return number * _UNITS[unit] if unit in _UNITS else None


def _clipped(style: dict[str, str]) -> bool:
    """To nothing, or to a dot."""
    if "rect(" in style.get("clip", ""):
        sides = [float(one) for one in re.findall(NUMBER, style["clip"])]
        if sides and max(sides) - min(sides) <= 2:
            return True
    shape = style.get("clip-path", "")
    if re.search(r"inset\(\s*(?:5\d|[6-9]\d|100)(?:\.\d+)?%", shape) or re.search(r"circle\(\s*0", shape):
        return True
    scaled = f"{style.get('transform', '')} scale({style.get('scale', '1')})"
    scale = re.search(rf"scale(?:[xy]|3d)?\(\s*({NUMBER})", scaled)
    if scale is not None and abs(float(scale[1])) < 0.05:
        return True
    if re.search(r"rotate[xy]\(\s*90deg", style.get("transform", "")) or style.get("zoom") in ("0", "0%"):
        return True
    overflow = " ".join(style.get(name, "") for name in ("overflow", "overflow-x", "overflow-y"))
    if "hidden" not in overflow and "clip" not in overflow:
        return False
    for name in ("height", "width", "max-height", "max-width"):
        size = _px(style.get(name, ""), 100.0)
        if size is not None and size <= 2 and not (name in ("height", "width") and _grows(style, name)):
            return True
    return False


def _grows(style: dict[str, str], name: str) -> bool:
    least = _px(style.get(f"min-{name}", ""), 100.0)
    return least is not None and least > 2


def _outside(style: dict[str, str]) -> bool:
    """Moved out of the page."""
    names = ["text-indent", "margin-left", "margin-top", "margin-right"]
    if style.get("position") in ("absolute", "fixed", "relative", "sticky"):
        names += ["left", "top", "right", "bottom", "inset-inline-start", "inset-block-start"]
    for name in names:
        size = _px(style.get(name, ""), _WIDTH_PX)
        if size is not None and size <= -_OFF_PX:
            return True
    if style.get("position") in ("absolute", "fixed"):
        for name, most in (("left", 4 * _WIDTH_PX), ("top", 100_000.0)):
            size = _px(style.get(name, ""), _WIDTH_PX)
            if size is not None and size >= most:
                return True
    moved = f"{style.get('transform', '')} translate({style.get('translate', '0')})"
    for found in re.findall(r"translate(?:[xy]|3d)?\(([^)]*)\)", moved):
        for part in re.split(r"[\s,]+", found.strip()):
            size = _px(part, 100.0)
            if size is not None and size <= -_OFF_PX:
                return True
    return False


def _colour(text: str) -> tuple[Rgb, float] | None:
    """(red, green, blue from 0 to 255, alpha); None for what is none, or is another's (`inherit`)."""
    found = tinycss2.color4.parse_color(text.strip()) if text.strip() else None
    if found is None or isinstance(found, str):
        return None
    try:
        red, green, blue = (255 * (part or 0.0) for part in found.to("srgb").coordinates)
    except NotImplementedError:  # lab, lch and their kin: as light as it is
        light = (found.coordinates[0] or 0.0) / (1.0 if found.space.startswith("ok") else 100.0)
        red = green = blue = 255 * light
    return (red, green, blue), float(found.alpha)
