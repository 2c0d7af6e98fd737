"""Whether a quote really stands in the text it is said to come from, and where exactly.

The quote is a model's rendering; what comes back is always a span of the original. Differences of
form are forgiven (see `folding`), differences of substance never: a changed or cut number, a
dropped `not` or a changed name is not verified.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from minions.documents.model import Chunk, Document
from minions.evidence.folding import Folded, fold
from minions.evidence.model import Citation
from minions.evidence.words import STOP_WORDS, words

MAX_SKIPPED_CHARS = 600
"""How much folded text the ellipses of one quote may skip, all together."""
MAX_REJECTED = 100
"""Occurrences that may fail before a search gives up: bounds hostile inputs."""
MIN_CUT_CHARS = 24
"""A quote may break off inside its last word (the token cap) only when at least this long."""

_ELLIPSIS = re.compile(r"\[?(?:…|\.{3,}|\. \. \.)\]?")
_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n|:[^\S\n]*\n")
_MARKS = '"“”'
_OUTER = " '\"*•·,;:!?.-"
_CURRENCY_OR_SHARE = re.compile(r"[$€£¥%]")
_NUMBER_BEFORE = re.compile(r"(?:\d[.,\u2009\u202f]?|(?<![\w.,)\]])[-\u2212\u2013])\Z")
_NUMBER_AFTER = re.compile(r"[.,]?\d")


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Half-open: `text[start:end]`."""

    start: int
    end: int


def find_quote(quote: str, text: str) -> Span | None:
    """The first place where `quote` stands in `text`, or None.

    Tried in this order: exact; tolerant of form; tolerant of case too; as the parts around its
    ellipses, in order, with at most `MAX_SKIPPED_CHARS` left out (the span covers what was left
    out, so that an omitted `not` is seen). A long quote that breaks off inside a word is completed
    to the word's end. None for quotes that are not `is_verifiable`. Linear in both lengths.
    """
    return next(_places(quote, text), None)


def find_all_quotes(quote: str, text: str) -> list[Span]:
    """Every place of `quote` in reading order, without overlap, by the first rule of `find_quote`
    that finds any."""
    return list(_places(quote, text))


def is_verifiable(quote: str) -> bool:
    """Whether finding `quote` would prove anything.

    It needs a number or a word that is no stop word; and two words, or eight characters, or three
    digits, or a digit with a currency or percent sign.
    """
    found = words(quote)
    if all(word in STOP_WORDS for word in found):
        return False
    n_digits = sum(char.isdecimal() for char in quote)
    telling_number = n_digits >= 3 or (n_digits > 0 and bool(_CURRENCY_OR_SHARE.search(quote)))
    return len(found) >= 2 or len(found[0]) >= 8 or telling_number


def make_citation(quote: str, chunk: Chunk, document: Document) -> Citation | None:
    """The citation that `quote` proves to be, or None when it does not stand in the chunk.

    A quote with talk around it counts by the first of its `quoted_blocks` that stands there.
    Law: `document.text[c.start:c.end] == c.quote`.
    """
    found = (find_quote(candidate, chunk.text) for candidate in (quote, *quoted_blocks(quote)))
    span = next((span for span in found if span is not None), None)
    if span is None:
        return None
    return cite(document, chunk.start + span.start, chunk.start + span.end)


def quoted_blocks(citation: str) -> list[str]:
    """The quotes that stand alone in a citation with talk around them, as small models write it:
    `The text says:` and below it, in quotation marks and as a paragraph of its own, the quote."""
    paragraphs = [part.strip() for part in _PARAGRAPH_BREAK.split(citation)]
    if len(paragraphs) < 2:
        return []
    return [part for part in paragraphs if _is_quoted(part)]


def _is_quoted(paragraph: str) -> bool:
    return len(paragraph) > 2 and paragraph[0] in _MARKS and paragraph[-1] in _MARKS


def cite(document: Document, start: int, end: int) -> Citation:
    """The citation of `document.text[start:end]`."""
    return Citation(
        document_id=document.document_id,
        document_name=document.name,
        page=document.page_at(start),
        start=start,
        end=end,
        quote=document.text[start:end],
    )


def _places(quote: str, text: str) -> Iterator[Span]:
    """The places found by the first rule that finds any."""
    if not is_verifiable(quote):
        return
    for rule in (_exact, _any_form, _any_case, _in_parts):
        found = False
        for span in rule(quote, text):
            found = True
            yield span
        if found:
            return


def _exact(quote: str, text: str) -> Iterator[Span]:
    at = n_rejected = 0
    while n_rejected < MAX_REJECTED and (at := text.find(quote, at)) >= 0:
        span = _whole(at, at + len(quote), text, len(quote))
        if span is None:
            n_rejected += 1
            at += 1
        else:
            at = span.end
            yield span


