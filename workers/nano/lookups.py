"""Questions made from any English text: blanks to fill, terms to define, sentences to find."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from workers.nano.documents import Span, fitting_quote
from workers.nano.examples import Asked, sentence_spans

_VALUE = re.compile(
    r"\$?\d[\d,.]*\d(?:%| percent| days| months| years| million)?"
    r"|[A-Z][\w&'-]+(?: (?:of |and )?[A-Z][\w&'-]+)+|(?<=[a-z] )[A-Z][a-z]{3,}"
)
_DEFINED = re.compile(
    r"[\"“]([A-Z][\w /&-]{1,40})[\"”]\s+(?:means|shall mean|refers to|has the meaning)\s"
)
_HEADING = re.compile(r"(?:^|\s)(\d{1,2}\.\d{1,2})\.?\s+([A-Z][A-Za-z]+(?: [A-Za-z]+){0,5})\.\s")
BLANK_WORDINGS = (
    'Fill in the blank: "{}"',
    'What is missing here: "{}"?',
    "Complete: {}",
    "Which words stand in place of the blank in: {}",
)
TERM_WORDINGS = (
    'What does "{}" mean?',
    'How is "{}" defined?',
    "What is the definition of {}?",
    "Define {}.",
    'What is meant by the term "{}"?',
)
SENTENCE_WORDINGS = (
    'Which sentence mentions "{}"?',
    "What does the text say about {}?",
    'Quote the sentence with "{}".',
)
HEADING_WORDINGS = ("What is the heading of section {}?", "What is section {} called?")
Found = tuple[str, Span, Span]


def _blank(text: str, rng: random.Random) -> Found | None:
    """A value in a sentence, taken out; a few words on both sides are shown."""
    spans = [s for s in sentence_spans(text) if 8 <= len(text[slice(*s)].split()) <= 70]
    if not spans:
        return None
    start, end = rng.choice(spans)
    values = [(start + m.start(), start + m.end()) for m in _VALUE.finditer(text[start:end])]
    if not values or rng.random() < 0.3:
        words = [
            (start + m.start(), start + m.end()) for m in re.finditer(r"\w{4,}", text[start:end])
        ]
        values = words or values
    if not values:
        return None
    value = rng.choice(values)
    before = text[start : value[0]].split()[-rng.randint(3, 10) :]
    after = text[value[1] : end].split()[: rng.randint(2, 8)]
    if len(before) + len(after) < 5:
        return None
    shown = " ".join([*before, "____", *after])
    return rng.choice(BLANK_WORDINGS).format(shown), value, fitting_quote(text, value)


def _term(text: str, rng: random.Random) -> Found | None:
    """A defined term; the definition is the rest of its sentence."""
    matches = list(_DEFINED.finditer(text))
    if not matches:
        return None
    match = rng.choice(matches)
    ends = [b for a, b in sentence_spans(text) if a <= match.start() < b]
    end = ends[0] if ends and ends[0] > match.end() else len(text)
    value = (match.end(), end)
    question = rng.choice(TERM_WORDINGS).format(match.group(1))
    return (
        (question, value, fitting_quote(text, (match.start(), end)))
        if value[1] - value[0] > 8
        else None
    )


def _sentence(text: str, rng: random.Random) -> Found | None:
    """A sentence, found by a piece of it that stands nowhere else in the chunk."""
    spans = [s for s in sentence_spans(text) if 6 <= len(text[slice(*s)].split()) <= 60]
    if not spans:
        return None
    start, end = rng.choice(spans)
    words = list(re.finditer(r"[A-Za-z]{3,}(?: [A-Za-z]+){1,3}", text[start:end]))
    if not words:
        return None
    piece = rng.choice(words).group()
    if text.lower().count(piece.lower()) != 1:
        return None
    return (
        rng.choice(SENTENCE_WORDINGS).format(piece),
        (start, end),
        fitting_quote(text, (start, end)),
    )


def _heading(text: str, rng: random.Random) -> Found | None:
    """A numbered section's heading."""
    matches = list(_HEADING.finditer(text))
    if not matches:
        return None
    match = rng.choice(matches)
    value = match.span(2)
    return rng.choice(HEADING_WORDINGS).format(match.group(1)), value, fitting_quote(text, value)


_MAKERS: tuple[Callable[[str, random.Random], Found | None], ...] = (
    _blank,
    _blank,
    _term,
    _term,
    _sentence,
    _heading,
)


def lookup_questions(text: str, rng: random.Random, n: int) -> list[Asked]:
    """Up to `n` answerable questions with different wordings."""
    asked: dict[str, Asked] = {}
    for _ in range(3 * n):
        found = rng.choice(_MAKERS)(text, rng)
        if found and found[0] not in asked:
            question, value, quote = found
            asked[question] = Asked(question=question, value_span=value, quote_span=quote)
        if len(asked) == n:
            break
    return list(asked.values())
