"""Strings that can only be pieces of a source: which tokens may come next in one.

A model that extracts (and never rewords) can be held to this: wherever it hesitates between two
ways on, only one that the source goes takes part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""Half-open, in bytes of the source as JSON escapes it."""

_REACH = 160
"""So many bytes before a place, at most, a string begins that is to touch it."""
_CONTINUES = re.compile(rb"[\x80-\xbf]")
"""A byte inside a UTF-8 character: no string begins with one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """What a token does to an open JSON string.

    inside: the string's bytes so far, as JSON escapes them. closed_at: index of the closing quote
    in the token's bytes, -1 while the string stays open.
    """

    inside: bytes
    closed_at: int


class Verbatim:
    """A source text with its runs of whitespace as single spaces, escaped as in JSON."""

    def __init__(self, source: str) -> None:
        self._text = " ".join(source.split())
        shown = json.dumps(self._text, ensure_ascii=False)[1:-1]
        self._source = shown.encode(errors="replace")

    @property
    def is_blank(self) -> bool:
        """No string but the empty one can be a piece of this source."""
        return not self._source

    def share_a_place(self, one: str, other: str) -> bool:
        """Whether the two pieces overlap anywhere: a quote elsewhere says nothing of an answer."""
        return any(a < d and c < b for a, b in self._places(one) for c, d in self._places(other))

    def _places(self, piece: str) -> list[tuple[int, int]]:
        squeezed = " ".join(piece.split())
        found = re.finditer(re.escape(squeezed), self._text) if squeezed else ()
        return [match.span() for match in found]

    def spans(self, inside: bytes) -> list[Span]:
        """Where a whole string stands, by its bytes as JSON escapes them; the empty one nowhere."""
        return list(self._found(inside, 0, len(self._source), is_whole=True)) if inside else []

    def follow(self, inside: bytes, token: bytes, touching: Sequence[Span] = ()) -> Followed | None:
        """The open string after `token`; None when it is then no piece of the source.

        touching: places of which the string, once it is closed, has to overlap one; it is let
        through only where it still can. None given: it may stand anywhere."""
        end = closing_quote(inside, token)
        grown = inside + (token if end < 0 else token[:end])
        if not self._holds(grown, touching, is_whole=end >= 0):
            return None
        return Followed(inside=grown, closed_at=end)

    def continuations(self, inside: bytes, most: int, touching: Sequence[Span] = ()) -> set[bytes]:
        """What the source says after the open string, up to `most` bytes of it.

        Each token that `follow` lets through begins one of them, or what stands in the token before
        its closing quote does; so it is enough to ask about those."""
        windows = [(max(begin - _REACH, 0), end) for begin, end in touching]
        return {
            self._source[end : end + most]
            for first, limit in windows or [(0, len(self._source) + 1)]
            for _, end in self._found(inside, first, limit, is_whole=False)
        }

    def _holds(self, piece: bytes, touching: Sequence[Span], *, is_whole: bool) -> bool:
        """Whether `piece` stands in the source from the start of a word, if whole to a word's end
        (or anywhere between what is no letter, digit or underscore), and where it may touch."""
        if piece not in self._source or _CONTINUES.match(piece):
            return False
        if is_whole and not _is_text(piece):
            return False
        for place in touching:
            nearby = self._found(piece, max(place[0] - _REACH, 0), place[1], is_whole=is_whole)
            if any(not is_whole or _overlap(found, place) for found in nearby):
                return True
        return not touching and any(self._found(piece, 0, len(self._source), is_whole=is_whole))

    def _found(self, piece: bytes, first: int, limit: int, *, is_whole: bool) -> Iterator[Span]:
        """Places of `piece` that begin in [first, limit), at the start of a word, if whole ending
        with a word."""
        source, size = self._source, len(piece)
        begin = source.find(piece, first, limit - 1 + size)
        while begin >= 0:
            end = begin + size
            is_cut = is_whole and _is_in_word(piece[-1:], source[end : end + 1])
            if not is_cut and not _is_in_word(source[max(begin - 1, 0) : begin], piece[:1]):
                yield begin, end
            begin = source.find(piece, begin + 1, limit - 1 + size)


def _is_in_word(before: bytes, after: bytes) -> bool:
    """Whether a word goes on from one byte, or none, to the next."""
    return (before.isalnum() or before == b"_") and (after.isalnum() or after == b"_")


def _overlap(one: Span, other: Span) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def closing_quote(inside: bytes, token: bytes) -> int:
    """Index in `token` of the quote that ends the string open with `inside`; -1 if none does."""
    escaped = (len(inside) - len(inside.rstrip(b"\\"))) % 2 == 1
    for index, byte in enumerate(token):
        if byte == 0x22 and not escaped:
            return index
        escaped = byte == 0x5C and not escaped
    return -1


def _is_text(piece: bytes) -> bool:
    """Whether no character is cut."""
    return piece.decode("utf-8", "replace").count("\ufffd") == piece.count(b"\xef\xbf\xbd")
