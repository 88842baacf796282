"""Pure: whether an element's words can be read, by the styles it has. Without a browser, and so with doubts.

Each doubt counts as hidden: a value that is not understood, of a property that can hide words, hides them. One thing is
not looked at: whether an element lies over another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import tinycss2

from variet.assistant.sanitize.colours import BLACK, WHITE, Rgb, colour_of, far, far_in_light, over, painted_by
from variet.assistant.sanitize.values import (
    AS_BEFORE,
    HIGH_PX,
    VIEW_PX,
    expanded,
    font_px_of,
    font_px_of_shorthand,
    length,
    measure,
    parts_of,
    share,
    total,
)  # fmt: skip

Values = Mapping[str, Sequence[str]]  # by property: each value that may count

_OUT_PX = 60.0  # so far an element may be moved
_MOST_BESIDE_PX = 0.4 * VIEW_PX  # of one side: what two of them leave is a column of words
_LEAST_LETTER_PX, _MOST_LETTER_PX = 4.0, 400.0
_FAINT = 0.15  # opacity
_FLAT, _HIGH = 0.4, 12.0  # of a font's size: a lower line is none, and a higher one pushes its words away
_CLOSE = 40.0  # of two colours, in the sum of their channels, 0 to 765
_MOST_COLOURS = 12
_WIDE_LETTER, _HIGH_LINE = 0.6, 1.5  # of a font's size


@dataclass(frozen=True, slots=True)
class Look:
    """What an element hands on to those in it. `colours`: (colour, alpha) that `color` may be; `backgrounds`: colours
    that may be behind its letters."""

    font_px: float = 16.0
    colours: tuple[tuple[Rgb, float], ...] = ((BLACK, 1.0),)
    fills: tuple[tuple[Rgb, float] | None, ...] = (None,)  # by `-webkit-text-fill-color`; None: the colour itself
    backgrounds: tuple[Rgb, ...] = (WHITE,)
    under: tuple[Rgb, ...] = (WHITE,)  # all that is behind all around
    opacity: float = 1.0
    invisible: bool = False  # by `visibility`, which those in it may undo
    flat: bool = False  # by `line-height`: lines lie on each other
    rtl: bool = False  # by `direction`
    grey: bool = False  # by a filter: colours that differ may look alike
    dark: bool = False  # by `color-scheme`: colours of the system are others
    high_px: float = math.inf  # as it says itself, not those in it
    lays_out: bool = False  # by flex or grid, which share out what room there is
    gone: bool = False  # with all that is in it

    @property
    def letters(self) -> tuple[tuple[Rgb, float], ...]:
        """The colours that its letters may have."""
        return tuple(one for fill in self.fills for one in (self.colours if fill is None else (fill,)))


def look(values: Values, around: Look, properties: Mapping[str, Sequence[str]], chars: int = 0) -> Look:
    """Of an element with these values. `properties`: the values of custom properties; `chars`: of the text in it."""
    given = {name: expanded(found, properties) for name, found in values.items() if not name.startswith("--")}
    for value in given.get("all", ()):  # which of them wins is not looked at: either may
        for name in _INHERITED:
            given.setdefault(name, []).append(value)
    sizes = [font_px_of(value, around.font_px) for value in given.get("font-size", [])]
    sizes += [font_px_of_shorthand(value, around.font_px) for value in given.get("font", [])]
    font_px = min(sizes, default=around.font_px)
    opacity = around.opacity * min([share(value) for value in given.get("opacity", [])], default=1.0)
    hidden = [value not in ("visible", "initial") and not (value in AS_BEFORE and not around.invisible)
              for value in given.get("visibility", [])]  # fmt: skip
    lines = [_line(value, font_px) for value in given.get("line-height", [])]
    flat = [line < _FLAT for line in lines]
    schemes = given.get("color-scheme", [])
    grey = around.grey or any(value not in AS_BEFORE and value != "none" for name in ("filter", "-webkit-filter")
                              for value in given.get(name, []))  # fmt: skip
    turned = [value == "rtl" or (value in AS_BEFORE and around.rtl) for value in given.get("direction", [])]
    mine = replace(around, font_px=font_px, opacity=opacity, invisible=any(hidden) if hidden else around.invisible,
                   flat=any(flat) if flat else around.flat, rtl=any(turned) if turned else around.rtl, grey=grey,
                   dark=any("dark" in one and "light" not in one for one in schemes) if schemes else around.dark,
    )  # fmt: skip
    mine = replace(mine, high_px=_box(given, mine, around)[0],
                   lays_out=any("flex" in value or "grid" in value for value in given.get("display", [])))  # fmt: skip
    if any(line > _HIGH for line in lines):
        return replace(mine, gone=True)
    if _led_out(given, mine, around):
        return replace(mine, gone=True)
    if any(not _HARMLESS[name](value, mine) for name in given.keys() & _HARMLESS.keys() for value in given[name]):
        return replace(mine, gone=True)
    if _cut_off(given, mine, around, chars):
        return replace(mine, gone=True)
    return _coloured(given, mine, around, chars)


def _led_out(given: Mapping[str, list[str]], mine: Look, around: Look) -> bool:
    """Whether its words may stand before the page's beginning, where nobody can scroll."""
    if any(value in ("absolute", "fixed") for value in given.get("position", [])):
        place = [(name, value) for name in SIDES for value in given.get(name, [])]
        if mine.rtl or not all((_PULLED if name in _ENDS else _PLACED)(value, mine) for name, value in place):
            return True
    high, wide = _box(given, mine, around)
    turned = any("reverse" in value for name in ("flex-direction", "flex-flow") for value in given.get(name, []))
    return (turned and min(high, wide) < math.inf) or (mine.rtl and wide < 60)


