"""Pure: whether words that are to go out could tell of what was read in private.

Of private text every word is kept as a keyed hash, but for those that are frequent in its languages. That finds words
that are repeated, not ones that were turned into others or into a code; what could be a code is looked for by its
shape. Neither finds everything: docs/security.md says what is left.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

_WORD = re.compile(r"[^\W_]+(?:[.@+'’-][^\W_]+)*")
_INNER = re.compile(r"[.@+'’-]")
_YEAR = re.compile(r"(?:19|20)\d\d")
_MOST_CHARS = 400_000  # of one text; what is behind counts as read, too (see `whole`)
_LONGEST_WORD = 24
_MOST_QUERY_CHARS = 160
_LANGUAGES = ("English", "German", "French", "Spanish", "Italian", "Dutch", "Portuguese")
# Greetings and the calendar, which every mail has.
_EVERYWHERE = frozenset(
    re.split(
        r"\s+",
        """dear hello hi regards please thank thanks today tomorrow yesterday liebe lieber hallo grüße heute
        morgen gestern monday tuesday wednesday thursday friday saturday sunday january february march april
        may june july august september october november december montag dienstag mittwoch donnerstag freitag
        samstag sonntag jänner januar februar märz mai juni juli oktober dezember""",
    )
)
# Numbers in words are digits in another dress.
_NUMBER_WORDS = frozenset(
    re.split(
        r"\s+",
        """zero one two three four five six seven eight nine null eins zwei drei vier fünf sechs sieben acht neun
        zéro deux trois quatre cinq sept huit neuf cero dos tres cuatro cinco seis siete ocho nueve""",
    )
)
# Scripts that set no blanks between words: each two neighbours count as one.
_NO_BLANKS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def telling(text: str) -> Iterator[str]:
    """What of a text would be recognised, each as it is hashed."""
    for word in _words(text[:_MOST_CHARS]):
        for part in _parts(word):
            if part not in _EVERYWHERE and part not in _frequent() and (len(part) >= 3 or not part.isascii()):
                yield part


def sought(query: str) -> set[str]:
    """What of a query may be recognised."""
    return {part for word in _words(query) for part in _parts(word)}


def hashed(part: str, key: bytes) -> bytes:
    """8 bytes. `key`: at most 64 bytes, kept with them; another store's hashes tell nothing."""
    return hashlib.blake2b(part.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()


def whole(text: str) -> bool:
    """Whether `telling` looked through all of it."""
    return len(text) <= _MOST_CHARS


def opaque(query: str) -> bool:
    """Whether some of it could be a code for something else, by its shape: long, numbers, spelt out, unreadable."""
    plain = unicodedata.normalize("NFKC", query)
    words = [match[0] for match in _WORD.finditer(plain)]
    years = sum(bool(_YEAR.fullmatch(word)) for word in words)
    digits = sum(one.isdigit() for word in words if not _YEAR.fullmatch(word) for one in word)
    spelt = sum(len(word) == 1 for word in words)
    numbers = sum(word.casefold() in _NUMBER_WORDS for word in words)
    return (
        len(plain) > _MOST_QUERY_CHARS
        or any(len(word) > _LONGEST_WORD for word in re.split(r"\s", plain))
        or digits >= 4
        or years >= 2
        or numbers >= 3
        or spelt >= 3
        or any(map(_unreadable, words))
        or any(unicodedata.category(one) in ("Cf", "Co", "Cn", "Cs") for one in plain)
    )


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text)):
        yield match[0].casefold()


def _parts(word: str) -> Iterator[str]:
    """The word, what it is made of, and pairs of characters of scripts without blanks."""
    yield word
    inner = _INNER.split(word)
    if len(inner) > 1:
        yield from inner
    if _NO_BLANKS.search(word):
        yield from (f"{one}{two}" for one, two in pairwise(word))


@cache
def _frequent() -> frozenset[str]:
    """Words too frequent to tell anything; the lists are jusText's."""
    import justext

    held = {word.strip("\"'(),.;:!?„“”»«").casefold() for one in _LANGUAGES for word in justext.get_stoplist(one)}
    return frozenset(word for word in held if word.isalpha())


def _unreadable(word: str) -> bool:
    """Letters and digits mixed, capitals in the middle more than once, or hardly a vowel: hexadecimal, base64."""
    if len(word) < 8:
        return False
    mixed = any(one.isdigit() for one in word) and any(one.isalpha() for one in word)
    inner = sum(one.isupper() for one in word[1:])
    vowels = sum(one in "aeiouyäöüáéíóúàèìòùâêîôûåøæœ" for one in word.casefold())
    latin = all("LATIN" in unicodedata.name(one, "") for one in word if one.isalpha())
    return mixed or (inner >= 2 and not word.isupper()) or (latin and vowels * 6 < len(word))
