"""Pure: text of a model where a person decides by it: nothing in it is invisible, nothing is left out."""

from __future__ import annotations

import unicodedata

# Letters, marks and signs that have no shape of their own, by Unicode's data and by what fonts do.
_SHAPELESS = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10),
     *range(0xE0100, 0xE01F0)}
)  # fmt: skip


def visible(text: str) -> str:
    """Control characters as their pictures, what has no shape as its code; line ends and tabs stay."""
    return "".join(one if one in "\n\t" or _seen(one) else _picture(one) for one in text)


def one_line(text: str, most: int = 300) -> str:
    """The same without line ends, and no longer than that."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _seen(one: str) -> bool:
    if one == " ":
        return True
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")
    return unicodedata.category(one) not in hidden and ord(one) not in _SHAPELESS


def _picture(one: str) -> str:
    code = ord(one)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"