_COLOURS = frozenset(
    {"color", "-webkit-text-fill-color", "background", "background-color", "background-image", "background-clip",
     "-webkit-background-clip", "box-shadow", "border-image", "border-image-source"}
)  # fmt: skip
_SIZES = frozenset(
    {"position", "font", "font-size", "font-family", "line-height", "white-space", "overflow", "overflow-x",
     "overflow-y", "overflow-block", "overflow-inline", "height", "max-height", "block-size", "max-block-size",
     "width", "max-width", "inline-size", "max-inline-size", "float", "background-size", "background-position",
     "background-repeat", "background-origin"}
)  # fmt: skip


def matters(name: str) -> bool:
    """Whether a property may hide words."""
    return _is_known(own_name(name))


def _is_known(name: str) -> bool:
    return name in _HARMLESS or name in _COLOURS or name in _SIZES


def own_name(name: str) -> str:
    """The property that an older `-webkit-` name stands for: `-webkit-opacity` is `opacity`, `-webkit-margin-before` is
    `margin-block-start`. Chromium knows some of these names. Every other name is returned as it is."""
    if not name.startswith("-webkit-") or _is_known(name):
        return name
    found = name.removeprefix("-webkit-")
    for old, new in _OLD_SIDES.items():
        found = re.sub(rf"(^|-){old}($|-)", rf"\g<1>{new}\g<2>", found)
    return found if _is_known(found) else name


_OLD_SIDES = {
    "before": "block-start", "after": "block-end", "(?<!inline-)(?<!block-)start": "inline-start",
    "(?<!inline-)(?<!block-)end": "inline-end", "logical-width": "inline-size", "logical-height": "block-size",
}  # fmt: skip


def unreadable(mine: Look) -> bool:
    """Whether letters with such a look may not be seen."""
    if mine.gone or mine.invisible or mine.opacity < _FAINT or not _LEAST_LETTER_PX <= mine.font_px <= _MOST_LETTER_PX:
        return True
    between = far_in_light if mine.grey else far
    return any(
        alpha < _FAINT or between(colour, behind) * alpha < _CLOSE
        for colour, alpha in mine.letters for behind in mine.backgrounds
    )  # fmt: skip


# --- what hides nothing ---

_Harmless = Callable[[str, Look], bool]


def _is(*words: str) -> _Harmless:
    known = frozenset(words) | AS_BEFORE
    return lambda value, _: value in known


def _each(least: float, most: float, *, whole: float = VIEW_PX) -> _Harmless:
    """Each part is a length between these, in pixels, or `auto`."""

    def check(value: str, mine: Look) -> bool:
        if value in AS_BEFORE:
            return True
        for token in tinycss2.parse_component_value_list(value, skip_comments=True):
            if token.type == "whitespace" or (
                token.type == "ident" and token.lower_value in ("auto", "normal", "none")
            ):
                continue
            found = measure(token, mine.font_px, whole)
            if found is None or not least <= found <= most:
                return False
        return True

    return check