def _any_form(quote: str, text: str) -> Iterator[Span]:
    folded = fold(text)
    yield from _in_folded(_core(fold(quote).text), folded.text, folded, text)


def _any_case(quote: str, text: str) -> Iterator[Span]:
    folded = fold(text)
    yield from _in_folded(_core(fold(quote).lowered), folded.lowered, folded, text)


def _in_folded(needle: str, hay: str, folded: Folded, text: str) -> Iterator[Span]:
    at = n_rejected = 0
    while needle and n_rejected < MAX_REJECTED and (at := hay.find(needle, at)) >= 0:
        span = _unfolded(at, at + len(needle), folded, text)
        if span is None:
            n_rejected += 1
            at += 1
        else:
            at = bisect.bisect_left(folded.origin, span.end)
            yield span


def _in_parts(quote: str, text: str) -> Iterator[Span]:
    """Places of a quote with ellipses. At least one part must be verifiable by itself."""
    pieces = _ELLIPSIS.split(quote)
    raw = [part for part in pieces if words(part)]
    if len(pieces) < 2 or not any(map(is_verifiable, raw)):
        return
    folded = fold(text)
    parts = [_core(fold(part).lowered) for part in raw]
    at = 0
    for _ in range(MAX_REJECTED):
        start = folded.lowered.find(parts[0], at)
        if start < 0:
            return
        span = _chain(parts, start, folded, text)
        at = start + 1
        if span is not None:
            at = bisect.bisect_left(folded.origin, span.end)
            yield span


def _chain(parts: list[str], start: int, folded: Folded, text: str) -> Span | None:
    """The span of `parts` one after the other, the first at `start`. Taking the leftmost place of
    each skips the least text, so that nothing within the limit is missed."""
    end = start + len(parts[0])
    first = last = _unfolded(start, end, folded, text)
    may_skip = MAX_SKIPPED_CHARS
    for part in parts[1:]:
        if first is None or last is None:
            return None
        begin, last = _next_place(part, end, may_skip, folded, text)
        may_skip -= begin - end
        end = begin + len(part)
    return first and last and Span(start=first.start, end=last.end)


def _next_place(
    part: str, at: int, may_skip: int, folded: Folded, text: str
) -> tuple[int, Span | None]:
    """First whole place of `part` that begins at most `may_skip` after `at`."""
    limit = at + may_skip + len(part)
    begin = at
    for _ in range(MAX_REJECTED):
        begin = folded.lowered.find(part, begin, limit)
        if begin < 0:
            break
        span = _unfolded(begin, begin + len(part), folded, text)
        if span is not None:
            return begin, span
        begin += 1
    return at, None


def _core(folded_quote: str) -> str:
    """The quote without outer marks, but with the sign or the point of a leading number."""
    core = folded_quote.lstrip(_OUTER)
    outer = folded_quote[: len(folded_quote) - len(core)]
    core = core.rstrip(_OUTER)
    if core[:1].isdecimal() and outer.endswith(("-", ".")) and not outer.endswith(".."):
        return outer[-1] + core
    return core


def _unfolded(start: int, end: int, folded: Folded, text: str) -> Span | None:
    """The original's span of a folded one; None when an edge cuts a character, word or number."""
    origin = folded.origin
    cuts_first = start > 0 and origin[start - 1] == origin[start]
    cuts_last = end < len(origin) and origin[end] == origin[end - 1]
    if cuts_first or cuts_last:
        return None
    return _whole(origin[start], origin[end - 1] + 1, text, end - start)


def _whole(start: int, end: int, text: str, n_quoted: int) -> Span | None:
    """The span when its edges cut no number and no word; a long one is completed to the end of its
    last word."""
    first, last = text[start], text[end - 1]
    before, after = text[max(0, start - 3) : start], text[end : end + 2]
    if first.isdecimal() and _NUMBER_BEFORE.search(before):
        return None
    if last.isdecimal() and _NUMBER_AFTER.match(after):
        return None
    if unicodedata.combining(after[:1] or " ") or (before and _same_word(before[-1], first)):
        return None
    if not (after and _same_word(last, after[0])):
        return Span(start=start, end=end)
    return Span(start=start, end=_word_end(end, text)) if n_quoted >= MIN_CUT_CHARS else None


def _same_word(char: str, following: str) -> bool:
    """Whether no word border lies between two neighbours. Scripts without case have no borders
    that can be seen; `dS` is one, because PDF texts lose spaces."""
    if not (_is_cased(char) and _is_cased(following)):
        return False
    return not (char.islower() and following.isupper())


def _is_cased(char: str) -> bool:
    return char.lower() != char.upper()


def _word_end(at: int, text: str) -> int:
    while at < len(text) and _same_word(text[at - 1], text[at]):
        at += 1
    return at
