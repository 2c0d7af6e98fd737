"""The best verified quotes, each in its sentence, within a budget: what the cloud gets to see."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping

from minions.documents.model import Document
from minions.evidence.model import Citation, Evidence
from minions.evidence.verify import Span, cite
from minions.evidence.words import words

NEAR_DUPLICATE = 0.9
"""Share of common words (Jaccard) from which two quotes say the same."""
MAX_SENTENCE_CHARS = 400

_BORDER = re.compile(r"[.!?][\"'”’)\]]{0,3}(?=\s)|\n[^\S\n]*(?=\n)")
_ABBREVIATION = re.compile(
    r"\b(?:[a-z]|mr|mrs|ms|dr|prof|st|nos?|inc|corp|co|ltd|vs|approx|fig|sec|art|cf|al"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.\Z",
    re.IGNORECASE,
)


def pack_quotes(
    evidence: Evidence,
    budget_tokens: int,
    count: Callable[[str], int],
    documents: Mapping[str, Document] | None = None,
) -> list[Citation]:
    """Verified quotes, best first, that together have at most `budget_tokens` by `count`.

    The groups take turns, so that rival answers are all seen. With `documents` (by id) each quote
    is widened to its sentence where the budget allows. No two overlap or say nearly the same.
    """
    packed: list[Citation] = []
    said: list[frozenset[str]] = []
    left = budget_tokens
    for citation in _taking_turns(evidence):
        says = frozenset(words(citation.quote))
        if any(_nearly_same(says, other) for other in said):
            continue
        for form in _forms(citation, documents):
            n_tokens = count(form.quote)
            if n_tokens <= left and not any(_overlap(form, other) for other in packed):
                packed.append(form)
                said.append(says)
                left -= n_tokens
                break
    return packed


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


def _taking_turns(evidence: Evidence) -> Iterator[Citation]:
    """The best citation of every group, best group first; then every second one; and so on."""
    turns = itertools.zip_longest(*(group.citations for group in evidence.groups))
    return (cited for turn in turns for cited in turn if cited is not None)


def _forms(citation: Citation, documents: Mapping[str, Document] | None) -> Iterator[Citation]:
    """The quote in its sentence, then the bare quote, for when the sentence does not fit."""
    document = documents.get(citation.document_id) if documents else None
    if document is not None:
        yield widen(citation, document)
    yield citation


def _nearly_same(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= NEAR_DUPLICATE * len(one | other)


def _overlap(one: Citation, other: Citation) -> bool:
    same = one.document_id == other.document_id
    return same and one.start < other.end and other.start < one.end