def _transforms(value: str, mine: Look) -> bool:
    """Small moves, turns and scales. A turn by half the width and height is how boxes are centred."""
    if value in AS_BEFORE or value == "none":
        return True
    for token in tinycss2.parse_component_value_list(
        value,
        skip_comments=True,
    ):
        if token.type == "whitespace":
            continue
        if token.type != "function":
            return False
        text, name = tinycss2.serialize(token.arguments), token.lower_name
        if name in ("translate", "translatex", "translatey", "translate3d", "translatez"):
            parts = [total(part, mine.font_px, 100.0) for part in parts_of(token.arguments)]
            if any(part is None or abs(part) > _OUT_PX for part in parts):
                return False
        elif name in ("scale", "scalex", "scaley", "scale3d"):
            parts = [total(part, 1.0, 1.0) for part in parts_of(token.arguments)]
            if any(part is None or not 0.5 <= part <= 3 for part in parts):
                return False
        elif name in ("rotate", "skew", "skewx", "skewy"):
            found = re.fullmatch(r"\s*(-?[\d.]+)deg\s*", text)
            if found is None or abs(float(found[1])) > 45:
                return False
        else:
            return False
    return True


def _scales(value: str, _: Look) -> bool:
    return value in AS_BEFORE or value in ("none", "normal") or all(
        (found := length(word, whole=1.0)) is not None and 0.5 <= found <= 3 for word in value.split()
    )  # fmt: skip


def _filters(value: str, _: Look) -> bool:
    return value in AS_BEFORE or value == "none" or bool(
        re.fullmatch(r"(?:\s*(?:drop-shadow\((?:[^()]|\([^()]*\))*\)|grayscale\([^()]*\)|sepia\([^()]*\)"
                     r"|saturate\([\d.]+%?\)|hue-rotate\([^()]*\)|blur\(0(?:px)?\)))+", value)
    )  # fmt: skip


_SHOWN = frozenset(
    {"block", "inline", "inline-block", "flex", "inline-flex", "grid", "inline-grid", "table", "inline-table",
     "table-row",
     "table-cell", "table-row-group", "table-header-group", "table-footer-group", "table-caption", "list-item",
     "flow-root", "contents", "-webkit-box", "-webkit-inline-box", "-webkit-flex", "-ms-flexbox", "-ms-grid", "ruby",
     "block flow", "inline flow-root", "block flex", "block grid", "run-in"}
)  # fmt: skip


def _display(value: str, _: Look) -> bool:
    return value in AS_BEFORE or value in _SHOWN


def _line_of(most_px: float) -> _Harmless:
    """A line that is no thicker than so."""

    def check(value: str, mine: Look) -> bool:
        for token in tinycss2.parse_component_value_list(value, skip_comments=True):
            if token.type in ("dimension", "percentage") or (token.type == "function" and token.lower_name in (
                    "calc", "min", "max", "clamp")):  # fmt: skip
                found = measure(token, mine.font_px, mine.font_px)
                if found is None or not 0 <= found <= most_px:
                    return False
        return True

    return check


_border, _thin = _line_of(100), _line_of(9)


def _tracks(value: str, _: Look) -> bool:
    return not re.search(r"(?:^|[\s(,])0(?:\.0*)?(?:fr|px|%|em|rem)?(?=$|[\s),])", value) or "minmax(0" in value


def _flexes(value: str, _: Look) -> bool:
    return not re.fullmatch(r"(?:none|0|0 0 0(?:px|%)?|0px)", value) or value == "none"


_OFFSET = _each(-_OUT_PX, VIEW_PX / 2)
_PLACED = _each(-_OUT_PX / 2, VIEW_PX / 2)  # of a box out of the flow
SIDES = ("top", "left", "right", "bottom", "inset", "inset-inline", "inset-block", "inset-inline-start",
          "inset-inline-end", "inset-block-start", "inset-block-end")  # fmt: skip
_BORDERS = ("left", "right", "top", "bottom", "inline", "inline-start", "inline-end", "block", "block-start",
            "block-end")  # fmt: skip
