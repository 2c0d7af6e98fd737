"""A quote in its sentence: where a sentence begins and ends, in text that was made by machines."""

from __future__ import annotations

import re

from minions.documents.model import Document
from minions.evidence.model import Citation
from minions.evidence.verify import Span, cite

NEAR_DUPLICATE = 0.9
"""Share of common words (Jaccard) from which two quotes say the same."""
MAX_SENTENCE_CHARS = 400

_BORDER = re.compile(r"[.!?][\"'”’)\]]{0,3}(?=\s)|\n[^\S\n]*(?=\n)")
_ABBREVIATION = re.compile(
    r"\b(?:[a-z]|mr|mrs|ms|dr|prof|st|nos?|inc|corp|co|ltd|vs|approx|fig|sec|art|cf|al"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.\Z",
    re.IGNORECASE,
)


def widen(citation: Citation, document: Document, max_chars: int = MAX_SENTENCE_CHARS) -> Citation:
    """The citation of the whole sentence around a citation of `document`."""
    span = sentence_around(document.text, citation.start, citation.end, max_chars)
    return cite(document, span.start, span.end)


def sentence_around(
    document_text: str, start: int, end: int, max_chars: int = MAX_SENTENCE_CHARS
) -> Span:
    """The span of the whole sentence, or sentences, that hold `document_text[start:end]`.

    At most `max_chars` long, unless the quote alone is longer; a sentence that has no room is cut
    between words. A blank line ends a sentence too. Reads only `max_chars` to either side.
    """
    room = max(0, max_chars - (end - start))
    before = start - _sentence_start(document_text, start, room)
    after = _sentence_end(document_text, end, room) - end
    take_before = min(before, max(room // 2, room - after))
    take_after = min(after, room - take_before)
    return Span(
        start=_whole_words_from(document_text, start, take_before, cut=take_before < before),
        end=_whole_words_to(document_text, end, take_after, cut=take_after < after),
    )


def _sentence_start(text: str, start: int, room: int) -> int:
    """Where the sentence begins; more than `room` away when it begins out of reach."""
    low = max(0, start - room)
    borders = [m for m in _BORDER.finditer(text, low, start + 1) if _ends_sentence(m, text)]
    ends = [m.end() for m in borders if m.end() <= start]
    if ends:
        return ends[-1]
    return low - 1 if low > 0 else 0


def _sentence_end(text: str, end: int, room: int) -> int:
    """Where the sentence ends; more than `room` away when it ends out of reach."""
    high = min(len(text), end + room)
    for match in _BORDER.finditer(text, max(0, end - 1), min(len(text), high + 1)):
        if match.end() >= end and _ends_sentence(match, text):
            return match.start() if match.group().isspace() else match.end()
    return high if high == len(text) else high + 1


def _ends_sentence(border: re.Match[str], text: str) -> bool:
    if not border.group().startswith("."):
        return True
    return not _ABBREVIATION.search(text, max(0, border.start() - 8), border.start() + 1)


def _whole_words_from(text: str, start: int, n_chars: int, *, cut: bool) -> int:
    """The offset at most `n_chars` before `start` where a word begins."""
    part = text[start - n_chars : start]
    if cut:
        _, _, part = part.partition(" ")
    return start - len(part.lstrip())


def _whole_words_to(text: str, end: int, n_chars: int, *, cut: bool) -> int:
    """The offset at most `n_chars` after `end` where a word ends."""
    part = text[end : end + n_chars]
    if cut:
        part, _, _ = part.rpartition(" ")
    return end + len(part.rstrip())
