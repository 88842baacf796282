"""Pure: the colours of letters, and of what is behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tinycss2
import tinycss2.color4

from variet.assistant.sanitize.values import AS_BEFORE

Rgb = tuple[float, float, float]  # from 0 to 255
WHITE: Rgb = (255.0, 255.0, 255.0)
BLACK: Rgb = (0.0, 0.0, 0.0)
_SYSTEM = {"canvastext": "#000", "windowtext": "#000", "-webkit-link": "#00e", "linktext": "#00e", "buttontext": "#000",
           "canvas": "#fff", "window": "#fff", "buttonface": "#efefef", "fieldtext": "#000", "field": "#fff",
           "-webkit-text": "#000", "marktext": "#000", "mark": "#ff0", "graytext": "#808080"}  # fmt: skip


def painted_by(value: str, under: Sequence[Rgb]) -> list[Rgb] | None:
    """The colours that a background may show. None: that cannot be known."""
    if value in AS_BEFORE or value == "none":
        return []
    found: list[Rgb] = []
    waiting = list(tinycss2.parse_component_value_list(value, skip_comments=True))
    plain = False
    while waiting:
        token = waiting.pop()
        colour = colour_of(token.serialize()) if token.type in ("ident", "hash", "function") else None
        if colour is not None:
            found += [over(colour, one) for one in under]
            plain = True
        elif token.type == "function" and token.lower_name.endswith("gradient"):
            waiting += token.arguments
        elif token.type == "url" or (token.type == "function" and token.lower_name in ("url", "image-set")):
            if "data:" in token.serialize():
                return None
        elif token.type == "function" and token.lower_name not in ("calc", "min", "max", "clamp"):
            return None
    return found if plain else []


def over(colour: tuple[Rgb, float], under: Rgb) -> Rgb:
    (red, green, blue), alpha = colour
    mixed = [top * alpha + below * (1 - alpha) for top, below in zip((red, green, blue), under, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def far(one: Rgb, other: Rgb) -> float:
    return sum(abs(first - second) for first, second in zip(one, other, strict=True))


def far_in_light(one: Rgb, other: Rgb) -> float:
    """How far two colours are once they are grey, in the sum of their channels."""
    lights = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (one, other)]
    return 3 * abs(lights[0] - lights[1])


def colour_of(text: str) -> tuple[Rgb, float] | None:
    """(red, green, blue from 0 to 255, alpha); None for what is none, or is not understood."""
    text = _SYSTEM.get(text.strip(), text.strip())
    light = re.fullmatch(r"light-dark\(([^,()]*),.*\)", text)
    text = light[1].strip() if light else text
    if not text or re.search(r"calc|none|from|var|mix|attr|color\(", text):
        return None
    found = tinycss2.color4.parse_color(text)
    if found is None or isinstance(found, str):
        return None
    try:
        red, green, blue = (255 * max(0.0, min(1.0, part or 0.0)) for part in found.to("srgb").coordinates)
    except NotImplementedError:  # lab, lch and their kin: as light as it is
        share = (found.coordinates[0] or 0.0) / (1.0 if found.space.startswith("ok") else 100.0)
        red = green = blue = 255 * max(0.0, min(1.0, share))
    return (red, green, blue), float(found.alpha)
