"""Pure: characters that a person does not see, and a model reads. https://www.unicode.org/reports/tr36/

Joiners stay where writing needs them: between letters of scripts that join, and in emoji.
"""

from __future__ import annotations

import re
import unicodedata

# What most texts are made of: always seen, whatever stands beside it. Latin, Cyrillic, Japanese, Chinese, Korean.
_PLAIN = re.compile(
    "[\n\t\x20-\x7e\xa0-\xac\xae-\u02ff\u0400-\u052f\u3041-\u3096\u30a0-\u30ff\u4e00-\u9ffc\uac00-\ud7a3]+"
)
_BLANKS = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_JOINERS = "\u200c\u200d"
_KEPT = "\n\t"
_SELECTORS = range(0xFE00, 0xFE10)
_MORE_SELECTORS = range(0xE0100, 0xE01F0)  # two or more in a row carry bytes
_MONGOLIAN_SELECTORS = (0x180B, 0x180C, 0x180D, 0x180F)
# The flags that are written with tags: England's, Scotland's and Wales's.
_FLAGS = tuple(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(one)) for one in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)


def seen(text: str) -> tuple[str, int]:
    """The text without them, and how many there were. Line ends become line feeds, and blanks of all widths become one
    kind: at the end of a line nobody sees which they are."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    text = _BLANKS.sub(" ", text)
    kept: list[str] = []
    at = 0
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            kept.append(plain[0])
            at = plain.end()
            continue
        one = text[at]
        flag = next((flag for flag in _FLAGS if one == flag[0] and text.startswith(flag, at)), "")
        if flag:
            kept.append(flag)
            at += len(flag)
            continue
        if _shown(text, at):
            kept.append(one)
        at += 1
    left = "".join(kept)
    return left, len(text) - len(left)


def _shown(text: str, at: int) -> bool:
    one = text[at]
    if one in _KEPT:
        return True
    if one in _JOINERS:
        return 0 < at < len(text) - 1 and _joins(text[at - 1]) and _joins(text[at + 1])
    code = ord(one)
    if code in _SELECTORS:
        return at > 0 and not _selects(text[at - 1])
    if code in _MORE_SELECTORS:
        return at > 0 and "CJK" in unicodedata.name(text[at - 1], "") and not _selects(text[at + 1 : at + 2])
    if code in _MONGOLIAN_SELECTORS:
        return at > 0 and 0x1820 <= ord(text[at - 1]) <= 0x18AA
    if code in (0x17B4, 0x17B5):  # vowels of Khmer that are never written
        return False
    # U+2800, U+3164, U+115F, U+1160, U+FFA0: letters and symbols without a shape.
    if code in (0x2800, 0x3164, 0x115F, 0x1160, 0xFFA0):
        return False
    return unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def _joins(one: str) -> bool:
    return ord(one) > 0x24F and (unicodedata.category(one)[0] in "LMS" or ord(one) in _SELECTORS)


def _selects(one: str) -> bool:
    return bool(one) and (ord(one) in _SELECTORS or ord(one) in _MORE_SELECTORS)
