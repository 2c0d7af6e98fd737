"""Text folded to what a careless copyist keeps, with the way back to the original's offsets.

Two texts that fold alike read alike: they differ in white space, quotation marks, dashes, ligatures
or hyphenation only. Folding never joins, splits or changes a number: `1, 577` and `1,577`, `10²`
and `102`, `5 - 3` and `5 3` stay apart.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from array import array
from dataclasses import dataclass

_INVISIBLE = frozenset(
    "\u200b\u200c\u200d\u2060\ufeff"  # zero-width space, joiners, byte-order mark
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # writing direction
    "™®℠"  # marks that models leave out when they copy
)
_DASHES = frozenset("\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")
# PDFium writes these where a line ended in a hyphen.
_PDF_HYPHENS = frozenset("\x02\ufffe")
_SINGLE_QUOTES = frozenset("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\u00b4`\u02bc")
_DOUBLE_QUOTES = frozenset("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033")
# Folding these would change a number: 10² is not 102, 5½ is not 51/2.
_KEPT_FORMS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>", "<vertical>")

_UNUSUAL = re.compile(r"[^\t-\r -_a-~]")
_SPACE = re.compile(r"\s")
_LETTER = r"[^\W\d_]"
_LETTER_END = rf"(?:{_LETTER}|[\u0300-\u036f])"  # accents stand behind their letter when folded
_BRACKET = r"[()\[\]{}$€£¥]"
_POINT = "[,.;:!?]"
# Each begins with the character it deletes, which is what makes them fast.
_DELETIONS = (
    re.compile(r"['\"](?<!\d.)"),  # after a digit they are feet and inches
    re.compile(r" (?<=  )"),
    re.compile(rf" (?=-+ ?{_LETTER})(?<={_LETTER_END} )"),
    re.compile(rf"-(?<={_LETTER_END}-)-* ?(?={_LETTER})"),  # hyphens, at a line's end too
    re.compile(rf" (?:(?=%|{_BRACKET})|(?<={_BRACKET} )|(?={_POINT}(?!\d))|(?<={_POINT} )(?!\d))"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """A folded text. `origin[i]` is the index in the original of the folded character i."""

    text: str
    lowered: str
    """`text` in lower case, of the same length."""
    origin: array[int]
    """Never decreasing; one original character may fold to several or to none."""


@functools.lru_cache(maxsize=32)
def fold(text: str) -> Folded:
    """Fold `text` in linear time. Cached, because many jobs quote the same chunk."""
    folded, origin = _replace_unusual(text)
    folded = _SPACE.sub(" ", folded)
    for pattern in _DELETIONS:
        folded, origin = _delete(pattern, folded, origin)
    return Folded(text=folded, lowered=_lower(folded), origin=origin)


def _replace_unusual(text: str) -> tuple[str, array[int]]:
    pieces: list[str] = []
    origin = array("I")  # 4 bytes a character: whole documents are folded too
    at = 0
    for match in _UNUSUAL.finditer(text):
        start = match.start()
        plain = _plain(match.group())
        pieces += (text[at:start], plain)
        origin.extend(range(at, start))
        origin.extend([start] * len(plain))
        at = start + 1
    pieces.append(text[at:])
    origin.extend(range(at, len(text)))
    return "".join(pieces), origin


@functools.lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    """What stands for one unusual character: nothing, one plain character, or several."""
    if char in _DASHES or char in _PDF_HYPHENS:
        return "-"
    if char in _SINGLE_QUOTES:
        return "'"
    if char in _DOUBLE_QUOTES:
        return '"'
    if char in _INVISIBLE or (char.isascii() and not char.isprintable()):
        return ""
    if unicodedata.decomposition(char).startswith(_KEPT_FORMS):
        return char
    return unicodedata.normalize("NFKD", char)


def _delete(pattern: re.Pattern[str], text: str, origin: array[int]) -> tuple[str, array[int]]:
    """Drop every match of `pattern`, from the text and from its map."""
    pieces: list[str] = []
    kept = array("I")
    at = 0
    for match in pattern.finditer(text):
        pieces.append(text[at : match.start()])
        kept.extend(origin[at : match.start()])
        at = match.end()
    if at == 0:
        return text, origin
    pieces.append(text[at:])
    kept.extend(origin[at:])
    return "".join(pieces), kept


def _lower(text: str) -> str:
    """Lower case of the same length: the few characters that would grow stay as they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)
