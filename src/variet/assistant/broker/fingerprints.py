"""Pure: words as they are compared: of what a person typed, of public text, of a query that is to go out.

Nothing of private text is kept: that it was read is enough. Then a query may have only words that were there before,
so that none of them can be made from what is private (reading.py). Words are kept as keyed hashes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

_PART = r"(?:[^\W_]|\x00.)+"
_WORD = re.compile(rf"{_PART}(?:[.@+'’-]{_PART})*(?:\+\+|#)?", re.DOTALL)  # C++ and C# are words
_INNER = re.compile(r"[.@+'’#-]")
_MOST_CHARS = 400_000  # of a text; words behind them are not known
_LANGUAGES = ("English", "German", "French", "Spanish", "Italian", "Dutch", "Portuguese")


def words_of(text: str) -> set[str]:
    """The words of a text that was typed or is public, with what they are made of."""
    return {part for word in _words(text[:_MOST_CHARS]) for part in (word, *pieces(word))}


def query_words(query: str) -> Iterator[str]:
    """The words of a query, in order, without the signs between them."""
    return _words(query)


def pieces(word: str) -> list[str]:
    """What a word is made of that has dots, dashes or the like within."""
    return [part for part in _INNER.split(word) if part]


def frequent(word: str) -> bool:
    """Whether engines pass over it."""
    return word in _frequent()


def hashed(part: str, key: bytes) -> bytes:
    """8 bytes. `key`: at most 64 bytes, kept with them; another store's hashes tell nothing."""
    return hashlib.blake2b(part.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()


def _words(text: str) -> Iterator[str]:
    """Letters and numbers with their marks (of which Hindi and Thai write vowels), joined by dots, dashes and the
    like."""
    for match in _WORD.finditer("".join(_sign(one) for one in unicodedata.normalize("NFKC", text))):
        yield match[0].replace("\x00", "").casefold()


def _sign(letter: str) -> str:
    """A mark stands behind a NUL, which the pattern takes for a part of a word."""
    return f"\x00{letter}" if unicodedata.category(letter)[0] == "M" else letter if letter != "\x00" else " "


@cache
def _frequent() -> frozenset[str]:
    """Words too frequent to tell anything; the lists are jusText's."""
    import justext

    held = {word.strip("\"'(),.;:!?„“”»«").casefold() for one in _LANGUAGES for word in justext.get_stoplist(one)}
    return frozenset(word for word in held if word.isalpha())
