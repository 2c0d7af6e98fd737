"""Sentences of a text, and the stems of their words: the reader's eyes."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ABBREVIATIONS = (
    r"(?<!\bInc\.)(?<!\bNo\.)(?<!\bCorp\.)(?<!\bLtd\.)(?<!\bCo\.)(?<!\bMr\.)(?<!\bDr\.)"
)
_BORDER = re.compile(
    rf"(?<=[.!?;]){_ABBREVIATIONS}[\"”’)]*\s+(?=[\"“‘(\[A-Z0-9])"
    r"|\s*\n\s*\n\s*"
    r"|\s*\n(?=[^\n]*\d[^\n]*\s[^\n]*\d)"
)
_LONGEST_CHARS = 700
_SHORTEST_CHARS = 12
_SOFT_BORDER = re.compile(r"[,:]\s+|\s{2,}|\s")
_WORD = re.compile(r"[A-Za-z][A-Za-z'’]*|\d[\d,.]*\d|\d")
_SUFFIXES = (
    "ational", "ations", "ation", "ments", "ment", "ingly", "ities", "ating", "ated", "ates",
    "ings", "ing", "edly", "ances", "ance", "ate", "ity", "ies", "ied", "ive", "ion", "ions",
    "ers", "er", "ed", "es", "ly", "al", "s", "e", "y",
)  # fmt: skip
_SHORTEST_STEM = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """A verbatim piece of a text."""

    text: str
    start: int
    """Its first character in the text."""


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of `text` in order, none over about 700 characters; crumbs are left out."""
    start = 0
    for border in _BORDER.finditer(text):
        yield from _bounded(text, start, border.start())
        start = border.end()
    yield from _bounded(text, start, len(text))


def stems(text: str) -> list[str]:
    """The words of `text`, lower case, without their endings."""
    return [stem(word) for word in _WORD.findall(text)]


@functools.lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A word without its commonest English ending; at least four letters stay."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word


def _bounded(text: str, start: int, end: int) -> Iterator[Sentence]:
    while end - start > _LONGEST_CHARS:
        cut = _soft_cut(text, start)
        yield from _trimmed(text, start, cut)
        start = cut
    yield from _trimmed(text, start, end)


def _soft_cut(text: str, start: int) -> int:
    """Where a sentence that is too long is cut: behind its last comma, or at its last blank."""
    limit = start + _LONGEST_CHARS
    borders = [m.end() for m in _SOFT_BORDER.finditer(text, start + _LONGEST_CHARS // 2, limit)]
    return borders[-1] if borders else limit


def _trimmed(text: str, start: int, end: int) -> Iterator[Sentence]:
    piece = text[start:end]
    stripped = piece.strip()
    if len(stripped) >= _SHORTEST_CHARS:
        yield Sentence(text=stripped, start=start + len(piece) - len(piece.lstrip()))
