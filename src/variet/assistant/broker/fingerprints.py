"""Pure: whether words that are to go out could tell of what was read in private.

Private text is kept as keyed hashes of what is telling in it: neighbouring words, names, numbers. That finds words that
are repeated, not ones that were turned into a code; what could be a code is looked for by its shape. Neither finds
everything: docs/security.md says what is left.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

_WORD = re.compile(r"[^\W_]+(?:[.@+'’-][^\W_]+)*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_MOST_CHARS = 400_000  # of one text; what is behind counts as read, too (see `whole`)
_LONGEST_WORD = 24
_MOST_QUERY_CHARS = 160
# Too frequent to tell anything, in the languages that the prompts of this project speak.
_COMMON = frozenset(
    re.split(
        r"\s+",
        """a about after all also am an and any are as at be been before but by can could day dear did do does for from
        had has have he hello her here hi him his how i if in into is it its just last let like make may me mine more
        most my new next no not now of on one or other our out over please regards she should so some than thank
        thanks that the their them then there these they this those time to today tomorrow up us very was we well were
        what when where which who why will with would yes yesterday you your monday tuesday wednesday thursday friday
        saturday sunday january february march april june july august september october november december aber alle
        als am an auch auf aus bei bin bis bitte da dann das dass dem den der des dich die dir du durch ein eine einen
        einer es euch für gegen grüße gut haben hallo hat heute ich ihr im in ist ja kann kein liebe lieber man mehr
        mein mich mir mit morgen nach nicht noch nur oder ohne sein sich sie sind so über um und uns unser vom von vor
        war was wenn wer wie wir wird wo zu zum zur""",
    )
)


def telling(text: str) -> Iterator[str]:
    """What of a text would be recognised: neighbouring words, names, numbers, addresses; each as it is hashed."""
    before = ""
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text[:_MOST_CHARS])):
        word = match[0].casefold()
        if _single(match[0], word):
            yield word
        if before and before not in _COMMON and word not in _COMMON:
            yield f"{before} {word}"
        before = word


def _single(written: str, word: str) -> bool:
    if word in _COMMON or _YEAR.fullmatch(word):
        return False
    digits = sum(one.isdigit() for one in word)
    return digits >= 3 or "@" in word or (written[0].isupper() and len(word) >= 3)


def sought(query: str) -> set[str]:
    """What of a query may be recognised. People write queries without capitals, so every word may be a name."""
    words = [match[0].casefold() for match in _WORD.finditer(unicodedata.normalize("NFKC", query))]
    parts = {part for word in words for part in (word, *re.split(r"[.@+'’-]", word))}
    return parts | {f"{one} {two}" for one, two in pairwise(words)}


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
    numbers = sum(one.isdigit() for word in words if not _YEAR.fullmatch(word) for one in word)
    spelt = sum(len(word) == 1 for word in words)
    return (
        len(plain) > _MOST_QUERY_CHARS
        or any(len(word) > _LONGEST_WORD for word in re.split(r"\s", plain))
        or numbers >= 4
        or spelt >= 3
        or any(map(_unreadable, words))
        or any(unicodedata.category(one) in ("Cf", "Co", "Cn", "Cs") for one in plain)
    )


def _unreadable(word: str) -> bool:
    """Letters and digits mixed, capitals in the middle more than once, or hardly a vowel: hexadecimal, base64."""
    if len(word) < 8:
        return False
    mixed = any(one.isdigit() for one in word) and any(one.isalpha() for one in word)
    inner = sum(one.isupper() for one in word[1:])
    vowels = sum(one in "aeiouyäöüáéíóúàèìòùâêîôûåøæœ" for one in word.casefold())
    latin = all("LATIN" in unicodedata.name(one, "") for one in word if one.isalpha())
    return mixed or (inner >= 2 and not word.isupper()) or (latin and vowels * 6 < len(word))