_ENDS = ("bottom", "right", "inset-block-end", "inset-inline-end")
_PULLED = _each(-_OUT_PX / 2, 100)  # up or to the left, out of a page's beginning
_INHERITED = ("color", "-webkit-text-fill-color", "font-size", "line-height", "visibility", "direction")
_HARMLESS: dict[str, _Harmless] = {
    "display": _display, "visibility": lambda *_: True, "content-visibility": _is("visible", "auto"),
    "content": _is("normal", "none"),
    "opacity": lambda *_: True,
    **{f"margin{side}": _each(-2 * _OUT_PX, _MOST_BESIDE_PX) for side in (
        "", "-left", "-right", "-top", "-bottom", "-inline", "-block", "-inline-start", "-inline-end", "-block-start",
        "-block-end")},
    **dict.fromkeys(SIDES, _OFFSET),
    "text-indent": _each(-_OUT_PX, 3 * _OUT_PX), "word-spacing": _each(-4, 60),
    "letter-spacing": lambda value, mine: _each(-0.15 * mine.font_px, 30)(value, mine),
    "transform": _transforms, "-webkit-transform": _transforms, "scale": _scales, "zoom": _scales,
    "translate": _each(-_OUT_PX, _OUT_PX, whole=100), "rotate": lambda value, _: value in AS_BEFORE or value == "none"
    or bool(re.fullmatch(r"-?[0-4]?\d(?:\.\d+)?deg", value)),
    **dict.fromkeys(("perspective", "-webkit-perspective", "offset", "offset-path", "offset-position",
                     "offset-distance",
                     "clip-path", "-webkit-clip-path", "mask", "mask-image", "-webkit-mask", "-webkit-mask-image",
                     "mask-border", "-webkit-mask-box-image", "mask-size", "-webkit-mask-size", "position-try"),
                    _is("none", "auto", "normal")),
    "clip": _is("auto"), "filter": _filters, "-webkit-filter": _filters,
    "backdrop-filter": lambda value, _: bool(re.fullmatch(r"none|(?:(?:blur|saturate)\([^()]*\)\s*)+", value)),
    **dict.fromkeys(
        ("padding", "padding-left", "padding-right", "padding-top", "padding-bottom", "padding-inline", "padding-block",
         "padding-inline-start", "padding-inline-end", "padding-block-start", "padding-block-end", "gap", "row-gap",
         "column-gap", "grid-gap", "border-spacing", "border-width", *(f"border-{side}-width" for side in _BORDERS)),
        _each(0, _MOST_BESIDE_PX)),
    **dict.fromkeys(("min-height", "min-width", "min-block-size", "min-inline-size"), _each(0, 3 * VIEW_PX)),
    "-webkit-border-horizontal-spacing": _each(0, 99), "-webkit-border-vertical-spacing": _each(0, 99),
    "border": _border, **{f"border-{side}": _border for side in _BORDERS},
    **dict.fromkeys(("rule", "column-rule", "row-rule"), _border),
    **{f"{name}-width": _each(0, 40) for name in ("rule", "column-rule", "row-rule")},
    "-webkit-mask-box-image-source": _is("none"), "border-shape": _is("none"), "column-height": _is("auto"),
    "overflow-clip-margin": _each(0, 999), "initial-letter": _is("normal", "2", "3", "4"), "tab-size": _each(0, 40),
    "vertical-align": lambda value, mine: value.isalpha() or value in AS_BEFORE or ("-" in value and value.replace(
        "-", "").isalpha()) or _OFFSET(value, mine), "baseline-shift": _each(-20, 20),
    "direction": lambda *_: True, "color-scheme": lambda *_: True, "position-visibility": _is("always"),
    "position-area": _is("none"), "flex-direction": lambda *_: True, "flex-flow": lambda *_: True,
    "grid-area": lambda *_: True, "grid-row": lambda *_: True,
    "grid-row-start": lambda *_: True, "grid-column": lambda *_: True, "grid-column-start": lambda *_: True,
    "text-decoration": _thin, "text-decoration-thickness": lambda value, mine: value in ("auto", "from-font")
    or _each(0, 9)(value, mine), "background-blend-mode": _is("normal"),
    "mix-blend-mode": _is("normal"), "isolation": lambda *_: True, "-webkit-text-security": _is("none"),
    "-webkit-text-stroke": _is("0", "none"), "-webkit-text-stroke-width": _is("0", "0px"),
    "-webkit-text-stroke-color": lambda *_: True, "text-stroke": _is("0"),
    "outline-offset": _each(-3, 100),
    "outline": _thin,
    "outline-width": _each(0, 9), "border-image-outset": _each(0, 40),
    "z-index": lambda value, _: value in AS_BEFORE or bool(re.fullmatch(r"auto|\d+", value)),
    "-webkit-line-clamp": _is("none"), "line-clamp": _is("none"), "font-size-adjust": _is("none"),
    "contain": _is("none", "layout", "paint", "style", "layout style", "content"),
    "all": lambda value, _: value in ("initial", "unset", "revert"), "grid-template-rows": _tracks,
    "grid-template-columns": _tracks, "grid-template": _tracks, "grid": _tracks, "grid-auto-rows": _tracks,
    "flex": _flexes, "flex-basis": _flexes,
    "interpolate-size": lambda *_: True, "text-combine-upright": _is("none"),
    "-webkit-text-combine": _is("none"), "backface-visibility": _is("visible"),
    "-webkit-backface-visibility": lambda *_: True, "animation": _is("none"), "animation-name": _is("none"),
    "-webkit-animation": _is("none"), "-webkit-animation-name": _is("none"), "font-palette": lambda *_: True,
    "overlay": lambda *_: True, "order": lambda *_: True, "reading-flow": lambda *_: True, "d": lambda *_: True,
    "max-lines": _is("none"), "block-ellipsis": lambda *_: True, "aspect-ratio": lambda *_: True,
}  # fmt: skip


