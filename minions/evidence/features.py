"""What is known about each worker's answer when all workers have finished: numbers for a score.

Only of what is there at that moment: the claims with their verified quotes, the chunks that were
read, the question and the tasks. Pure and without numpy.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from minions.documents.model import Chunk
from minions.evidence.lexicon import Lexicon, telling_terms
from minions.evidence.model import Claim
from minions.evidence.values import values_of
from minions.evidence.words import words

_YEAR = re.compile(r"(?:19|20)\d\d")
_DECLINES = re.compile(
    r"\bnot (?:\w+ly )?(?:found|mentioned|provided?|available|contain|include|disclosed?|stated?"
    r"|specif\w+|possible|appear|given|enough|applicable)\b"
    r"|\b(?:do|does)(?: not|n['’]t)\b|\bunfortunately\b|\b(?:unable|insufficient|unknown|n/a)\b"
    r"|\b(?:cannot|can['’]t|could not|couldn['’]t)\b"
    r"|\bno (?:\w+ )?(?:information|mention|data|evidence|indication)\b",
    re.IGNORECASE,
)
"""What workers write instead of abstaining. Documents write it too, which is why it only weighs."""
_ASKS_FOR_FIGURES = re.compile(
    r"\b(?:how (?:much|many|large|big|high)|amounts?|totals?|ratios?|percent(?:age)?|rates?|average"
    r"|numbers?|sum|margins?|growth|turnover|revenues?|sales|income|costs?|expenses?|prices?|cash"
    r"|capital|assets?|liabilities|inventor(?:y|ies)|debts?|dividends?|profits?|days|usd|calculate"
    r"|millions?|billions?|thousands?)\b|[$€£¥%]",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What is known about one claim when all workers have finished. Shares are 0..1."""

    question_rank: float
    """log(1 + rank) of its chunk among all chunks, by BM25 for the question."""
    question_standing: float
    """BM25 for the question, in deviations above the mean chunk."""
    task_rank: float
    """The same two for the task that was put to the worker."""
    task_standing: float
    task_phrases: float
    """Share of the task's pairs of words that stand in the chunk, by idf."""
    task_words: float
    """Share of the task's words that stand in the chunk, by idf."""
    task_in_quote: float
    """Share of the task's words that stand in the verified quote."""
    task_in_answer: float
    answer_in_chunk: float
    """Share of the answer's words that stand in the chunk."""
    verified: float
    """1 when the quote was found in the chunk."""
    answer_in_quote: float
    """1 when the answer's own words or number stand in the verified quote."""
    has_number: float
    """1 when the answer holds a number that is no year, or a date."""
    numbers_in_chunk: float
    """Share of the answer's numbers and dates that stand in the chunk."""
    declines: float
    """1 when the answer says that the text does not tell."""
    years_in_chunk: float
    """Share of the years named by the task (or else the question) that stand in the chunk."""
    years_in_quote: float
    agreement: float
    """log(1 + other chunks in which the same task got one of the answer's numbers or dates)."""
    task_answered: float
    """log of the share of the chunks in which the task was answered: 0 is everywhere."""
    chunk_tasks: float
    """Share of the run's answered tasks that were answered in this chunk."""
    chunk_claims: float
    """log of the number of claims from this chunk."""
    chunk_firm_claims: float
    """log(1 + those that do not decline)."""
    figures: float
    """Numbers per word of the chunk: high in tables."""
    figures_wanted: float
    """`figures` when question or task ask for figures, else 0."""
    position: float
    """Where in its document the chunk stands: 0 is the beginning."""
    margin: float
    """1 - exp(-answer-token margin in logits); 0 when the engine gives none."""


NAMES: tuple[str, ...] = tuple(Features.__dataclass_fields__)
"""The features in the order of every profile."""


def features_of(
    claims: Sequence[Claim],
    chunks: Mapping[str, Chunk],
    question: str,
    tasks: Mapping[str, str] | None = None,
    lexicon: Lexicon | None = None,
) -> list[Features]:
    """One `Features` per claim, in order. Arguments as of `rank_claims`; a `lexicon` of the same
    chunks may be given when it is there already. Raises ValueError for an unknown chunk."""
    unread = next((claim for claim in claims if claim.chunk_id not in chunks), None)
    if unread is not None:
        raise ValueError(
            f"Claim {unread.job_id} read chunk {unread.chunk_id}, which is not among the "
            f"{len(chunks)} chunks given: pass all that were read."
        )
    lexicon = lexicon or Lexicon({key: chunk.text for key, chunk in chunks.items()})
    known = tasks or {}
    asked = [known.get(claim.job_id, question) for claim in claims]
    run = _Run(claims, asked, chunks, question, lexicon)
    return [run.features(claim, task) for claim, task in zip(claims, asked, strict=True)]


