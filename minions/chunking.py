"""Cuts a document into chunks that the worker's own tokenizer says fit.

Three steps. *Borders*: every place where a text may be cut, each with a rank. *Pieces*: what lies
between two borders, tokenised once; a piece that is itself too long is cut at words, then inside
words. *Packing*: consecutive pieces are joined while they fit, and the chunk ends at the strongest
border in the last part of its budget. Token counts of pieces only guide the packing: every chunk is
counted as a whole, since tokenizers need not be additive.

The chunks tile the document: no gap, no overlap, no character changed.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

from minions.documents.model import Chunk, Document
from minions.errors import BadRequest
from workers.seams import Tokenizer

ALGORITHM_VERSION = 1
"""Part of `chunking_key`: raise it whenever the same input may give other chunks."""

MIN_MAX_TOKENS = 16
"""Below this a single character (at most about 12 tokens in byte-level BPE) might not fit."""

_MIN_FILL = 0.65
"""A chunk ends in the last 35% of its budget, unless a single piece is larger than that."""
_MIN_LAST_FILL = 0.25
"""The last chunk holds at least this, where the one before it can spare it."""
_MAX_PIECE_CHARS = 1_000
"""Longer pieces are cut unseen: some tokenizers are quadratic in the length of a run."""


class Border(IntEnum):
    """Where a text may be cut; a higher one is a better place."""

    CHARACTER = 0
    WORD = 1
    WRAP = 2
    """A line's end in the middle of a sentence, as PDFs have them."""
    SENTENCE = 3
    LINE = 4
    """A line's end that also ends a paragraph, an item or a table row."""
    TABLE = 5
    BLANK = 6
    """Before a blank line's end or a heading."""
    PAGE = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """Text that is not cut further. Alone it fits the budget."""

    start: int
    end: int
    n_tokens: int
    border: Border
    """What its end is."""


