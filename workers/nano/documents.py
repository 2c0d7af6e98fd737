"""Real documents with located answers, and how training chunks are cut from them."""

from __future__ import annotations

import bisect
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.nano.examples import MAX_QUOTE_WORDS, Asked, sentence_spans

Span = tuple[int, int]
CLAUSE_QUOTE_WORDS = 10
WORDS_BEFORE_VALUE = 6
LONG_VALUE_WORDS = 14
MIN_SHARE_INSIDE = 0.6
MAX_PIECE_CHARS = 900


class TextEncoder(Protocol):
    """Anything that splits text into token ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """One place that answers a question; half-open character spans in the document."""

    value: Span
    quote: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentQuestion:
    """A question about a document in several wordings (the first is the data set's own)."""

    key: str
    wordings: tuple[str, ...]
    places: tuple[Located, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text, its borders (where a chunk may start or end) and the questions about it.

    token_starts[i] is the number of tokens before borders[i].
    """

    doc_id: str
    text: str
    borders: tuple[int, ...]
    token_starts: tuple[int, ...]
    questions: tuple[DocumentQuestion, ...]


def piece_borders(text: str) -> list[int]:
    """Starts of sentences, lines and (in long ones) clauses; then the text's end."""
    borders: list[int] = []
    for start, end in sentence_spans(text):
        borders.append(start)
        while end - start > MAX_PIECE_CHARS:
            start = text.rfind(" ", start, start + MAX_PIECE_CHARS) + 1 or start + MAX_PIECE_CHARS
            borders.append(start)
    return [*borders, len(text)]


def make_document(
    doc_id: str, text: str, questions: Sequence[DocumentQuestion], tokenizer: TextEncoder
) -> Document:
    """Compute borders and token counts."""
    borders = piece_borders(text)
    starts, total = [0], 0
    for a, b in itertools.pairwise(borders):
        total += len(tokenizer.encode(text[a:b]))
        starts.append(total)
    return Document(
        doc_id=doc_id,
        text=text,
        borders=tuple(borders),
        token_starts=tuple(starts),
        questions=tuple(questions),
    )


def chunk_spans(document: Document, max_tokens: int) -> list[Span]:
    """The whole document, cut at borders into chunks of at most about `max_tokens`."""
    spans, first = [], 0
    n_pieces = len(document.borders) - 1
    while first < n_pieces:
        last = _last_piece(document, first, max_tokens)
        spans.append((document.borders[first], document.borders[last]))
        first = last
    return spans


def _last_piece(document: Document, first: int, max_tokens: int) -> int:
    """Index after the last piece that still fits when starting at piece `first`."""
    limit = document.token_starts[first] + max_tokens
    return max(first + 1, bisect.bisect_right(document.token_starts, limit) - 1)


def random_window(document: Document, rng: random.Random, max_tokens: int) -> Span:
    """A chunk at a random place."""
    first = rng.randrange(len(document.borders) - 1)
    return document.borders[first], document.borders[_last_piece(document, first, max_tokens)]


def window_around(document: Document, place: Span, rng: random.Random, max_tokens: int) -> Span:
    """A chunk that holds `place` somewhere in it, at random."""
    first = bisect.bisect_right(document.borders, place[0]) - 1
    last = bisect.bisect_left(document.borders, place[1])
    starts = document.token_starts
    spare = max(0, max_tokens - (starts[last] - starts[first]))
    start = bisect.bisect_left(starts, starts[first] - rng.random() * spare)
    start = min(start, first)
    end = max(last, _last_piece(document, start, max_tokens))
    return document.borders[start], document.borders[min(end, len(document.borders) - 1)]


def overlap_share(span: Span, window: Span) -> float:
    """Which share of `span` lies in `window`."""
    inside = min(span[1], window[1]) - max(span[0], window[0])
    return max(0, inside) / max(1, span[1] - span[0])


def clip(span: Span, window: Span) -> Span:
    """`span` cut to the window and counted from its start."""
    return max(span[0], window[0]) - window[0], min(span[1], window[1]) - window[0]


def ask_in_window(question: DocumentQuestion, wording: str, window: Span) -> Asked | None:
    """The question as the chunk answers it; None when only a sliver of an answer is inside."""
    shares = [overlap_share(p.value, window) for p in question.places]
    for place, share in zip(question.places, shares, strict=True):
        if share >= MIN_SHARE_INSIDE:
            quote = clip(place.quote, window)
            value = clip(place.value, window)
            return Asked(question=wording, value_span=value, quote_span=quote, clause=question.key)
    return None if any(shares) else Asked(question=wording, clause=question.key)


def fitting_quote(text: str, value: Span) -> Span:
    """What to quote for a value: its sentence, or for long values and sentences a piece of it."""
    if len(text[slice(*value)].split()) > LONG_VALUE_WORDS:
        return value[0], _after_words(text, value[0], CLAUSE_QUOTE_WORDS, value[1])
    return quote_within(text, value, _sentence_around(text, value))


def quote_within(text: str, value: Span, bounds: Span) -> Span:
    """From the start of `bounds`, or if the value stands late in it from a few words before it."""
    start, end = bounds
    if len(text[start : value[1]].split()) >= MAX_QUOTE_WORDS:
        start = _before_words(text, value[0], WORDS_BEFORE_VALUE, start)
    return start, _after_words(text, start, MAX_QUOTE_WORDS, end)


def _sentence_around(text: str, value: Span) -> Span:
    low, high = max(0, value[0] - 1500), min(len(text), value[1] + 1500)
    touching = [
        (low + a, low + b)
        for a, b in sentence_spans(text[low:high])
        if low + a < value[1] and low + b > value[0]
    ]
    if not touching:
        return value
    return min(value[0], touching[0][0]), max(value[1], touching[-1][1])


def _after_words(text: str, start: int, n_words: int, limit: int) -> int:
    """End of the n-th word from `start`, not past `limit`."""
    ends = [m.end() for m in re.finditer(r"\S+", text[start:limit])]
    return start + ends[min(n_words, len(ends)) - 1] if ends else limit


def _before_words(text: str, end: int, n_words: int, limit: int) -> int:
    """Start of the n-th last word before `end`, not before `limit`."""
    starts = [m.start() for m in re.finditer(r"\S+", text[limit:end])]
    return limit + starts[-n_words] if len(starts) >= n_words else limit


def collapse_whitespace(text: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """Every run of whitespace becomes one space; `spans` move along."""
    mapping, out, previous_space = [], 0, False
    for character in text:
        mapping.append(out - 1 if character.isspace() and previous_space else out)
        if not (character.isspace() and previous_space):
            out += 1
        previous_space = character.isspace()
    mapping.append(out)
    collapsed = re.sub(r"\s+", " ", text)
    return collapsed, [(mapping[a], mapping[b]) for a, b in spans]