def _line(value: str, font_px: float) -> float:
    """A line's height, in font sizes."""
    if value in AS_BEFORE or value == "normal":
        return 1.0
    found = length(value, font_px, font_px)
    if found is None:
        return 0.0
    return found if re.fullmatch(r"[\d.]+", value) else found / max(font_px, 1.0)


# --- what is cut off ---

_CUTS = re.compile(r"\b(?:hidden|clip|-webkit-paged-[xy]|overlay)\b")
_HEIGHTS = ("height", "max-height", "block-size", "max-block-size")
_WIDTHS = ("width", "max-width", "inline-size", "max-inline-size")


def _cut_off(given: Mapping[str, list[str]], mine: Look, around: Look, chars: int) -> bool:
    """Whether a box is too small for its words, and cuts off what lies outside, or hardly scrolls."""
    overflow = [value for name in ("overflow", "overflow-x", "overflow-y", "overflow-block", "overflow-inline")
                for value in given.get(name, [])]  # fmt: skip
    overflow += ["hidden"] * any("paint" in value or "content" in value for value in given.get("contain", []))
    cuts = any(_CUTS.search(value) for value in overflow)
    scrolls = any(re.search(r"\b(?:auto|scroll)\b", value) for value in overflow)
    sizes = [_size(value, mine, HIGH_PX) for name in ("height", "width", "block-size", "inline-size")
             for value in given.get(name, []) if value[:1].isdigit()]  # fmt: skip
    if any(3 * VIEW_PX < size < math.inf for size in sizes):
        return True
    if not cuts and not scrolls:
        return any(value not in AS_BEFORE and value not in ("visible",) for value in overflow)
    high, wide = _box(given, mine, around)
    if high < 20 or wide < 20 or "aspect-ratio" in given or (around.lays_out and around.high_px < math.inf):
        return True
    return cuts and (mine.flat or _too_small(given, mine, around, chars))


def _shapes(given: Mapping[str, list[str]]) -> set[str]:
    return {name for name, names in (("high", _HEIGHTS), ("wide", _WIDTHS)) if any(one in given for one in names)}


def _box(given: Mapping[str, list[str]], mine: Look, around: Look) -> tuple[float, float]:
    high, wide = (
        min([_size(value, mine, whole) for name in names for value in given.get(name, [])], default=math.inf)
        for names, whole in ((_HEIGHTS, min(HIGH_PX, around.high_px)), (_WIDTHS, VIEW_PX))
    )
    return high, wide


def _too_small(given: Mapping[str, list[str]], mine: Look, around: Look, chars: int) -> bool:
    """Whether words may stand outside of their box."""
    high, wide = _box(given, mine, around)
    if any("nowrap" in value or value == "pre" for value in given.get("white-space", [])):
        return chars * mine.font_px * 0.5 > min(wide, VIEW_PX)
    lines = math.ceil(chars * mine.font_px * _WIDE_LETTER / max(20.0, min(wide, VIEW_PX * 0.6)))
    return wide < 20 or lines * mine.font_px * _HIGH_LINE > high


def _size(value: str, mine: Look, whole: float) -> float:
    if value in AS_BEFORE or value in ("auto", "none", "fit-content", "max-content", "stretch", "100%"):
        return math.inf
    found = length(value, mine.font_px, whole)
    return 0.0 if found is None else found


# --- colours ---


_MOVES_GROUND = ("background-size", "background-position", "background-repeat", "background-origin")
_OF_THE_SYSTEM = re.compile(r"light-dark\(|\b(?:canvas|canvastext|window|windowtext|linktext|field|fieldtext|mark|"
                            r"marktext|graytext|buttonface|buttontext)\b")  # fmt: skip
