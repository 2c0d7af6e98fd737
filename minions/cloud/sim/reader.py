"""A deterministic lexical reader: the sentence of the sources that fits a question best.

BM25 over sentences (Robertson and Zaragoza, 2009) with the words around each sentence as a weak
field, a bonus for the kind of answer that is asked for, and abstention when too little of the
question is met. It stands in for a stronger model where none can be called.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from minions.cloud.sim.sentences import Sentence, sentences, stems
from minions.cloud.sim.spans import AnswerType, answer_type

_STOP_WORDS = frozenset(
    stems(
        "a an and any are as at be been by can could did do does for from had has have how if in "
        "include included includes including into is it its may much many not of on one or other "
        "shall should some such than that the their them there these they this those to under upon "
        "was were what when where which who whom whose why will with would you your whether either "
        "both after before during clause contract contain agreement party parties counterparty "
        "document please give tell question answer category describe"
    )
)
_KIN = tuple(
    frozenset(stems(words))
    for words in (
        "expire expiration term terminate initial",
        "renewal renew extend extension automatically successive",
        "govern construed interpretation interpret",
        "effective commence commencement date dated",
        "assigned assign assignment transfer",
        "restriction restricted prohibit restrict refrain",
        "compete competitive competing competition competitor",
        "cap limitation exceed limit maximum aggregate",
        "liability liable damages",
        "minimum least",
        "audit inspect examine inspection",
        "duration period term",
        "cause convenience reason",
        "revenue royalty profit percent commission",
        "employee personnel hire solicit",
        "price cost fee charge",
        "capex capital expenditure purchases",
        "revenue sales",
        "profit income earnings",
    )
)
"""Words that stand for each other often enough to count a little."""
_KIN_WEIGHT = 0.4
_K1 = 1.2
_B = 0.5
_CONTEXT_WEIGHT = 0.25
_TYPE_BONUS = 1.6
_BEGINNING_SCORE = 12.0
_BEGINNING_LINES = 8
_BACKGROUND_LINES = 200
_LEAST_STRENGTH = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """An answer and the sentence that it stands in."""

    answer: str
    citation: str
    """Verbatim in a source."""
    strength: float
    """How well the sentence meets the question; about 1 by chance, 2 and more for a fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A sentence with those of its stems that the question cares about."""

    sentence: Sentence
    position: int
    """Index among the sentences of its source."""
    n_words: int
    counts: Counter[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Query:
    """The question's stems, weighted by how rare they are in the lines at hand."""

    own: frozenset[str]
    weights: Mapping[str, float]
    """Stem -> weight, those of related words included."""
    mean_words: float

    def score(self, line: _Line) -> float:
        """BM25 of one line."""
        length = _K1 * (1 - _B + _B * line.n_words / self.mean_words)
        return sum(
            self.weights[term] * n * (_K1 + 1) / (n + length) for term, n in line.counts.items()
        )

    def strength(self, score: float) -> float:
        """A score made comparable between short and long questions: those say more, and no line
        meets all of it."""
        return score / math.sqrt(max(1.0, sum(self.weights[term] for term in self.own)))


def find(question: str, sources: Sequence[str]) -> Finding | None:
    """The best answer in `sources`; None when they don't seem to hold one."""
    own = frozenset(term for term in stems(question) if term not in _STOP_WORDS)
    kin = _relatives(own)
    lines = [line for source in sources for line in _lines(source, own | kin)]
    kind = answer_type(question)
    if not lines or not (own or kind):
        return None
    query = _weighted(own, kin, lines)
    scores = _scores(query, lines, kind)
    best = max(range(len(lines)), key=scores.__getitem__)
    return _finding(lines[best], query.strength(scores[best]), kind)


def _finding(line: _Line, strength: float, kind: AnswerType | None) -> Finding | None:
    text = line.sentence.text
    span = kind.extract(text) if kind else None
    if strength < _LEAST_STRENGTH:
        return None
    return Finding(answer=span or text, citation=text, strength=strength)


def _lines(source: str, terms: frozenset[str]) -> Iterator[_Line]:
    for position, sentence in enumerate(sentences(source)):
        words = stems(sentence.text)
        counts = Counter(word for word in words if word in terms)
        yield _Line(sentence=sentence, position=position, n_words=len(words), counts=counts)


def _relatives(own: frozenset[str]) -> frozenset[str]:
    return frozenset().union(*(kin for kin in _KIN if own & kin)) - own


def _weighted(own: frozenset[str], kin: frozenset[str], lines: Sequence[_Line]) -> _Query:
    n_with = Counter(term for line in lines for term in line.counts)
    n_lines = len(lines) + _BACKGROUND_LINES
    rarity = {
        term: math.log(1 + (n_lines - n_with[term] + 0.5) / (n_with[term] + 0.5))
        for term in own | kin
    }
    weights = {term: rarity[term] * (1 if term in own else _KIN_WEIGHT) for term in rarity}
    mean_words = sum(line.n_words for line in lines) / len(lines)
    return _Query(own=own, weights=weights, mean_words=max(1.0, mean_words))


def _scores(query: _Query, lines: Sequence[_Line], kind: AnswerType | None) -> list[float]:
    """Each line's own score, helped by its neighbours and by looking like an answer."""
    alone = [query.score(line) for line in lines]
    around = [0.0, *alone, 0.0]
    return [
        _judged(score + _CONTEXT_WEIGHT * max(around[i], around[i + 2]), line, kind)
        for i, (score, line) in enumerate(zip(alone, lines, strict=True))
    ]


def _judged(score: float, line: _Line, kind: AnswerType | None) -> float:
    """The score with the bonus for looking like an answer; titles and parties stand at the start,
    in words that the question does not use."""
    if kind is None or not kind.looks.search(line.sentence.text):
        return score
    if kind.begins_document and line.position < _BEGINNING_LINES:
        return score + _BEGINNING_SCORE - line.position
    return score * _TYPE_BONUS
