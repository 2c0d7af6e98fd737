"""What the reader is taught with: a chunk of text and questions about it, with their answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MAX_VALUE_WORDS = 40
MAX_QUOTE_WORDS = 16
FORCED_START = '{"answer":'


FactKey = tuple[str, int, str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """A fact in a made-up chunk: what it is about and where its parts stand (character spans).

    piece: the statement; it holds the value, and (but for lists) the entity's name.
    """

    key: FactKey
    entity: tuple[int, int]
    piece: tuple[int, int]
    value: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question about a chunk. Spans are half-open character offsets into the chunk.

    value_span: where the answer stands; None when the chunk does not answer.
    quote_span: the sentence or piece that supports it; contains or overlaps the value.
    clause: the clause category that is asked for, in contracts. about: the fact that is asked for
    and where the question names its entity, in made-up documents.
    """

    question: str
    value_span: tuple[int, int] | None = None
    quote_span: tuple[int, int] | None = None
    clause: str | None = None
    about: tuple[FactKey, tuple[int, int]] | None = None

    @property
    def answerable(self) -> bool:
        """Whether the chunk answers."""
        return self.value_span is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A chunk with several questions; `source` names where it came from (for figures).

    clauses: every (category, character span) in the chunk, asked for or not; None where the chunk
    is no contract and nothing is known. facts: everything that a made-up chunk states.
    """

    text: str
    asked: tuple[Asked, ...]
    source: str
    clauses: tuple[tuple[str, tuple[int, int]], ...] | None = None
    facts: tuple[Stated, ...] = ()

    def value(self, asked: Asked) -> str | None:
        """The answer as nano should write it."""
        if asked.value_span is None:
            return None
        return first_words(self.text[slice(*asked.value_span)], MAX_VALUE_WORDS)

    def quote(self, asked: Asked) -> str | None:
        """The citation as nano should write it."""
        if asked.quote_span is None:
            return None
        return first_words(self.text[slice(*asked.quote_span)], MAX_QUOTE_WORDS)


def first_words(text: str, limit: int) -> str:
    """At most `limit` words of `text`, whitespace collapsed to single spaces."""
    return " ".join(text.split()[:limit])


def answer_text(value: str | None, quote: str | None) -> str:
    """What nano writes after the forced `{"answer":`, without the closing `<|return|>`."""
    parts = (json.dumps(value, ensure_ascii=False), json.dumps(quote, ensure_ascii=False))
    return f' {parts[0]}, "citation": {parts[1]}}}'


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Rough sentence and line spans, half-open, without surrounding whitespace."""
    spans, start = [], 0
    for match in re.finditer(r"(?<=[.;:!?])[\"”)]*\s+(?=[A-Z(“\"0-9])|\n\s*\n", text):
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    trimmed = (trim(text, span) for span in spans)
    return [span for span in trimmed if span[0] < span[1]]


def trim(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """`span` without whitespace at its ends."""
    piece = text[slice(*span)]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def widen_to_sentences(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The smallest run of whole sentences around `span`."""
    touching = [s for s in sentence_spans(text) if s[0] < span[1] and s[1] > span[0]]
    if not touching:
        return span
    return min(span[0], touching[0][0]), max(span[1], touching[-1][1])
