"""Pure: text of a model where a person decides by it: nothing in it is invisible, nothing is left out."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """Control characters as their pictures, what has no shape as its code; line ends and tabs stay."""
    return "".join(one if one in "\n\t" or _seen(one) else _picture(one) for one in text)


def _seen(one: str) -> bool:
    return unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _picture(one: str) -> str:
    code = ord(one)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"