_TEXT = re.compile(r"(?<![\w-])text(?![\w-])")  # as a word: `LinkText` is a colour


def _coloured(given: Mapping[str, list[str]], mine: Look, around: Look, chars: int) -> Look:
    backgrounds = list(mine.backgrounds)
    painted = [value for name in ("background", "background-color", "background-image", "border-image-source",
                                  "border-image") for value in given.get(name, [])]  # fmt: skip
    if "inset" in " ".join(given.get("box-shadow", [])):
        painted += given["box-shadow"]
    behind: list[Rgb] = []
    letters = [over(colour, one) for value in given.get("color", []) if (colour := colour_of(value)) is not None
               for one in mine.backgrounds] or [colour for colour, _ in mine.colours]  # fmt: skip
    for value in painted:
        found = letters if "currentcolor" in value else painted_by(value, mine.backgrounds)
        if found is None:
            return replace(mine, gone=True)
        behind += found
    if mine.dark and any(_OF_THE_SYSTEM.search(value) for value in (*painted, *given.get("color", []))):
        return replace(mine, gone=True)
    clipped = any(_TEXT.search(value) for name in ("background-clip", "-webkit-background-clip", "background")
                  for value in given.get(name, []))  # fmt: skip
    colours: list[tuple[Rgb, float]] = [] if "color" in given else list(mine.colours)
    for value in given.get("color", []):
        if value in ("inherit", "unset", "currentcolor"):
            colours += mine.colours
        elif value in ("initial", "revert"):
            colours.append((BLACK, 1.0))
        elif (colour := colour_of(value)) is not None:
            colours.append(colour)
        else:
            return replace(mine, gone=True)
    fills: list[tuple[Rgb, float] | None] = [] if "-webkit-text-fill-color" in given else list(mine.fills)
    for value in given.get("-webkit-text-fill-color", []):
        if value in ("inherit", "unset"):
            fills += mine.fills
        elif value in ("initial", "revert", "currentcolor"):
            fills.append(None)
        elif (colour := colour_of(value)) is not None:
            fills.append(colour)
        else:
            return replace(mine, gone=True)
    if (
        clipped
        and behind
        and not any(name in given for name in _MOVES_GROUND)
        and not re.search(r"\b0\b", " ".join(given.get("background", [])))
    ):  # the letters are cut out of the background
        return replace(mine, colours=tuple((one, 1.0) for one in behind)[:_MOST_COLOURS], fills=(None,))
    if clipped:
        return replace(mine, gone=True)
    if behind and "contents" not in given.get("display", []) and not mine.invisible:
        small = _too_small(given, mine, around, chars)
        moved = any(name in given for name in _MOVES_GROUND)
        backgrounds = [*behind, *(mine.backgrounds if small or (moved and "gradient" in " ".join(painted)) else ())]
    beside = any(name in given for name in ("float", "transform", "translate", *SIDES)) or any(
        "-" in value for name in given if name.startswith("margin") for value in given[name])  # fmt: skip
    out = any(value in ("absolute", "fixed") for value in given.get("position", []))
    if beside or out or mine.flat or ("high" in _shapes(given) and _too_small(given, mine, around, chars)):
        backgrounds += mine.under  # it may stand beside the box around it
    if min(_box(given, mine, around)) < 20:  # those in it may stand over its border
        backgrounds += _borders(given, mine)
    if len(colours) * len(fills) > _MOST_COLOURS or len(backgrounds) > _MOST_COLOURS:
        return replace(mine, gone=True)
    behind_it = tuple(dict.fromkeys(backgrounds))
    under = tuple(dict.fromkeys((*mine.under, *behind_it)))[:_MOST_COLOURS]
    return replace(
        mine, colours=tuple(dict.fromkeys(colours)), fills=tuple(dict.fromkeys(fills)), backgrounds=behind_it,
        under=under,
    )  # fmt: skip


def _borders(given: Mapping[str, list[str]], mine: Look) -> list[Rgb]:
    """The colours of its borders."""
    values = [value for name, found in given.items() if name.startswith("border") for value in found]
    tokens = [one.serialize() for value in values for one in tinycss2.parse_component_value_list(value)]
    found = [colour for one in tokens if (colour := colour_of(one)) is not None]
    return [over(colour, WHITE) for colour in found] or [colour for colour, _ in mine.colours]
