"""Pure: what a value of a style comes to, as far as that can be known without a page. Lengths are in pixels.

https://www.w3.org/TR/css-values-4/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tinycss2

VIEW_PX, HIGH_PX = 1_000.0, 700.0  # a window's width and height, about
AS_BEFORE = frozenset({"inherit", "initial", "unset", "revert", ""})
_UNITS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78, "q": 0.945, "vw": VIEW_PX / 100,
          "vh": HIGH_PX / 100, "vmin": 6.0, "vmax": 10.0, "rem": 16.0}  # fmt: skip
_NAMED_SIZES = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0,
                "xx-large": 32.0, "xxx-large": 48.0}  # fmt: skip

_VARIABLE = re.compile(r"var\(\s*(--[^\s,()]+)\s*(?:,([^()]*(?:\([^()]*\)[^()]*)*))?\)")
_MOST_VALUES, _MOST_CHARS, _MOST_STEPS = 12, 1_000, 8


def expanded(found: Sequence[str], properties: Mapping[str, Sequence[str]]) -> list[str]:
    """With each value that a custom property may have in the place of its name."""
    done: list[str] = []
    waiting = [(value, 0) for value in found]
    while waiting:
        value, steps = waiting.pop()
        name = _VARIABLE.search(value)
        if name is None or steps > _MOST_STEPS or len(value) > _MOST_CHARS or len(done) + len(waiting) > _MOST_VALUES:
            done.append(value)  # one with a `var(` that is left is understood by nobody
            continue
        known = [*properties.get(name[1], ()), *([name[2]] if name[2] is not None else [])]
        waiting += [(value[: name.start()] + one.strip() + value[name.end() :], steps + 1) for one in known or ["?"]]
    return done


def length(text: str, em: float = 16.0, whole: float = VIEW_PX) -> float | None:
    """Pixels, of `calc(1em + 2px)` too; `whole`: what `%` is of. None: it is no length, or nobody knows."""
    return total(tinycss2.parse_component_value_list(text, skip_comments=True), em, whole)


def total(tokens: Sequence[Any], em: float, whole: float) -> float | None:
    """Of terms with `+` and `-` between them, each of factors with `*` and `/`."""
    done, term, sign, operator = 0.0, None, 1.0, ""
    for token in tokens:
        if token.type == "whitespace":
            continue
        if token.type == "literal" and token.value in "+-*/":
            if term is None or operator:
                return None
            if token.value in "+-":
                done, term, sign = done + sign * term, None, 1.0 if token.value == "+" else -1.0
            else:
                operator = token.value
            continue
        value = measure(token, em, whole)
        if value is None or (term is not None and not operator):
            return None
        if operator == "/" and value == 0:
            return None
        term = value if term is None else (term * value if operator == "*" else term / value)
        operator = ""
    return None if term is None or operator else done + sign * term


def measure(token: Any, em: float, whole: float) -> float | None:
    found: float | None = None
    if token.type == "number":
        found = float(token.value)
    elif token.type == "percentage":
        found = float(token.value) * whole / 100
    elif token.type == "dimension":
        unit = token.lower_unit
        factor = em if unit == "em" else 0.5 * em if unit in ("ex", "ch") else _UNITS.get(unit)
        found = None if factor is None else float(token.value) * factor
    elif token.type == "() block":
        return total(token.content, em, whole)
    elif token.type == "function" and token.lower_name in ("calc", "min", "max", "clamp"):
        parts: list[list[Any]] = [[]]
        for one in token.arguments:
            if one.type == "literal" and one.value == ",":
                parts.append([])
            else:
                parts[-1].append(one)
        values = [total(part, em, whole) for part in parts]
        known = [one for one in values if one is not None]
        if len(known) < len(values):
            return None
        if token.lower_name == "clamp":
            return max(known[0], min(known[1], known[2])) if len(known) == 3 else None
        if token.lower_name == "calc":
            return known[0] if len(known) == 1 else None
        return min(known) if token.lower_name == "min" else max(known)
    return found if found is None or math.isfinite(found) else None


def share(value: str) -> float:
    """Of an opacity; what is not understood is nothing."""
    if value in ("initial", "unset", "revert"):
        return 1.0
    found = length(value, whole=1.0)
    return 0.0 if found is None else max(0.0, min(1.0, found))


def font_px_of(value: str, around: float) -> float:
    if value in ("inherit", "unset", ""):
        return around
    if value in ("initial", "revert", "medium"):
        return 16.0
    if value in ("smaller", "larger"):
        return around / 1.2 if value == "smaller" else around * 1.2
    if value in _NAMED_SIZES:
        return _NAMED_SIZES[value]
    found = length(value, around, around)
    return 0.0 if found is None else found


_SYSTEM_FONTS = frozenset({"caption", "icon", "menu", "message-box", "small-caption", "status-bar"})


def font_px_of_shorthand(value: str, around: float) -> float:
    """Of the shorthand: the first part that is a size."""
    if value in AS_BEFORE or value in _SYSTEM_FONTS:
        return around if value in ("inherit", "unset", "") else 13.0
    for token in tinycss2.parse_component_value_list(value, skip_comments=True):
        if token.type == "ident" and token.lower_value in (*_NAMED_SIZES, "smaller", "larger"):
            return font_px_of(token.lower_value, around)
        if token.type in ("dimension", "percentage", "function") or (token.type == "number" and token.value == 0):
            return font_px_of(token.serialize(), around)
    return 0.0


def parts_of(tokens: Sequence[Any]) -> list[list[Any]]:
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
