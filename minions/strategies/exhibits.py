"""What the supervisor is shown of the workers' findings: checked answers and quotes in a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minions.cloud.tokens import count_tokens
from minions.cloud_prompt import SourceSpan
from minions.documents.model import Document
from minions.evidence import answer_in_quote
from minions.evidence.model import Citation, Evidence
from minions.evidence.relevance import rank_claims
from minions.evidence.selection import select_quotes
from minions.evidence.words import STOP_WORDS, TURNING_WORDS, words
from minions.reading import Reading
from minions.strategies.session import Session
from minions.strategies.supervisor import SupervisorPrompt, attribute, guard

MAX_ANSWERS = 5
"""Different answers of the workers shown per task."""
MAX_ANSWER_CHARS = 400
"""A longer answer is left out: its quote says the same in the document's words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """Answers and quotes as they stand in a request."""

    answers: str
    sources: str
    spans: tuple[SourceSpan, ...]
    """Of the quotes, for the egress record and for checking what the supervisor cites."""
    n_tokens: int


def exhibit(
    prompt: SupervisorPrompt,
    task: str,
    evidence: Evidence,
    session: Session,
    reading: Reading,
    *,
    budget_tokens: int,
    shown: Sequence[SourceSpan] = (),
) -> Exhibit:
    """The likeliest of `evidence` for `task` within the budget, without what was `shown` before.

    Only what was verified is shown: an answer without a quote that stands in its chunk is noise
    more often than not, and so is left out. So is an answer with a word that stands neither in a
    quote that is shown nor in the task: it might carry more of the document than the rung allows,
    past the egress record."""
    told = _answers(prompt, evidence)
    left = max(0, budget_tokens - count_tokens("\n".join(told.values())))
    claims = [claim for group in evidence.groups for claim in group.claims if claim.citation]
    ranked = rank_claims(claims, reading.chunks, task, session.relevance) if claims else []
    quotes = [q.citation for q in select_quotes(ranked, session.documents, left, count_tokens)]
    fresh = [quote for quote in quotes if not _stands_in(quote, shown)]
    sources = "\n".join(
        _source(prompt, number, quote, session.documents)
        for number, quote in enumerate(fresh, len(shown) + 1)
    )
    seen = "\n".join([task, *(quote.quote for quote in quotes), *_texts(shown, session.documents)])
    kept = [line for answer, line in told.items() if says_no_more(answer, seen)]
    answers = "\n".join(kept) if quotes else prompt.fill("nothing")
    return Exhibit(
        answers=answers,
        sources=sources,
        spans=tuple(SourceSpan(document_id=q.document_id, start=q.start, end=q.end) for q in fresh),
        n_tokens=count_tokens(answers) + count_tokens(sources),
    )


def _stands_in(quote: Citation, spans: Sequence[SourceSpan]) -> bool:
    return any(
        span.document_id == quote.document_id and span.start <= quote.start < quote.end <= span.end
        for span in spans
    )


def says_no_more(answer: str, seen: str) -> bool:
    """Whether every word of `answer` stands in `seen`, or is one that any text has; numbers count
    by their value."""
    new = set(words(answer)) - set(words(seen)) - STOP_WORDS - TURNING_WORDS
    return all(map(str.isdecimal, new)) and (not new or answer_in_quote(answer, seen))


def _texts(spans: Sequence[SourceSpan], documents: Mapping[str, Document]) -> list[str]:
    return [documents[span.document_id].text[span.start : span.end] for span in spans]


def _answers(prompt: SupervisorPrompt, evidence: Evidence) -> dict[str, str]:
    """The candidates, each with its line in the request."""
    told = [group.answer for group in evidence.groups if group.citations]
    short = [answer for answer in told if len(answer) <= MAX_ANSWER_CHARS]
    return {a: prompt.fill("answer", answer=guard(a)) for a in short[:MAX_ANSWERS]}


def _source(
    prompt: SupervisorPrompt, number: int, quote: Citation, documents: Mapping[str, Document]
) -> str:
    document = documents[quote.document_id]
    last = document.page_at(max(quote.start, quote.end - 1))
    return prompt.fill(
        "source",
        id=str(number),
        document=attribute(document.name),
        pages=str(quote.page) if last == quote.page else f"{quote.page}-{last}",
        text=guard(quote.quote),
    )
