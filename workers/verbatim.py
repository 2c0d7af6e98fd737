"""Strings that can only be pieces of a source: which tokens may come next in one.

A model that extracts (and never rewords) can be held to this: wherever it hesitates between two
ways on, only one that the source goes takes part.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

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

    def follow(self, inside: bytes, token: bytes) -> Followed | None:
        """The open string after `token`; None when it is then no piece of the source."""
        end = closing_quote(inside, token)
        grown = inside + (token if end < 0 else token[:end])
        if not self._holds(grown, is_whole=end >= 0):
            return None
        return Followed(inside=grown, closed_at=end)

    def _holds(self, piece: bytes, *, is_whole: bool) -> bool:
        """Whether `piece` stands in the source from the start of a word, if whole to a word's end
        (or anywhere between what is no letter, digit or underscore)."""
        if piece not in self._source or _CONTINUES.match(piece):
            return False
        if is_whole and not _is_text(piece):
            return False
        before = rb"(?<!\w)" if piece[:1].isalnum() else b""
        after = rb"(?!\w)" if is_whole and piece[-1:].isalnum() else b""
        return re.search(before + re.escape(piece) + after, self._source) is not None


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