_LINE = re.compile(r"[^\n]*\n+|[^\n]+")
_SENTENCE = re.compile(
    r"""(?<![A-Z]\.[A-Z])                                # U.S.
        (?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bNo)(?<!\bInc)(?<!\bCo)(?<!\bCorp)(?<!\bLtd)
        (?<!\bvs)(?<!\bArt)(?<!\bSec)(?<!\be\.g)(?<!\bi\.e)(?<!\bet\ al)
        [.!?]["'”’)\]]*\s+(?=["'“‘(\[]*[^\W_a-z])        # not before a lower-case letter
      | [。！？]["”’」』）]*\s*                             # scripts that set no space
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"\S*\s+|\S+")
_NUMBER = re.compile(r"[^\w\s]*\d[\d.,:%/]*[)%]*|[-–—$%()]+")
_SENTENCE_END = re.compile(r"""[.!?:;。！？]["'”’)\]]*\s*$""")
_HEADING = re.compile(
    r"#{1,6}\s|(?i:item|part|article|section|chapter|exhibit|schedule|annex|appendix|note)\s+"
    r"(?:\d|[IVXLC]+\b|[A-Z]\b)|\d+(?:\.\d+)+\.?\s+[A-Z]"
)
_MAX_HEADING_CHARS = 100
_MAX_ITEM_CHARS = 60
"""A longer line without a stop at its end goes on in the next one, whatever begins that."""


def chunk_document(document: Document, tokenizer: Tokenizer, max_tokens: int) -> list[Chunk]:
    """Chunks of at most `max_tokens` tokens each, in reading order.

    Raises `BadRequest` when `max_tokens` is below 16, or a single character does not fit in it.
    """
    if max_tokens < MIN_MAX_TOKENS:
        raise BadRequest(
            f"chunks of {max_tokens} tokens are too small: at least {MIN_MAX_TOKENS} are needed. "
            "Use a model or server with a longer context, or a shorter question."
        )
    cutter = _Cutter(document=document, tokenizer=tokenizer, max_tokens=max_tokens)
    pieces = list(cutter.pieces())
    return [
        _chunk(document, index, start, end, n_tokens)
        for index, (start, end, n_tokens) in enumerate(cutter.packed(pieces))
    ]


def chunking_key(tokenizer_id: str, max_tokens: int) -> str:
    """Short name of everything that chunks depend on beside the document: 16 hex digits."""
    parts = (str(ALGORITHM_VERSION), tokenizer_id, str(max_tokens))
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


def _chunk(document: Document, index: int, start: int, end: int, n_tokens: int) -> Chunk:
    identity = f"{document.document_id}\0{start}\0{end}".encode()
    return Chunk(
        chunk_id=f"chk_{hashlib.sha256(identity).hexdigest()[:24]}",
        document_id=document.document_id,
        index=index,
        start=start,
        end=end,
        text=document.text[start:end],
        first_page=document.page_at(start),
        last_page=document.page_at(end - 1),
        n_tokens=n_tokens,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cutter:
    document: Document
    tokenizer: Tokenizer
    max_tokens: int

    def count(self, start: int, end: int) -> int:
        """Tokens of a span of the document."""
        return self.tokenizer.count(self.document.text[start:end])

    def pieces(self) -> Iterator[_Piece]:
        """Pieces that tile the text and fit the budget, each alone."""
        start = 0
        for end, border in _borders(self.document):
            yield from self._fitting(start, end, border)
            start = end

    def _fitting(self, start: int, end: int, border: Border) -> Iterator[_Piece]:
        """The span as one piece or, when it is too long, as several."""
        if end - start > _MAX_PIECE_CHARS:
            yield from self._split(start, end, border, _MAX_PIECE_CHARS)
            return
        n_tokens = self.count(start, end)
        if n_tokens <= self.max_tokens:
            yield _Piece(start=start, end=end, n_tokens=n_tokens, border=border)
            return
        if end - start == 1:
            raise self._misfit(start, n_tokens)
        # A quarter of the budget each, so that they pack well.
        n_chars = max(1, (end - start) * self.max_tokens // (4 * n_tokens))
        yield from self._split(start, end, border, n_chars)

    def _split(self, start: int, end: int, border: Border, n_chars: int) -> Iterator[_Piece]:
        """Cut the span into parts of about `n_chars`, between words where there are any."""
        text = self.document.text
        while end - start > n_chars:
            cut, inner = _word_cut(text, start, start + n_chars)
            yield from self._fitting(start, cut, inner)
            start = cut
        yield from self._fitting(start, end, border)

    def _misfit(self, offset: int, n_tokens: int) -> BadRequest:
        character = self.document.text[offset]
        return BadRequest(
            f"the character U+{ord(character):04X} at offset {offset:,} of {self.document.name} is "
            f"{n_tokens} tokens, and a chunk may have {self.max_tokens}. "
            "Use a model or server with a longer context."
        )

    def packed(self, pieces: Sequence[_Piece]) -> Iterator[tuple[int, int, int]]:
        """Start, end and token count of each chunk."""
        totals = list(accumulate((piece.n_tokens for piece in pieces), initial=0))
        first = 0
        while first < len(pieces):
            last, n_tokens = self._longest_fit(pieces, totals, first)
            yield pieces[first].start, pieces[last].end, n_tokens
            first = last + 1

    def _longest_fit(
        self, pieces: Sequence[_Piece], totals: Sequence[int], first: int
    ) -> tuple[int, int]:
        """Index of the last piece of the chunk that begins with `first`, and its token count.

        Starts from what the pieces' own counts promise and shrinks until the whole fits. One piece
        alone always does.
        """
        budget = float(self.max_tokens)
        last = _choose_last(pieces, totals, first, budget)
        while last > first:
            n_tokens = self.count(pieces[first].start, pieces[last].end)
            if n_tokens <= self.max_tokens:
                return last, n_tokens
            promised = totals[last + 1] - totals[first]
            budget = min(budget, promised) * self.max_tokens / n_tokens
            last = min(last - 1, _choose_last(pieces, totals, first, budget))
        return first, pieces[first].n_tokens


def _choose_last(pieces: Sequence[_Piece], totals: Sequence[int], first: int, budget: float) -> int:
    """The piece with the strongest border (the latest of equals) in the last part of the budget."""
    rest = totals[-1] - totals[first]
    if rest <= budget:
        return len(pieces) - 1
    limit = min(budget, rest - _MIN_LAST_FILL * budget)
    highest = max(first, bisect_right(totals, totals[first] + limit) - 2)
    lowest = bisect_left(totals, totals[first] + _MIN_FILL * budget) - 1
    candidates = range(min(max(first, lowest), highest), highest + 1)
    return max(candidates, key=lambda index: (pieces[index].border, index))


def _word_cut(text: str, start: int, end: int) -> tuple[int, Border]:
    """Where to cut `text[start:...]` at or before `end`: after a space in its second half, or else
    between two characters that do not combine."""
    middle = (start + end) // 2
    for offset in range(end, max(middle, start + 1), -1):
        if text[offset - 1].isspace() and not text[offset].isspace():
            return offset, Border.WORD
    return _character_cut(text, start, end), Border.CHARACTER


def _character_cut(text: str, start: int, end: int) -> int:
    """The last offset up to `end` that splits no letter from its accents and no emoji sequence."""
    for offset in range(end, max(start, end - 16), -1):
        if not _joins(text[offset - 1], text[offset]):
            return offset
    return end


def _joins(before: str, after: str) -> bool:
    """Whether two characters are drawn as one (a simple form of Unicode's UAX #29)."""
    if before == "\u200d" or (before, after) == ("\r", "\n"):
        return True
    is_modifier = "\U0001f3fb" <= after <= "\U0001f3ff"
    return after == "\u200d" or is_modifier or unicodedata.category(after) in ("Mn", "Mc", "Me")


def _borders(document: Document) -> Iterator[tuple[int, Border]]:
    """All cuts from sentence ends upward, ascending; the last is the text's end."""
    text = document.text
    if not text:
        return
    page_ends = [page.end for page in document.pages if page.end > page.start]
    for start, end in pairwise([0, *page_ends]):
        for offset, border in _page_borders(text[start:end]):
            yield start + offset, border
        yield end, Border.PAGE


def _page_borders(page: str) -> Iterator[tuple[int, Border]]:
    """Cuts inside a page, its end left out."""
    lines = [match.span() for match in _LINE.finditer(page)]
    rows = [_is_row(page[start:end]) for start, end in lines]
    for number, (start, end) in enumerate(lines):
        line = page[start:end]
        if not rows[number]:
            for match in _SENTENCE.finditer(line):
                if start + match.end() < end:
                    yield start + match.end(), Border.SENTENCE
        if number + 1 < len(lines):
            following = page[slice(*lines[number + 1])]
            yield end, _line_border(line, following, rows[number], rows[number + 1])


def _line_border(line: str, following: str, is_row: bool, row_follows: bool) -> Border:
    if line.endswith("\n\n") or line.isspace() or _is_heading(following):
        return Border.WRAP if _is_heading(line) else Border.BLANK
    if is_row and not row_follows:
        return Border.TABLE
    if _is_heading(line):
        return Border.WRAP
    if is_row or _SENTENCE_END.search(line):
        return Border.LINE
    is_wrapped = len(line) > _MAX_ITEM_CHARS or following[:1].islower()
    return Border.WRAP if is_wrapped else Border.LINE


def _is_row(line: str) -> bool:
    """Whether a line looks like a table's row: marked cells, or at least two numbers at its end."""
    if " | " in line or "\t" in line.strip():
        return True
    words = line.split()
    n_trailing = 0
    while n_trailing < len(words) and _NUMBER.fullmatch(words[-1 - n_trailing]):
        n_trailing += 1
    return n_trailing >= 2


def _is_heading(line: str) -> bool:
    """A short line that is numbered like a heading or set in capitals, and is no sentence."""
    line = line.strip()
    if not line or len(line) > _MAX_HEADING_CHARS or line.endswith((".", ",", ";")):
        return False
    return bool(_HEADING.match(line)) or (line.isupper() and sum(map(str.isalpha, line)) >= 4)