class _Run:
    """All claims of a question together: what one says depends on what the others say."""

    def __init__(
        self,
        claims: Sequence[Claim],
        asked: Sequence[str],
        chunks: Mapping[str, Chunk],
        question: str,
        lexicon: Lexicon,
    ) -> None:
        self._question = question
        self._lexicon = lexicon
        self._chunks = {claim.chunk_id: _ReadChunk(chunks[claim.chunk_id]) for claim in claims}
        self._n_read = len(chunks)
        self._n_by_document = Counter(chunk.document_id for chunk in chunks.values())
        self._n_claims = Counter(claim.chunk_id for claim in claims)
        self._n_firm = Counter(c.chunk_id for c in claims if not declines(c.answer))
        self._answering: defaultdict[str, set[str]] = defaultdict(set)
        self._answered: defaultdict[str, set[str]] = defaultdict(set)
        self._saying: defaultdict[tuple[str, Hashable], set[str]] = defaultdict(set)
        for claim, task in zip(claims, asked, strict=True):
            self._answering[task].add(claim.chunk_id)
            self._answered[claim.chunk_id].add(task)
            for value in telling_values(claim.answer):
                self._saying[task, value].add(claim.chunk_id)

    def features(self, claim: Claim, task: str) -> Features:
        chunk = self._chunks[claim.chunk_id]
        for_question = self._lexicon.fits(self._question)[claim.chunk_id]
        for_task = self._lexicon.fits(task)[claim.chunk_id]
        wants_figures = asks_for_figures(self._question) or asks_for_figures(task)
        quote = claim.citation.quote if claim.citation else ""
        years = frozenset(_YEAR.findall(task) or _YEAR.findall(self._question))
        values = telling_values(claim.answer)
        wanted = telling_terms(task)
        said = telling_terms(claim.answer)
        return Features(
            question_rank=math.log1p(for_question.rank),
            question_standing=for_question.standing,
            task_rank=math.log1p(for_task.rank),
            task_standing=for_task.standing,
            task_phrases=for_task.phrase_share,
            task_words=for_task.word_share,
            task_in_quote=self._lexicon.share(wanted, telling_terms(quote)),
            task_in_answer=self._lexicon.share(wanted, said),
            answer_in_chunk=self._lexicon.share_in_chunk(said, claim.chunk_id),
            verified=float(claim.citation is not None),
            answer_in_quote=float(claim.answer_in_quote),
            has_number=float(bool(values)),
            numbers_in_chunk=_share(values, chunk.values),
            declines=float(declines(claim.answer)),
            years_in_chunk=_share(years, chunk.years),
            years_in_quote=_share(years, frozenset(_YEAR.findall(quote))),
            agreement=math.log1p(self._n_agreeing(claim, task, values)),
            task_answered=math.log(len(self._answering[task]) / self._n_read),
            chunk_tasks=len(self._answered[claim.chunk_id]) / len(self._answering),
            chunk_claims=math.log(self._n_claims[claim.chunk_id]),
            chunk_firm_claims=math.log1p(self._n_firm[claim.chunk_id]),
            figures=chunk.figures,
            figures_wanted=chunk.figures if wants_figures else 0.0,
            position=chunk.index / self._n_by_document[chunk.document_id],
            margin=1 - math.exp(-max(0.0, claim.margin or 0.0)),
        )

    def _n_agreeing(self, claim: Claim, task: str, values: Iterable[Hashable]) -> int:
        """Other chunks whose answer to the same task shares a value; the most for any value."""
        others = (self._saying[task, value] - {claim.chunk_id} for value in values)
        return max(map(len, others), default=0)


class _ReadChunk:
    """What a chunk's text holds, worked out once for all its claims."""

    def __init__(self, chunk: Chunk) -> None:
        self.index = chunk.index
        self.document_id = chunk.document_id
        self._text = chunk.text

    @cached_property
    def values(self) -> frozenset[Hashable]:
        return telling_values(self._text)

    @cached_property
    def years(self) -> frozenset[str]:
        return frozenset(_YEAR.findall(self._text))

    @cached_property
    def figures(self) -> float:
        quantities = values_of(self._text).quantities
        n_figures = sum(not quantity.looks_like_year for quantity in quantities)
        return n_figures / max(1, len(words(self._text)))


def declines(answer: str) -> bool:
    """Whether an answer says that the text does not tell, instead of abstaining."""
    return bool(_DECLINES.search(answer))


def asks_for_figures(task: str) -> bool:
    """Whether a question or task is after an amount, a share or a count."""
    return bool(_ASKS_FOR_FIGURES.search(task))


def telling_values(text: str) -> frozenset[Hashable]:
    """Numbers without sign, unit and scale, and dates, such that equal ones compare equal. Years
    alone tell nothing: they stand everywhere."""
    values = values_of(text)
    numbers = {abs(q.value).normalize() for q in values.quantities if not q.looks_like_year}
    dates = {(date.year, date.month, date.day) for date in values.dates}
    return frozenset[Hashable](numbers | dates)


def _share(wanted: frozenset[Hashable], there: frozenset[Hashable]) -> float:
    return len(wanted & there) / len(wanted) if wanted else 0.0
