"""Ranked claims made into what the cloud sees: the document's own words, within a token budget.

An item is a span of the source: the verified quote in its sentence or rows, or the anchor of a
claim whose quote was not found. The worker's own wording is left out: it costs as much as a quote,
and the cloud could not check it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from minions.documents.model import Document
from minions.evidence.anchors import Anchors
from minions.evidence.model import Citation, Claim
from minions.evidence.sentences import NEAR_DUPLICATE, widen
from minions.evidence.verify import cite
from minions.evidence.words import words

MAX_QUOTE_CHARS = 900
"""A longer quote is cut after a word: workers sometimes copy half a page."""
REPEAT_DISCOUNT = 0.5
"""Each further quote from a chunk ranks as if half as probable, so that chunks take turns."""
MAX_CANDIDATES = 500
"""Claims looked at, best first: several times what any budget of the evidence rung holds."""
LEAST_SHARE = 0.2
"""Of the likeliest claim's probability: what is less likely is not worth its tokens."""
SEPARATOR = "\n\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectedQuote:
    """A claim's place in the source, chosen to be sent."""

    claim: Claim
    citation: Citation
    """What is sent; always the document's own words."""
    probability: float
    """Of the claim, by the relevance profile."""
    anchored: bool
    """True when the worker's quote was not found and this is the likeliest place instead."""


def select_quotes(
    ranked: Sequence[tuple[Claim, float]],
    documents: Mapping[str, Document],
    budget_tokens: int,
    count: Callable[[str], int],
    anchors: Anchors | None = None,
) -> list[SelectedQuote]:
    """The likeliest quotes, best first, with at most `budget_tokens` by `count`, separators
    included.

    `ranked` comes from `rank_claims`. Each quote is widened to its sentence where that fits. No two
    overlap or say nearly the same; one that does not fit is passed over for the next. Without
    `anchors`, claims whose quote was not found are left out.
    """
    candidates = _placed(ranked[:MAX_CANDIDATES], documents, anchors)
    packed: list[SelectedQuote] = []
    left = budget_tokens
    for quote in _taking_turns(_without_repeats(candidates)):
        taken = [other.citation for other in packed]
        for form in (widen(quote.citation, documents[quote.citation.document_id]), quote.citation):
            n_tokens = count(form.quote + SEPARATOR)
            if n_tokens <= left and not any(_overlap(form, other) for other in taken):
                packed.append(replace(quote, citation=form))
                left -= n_tokens
                break
    return packed


def likely(ranked: Sequence[tuple[Claim, float]]) -> list[tuple[Claim, float]]:
    """Those of `ranked`, best first, that are likely enough beside the best to be sent."""
    return [(claim, p) for claim, p in ranked if p >= LEAST_SHARE * ranked[0][1]]


def _placed(
    ranked: Iterable[tuple[Claim, float]],
    documents: Mapping[str, Document],
    anchors: Anchors | None,
) -> Iterator[SelectedQuote]:
    for claim, probability in ranked:
        citation = claim.citation
        if citation is None and anchors is not None:
            citation = anchors.find(claim)
        if citation is None:
            continue
        yield SelectedQuote(
            claim=claim,
            citation=_cut(citation, documents[citation.document_id]),
            probability=probability,
            anchored=claim.citation is None,
        )


def _cut(citation: Citation, document: Document) -> Citation:
    if len(citation.quote) <= MAX_QUOTE_CHARS:
        return citation
    whole_words = citation.quote[:MAX_QUOTE_CHARS].rsplit(maxsplit=1)[0]
    return cite(document, citation.start, citation.start + len(whole_words))


def _without_repeats(quotes: Iterable[SelectedQuote]) -> Iterator[SelectedQuote]:
    """The first of all quotes that use nearly the same words (Jaccard)."""
    said: list[frozenset[str]] = []
    for quote in quotes:
        says = frozenset(words(quote.citation.quote))
        if all(len(says & other) < NEAR_DUPLICATE * len(says | other) for other in said):
            said.append(says)
            yield quote


def _taking_turns(quotes: Iterable[SelectedQuote]) -> list[SelectedQuote]:
    """Best first, each further one from the same chunk at a discount."""
    n_before: Counter[str] = Counter()
    discounted: list[tuple[float, SelectedQuote]] = []
    for quote in quotes:
        chunk_id = quote.claim.chunk_id
        discounted.append((quote.probability * REPEAT_DISCOUNT ** n_before[chunk_id], quote))
        n_before[chunk_id] += 1
    return [quote for _, quote in sorted(discounted, key=lambda pair: -pair[0])]


def _overlap(one: Citation, other: Citation) -> bool:
    same = one.document_id == other.document_id
    return same and one.start < other.end and other.start < one.end
