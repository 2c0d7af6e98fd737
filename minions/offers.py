"""What each cloud rung would send and cost, worked out before anything is bought."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from minions.cloud.model import CloudRequest, CloudUsage, PriceBook
from minions.cloud.tokens import count_tokens, request_tokens
from minions.cloud_prompt import SourceSpan, build_request
from minions.documents.model import Chunk, Document
from minions.evidence.anchors import Anchors
from minions.evidence.lexicon import Lexicon
from minions.evidence.model import Evidence
from minions.evidence.relevance import ScoredClaim
from minions.evidence.selection import likely, select_quotes
from minions.reading import Reading
from router import NOTHING_READ, CloudChance, Offer, Rung, p_cloud

NO_CLOUD = "no cloud is set up"
EVIDENCE_TOKENS = 2000
PASSAGES_TOKENS = 8000
CLOUD_START_S = 1.0
CLOUD_PREFILL_TOKENS_PER_S = 5000
CLOUD_DECODE_TOKENS_PER_S = 50
EXPECTED_OUTPUT_TOKENS = 150
"""A short answer with two or three quotes; the receipt's counterfactual uses it as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudTerms:
    """Which cloud is asked, and under which limits."""

    model: str
    prices: PriceBook
    max_output_tokens: int
    reachable: bool
    """False without a key or URL: rungs are then quoted, never bought."""

    def price_usd(self, prompt_tokens: int, output_tokens: int) -> Decimal | None:
        """Dollars of one call with nothing cached; None when the price is unknown (Law 3)."""
        usage = CloudUsage(prompt_tokens=prompt_tokens, completion_tokens=output_tokens)
        return self.prices.cost_usd(self.model, usage)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRung:
    """A rung ready to be bought: the exact request and its offer."""

    offer: Offer
    request: CloudRequest | None
    """None when there is nothing to send."""
    spans: tuple[SourceSpan, ...]


def whole_documents(documents: Sequence[Document]) -> tuple[SourceSpan, ...]:
    """The spans of the rung `document`."""
    return tuple(SourceSpan(document_id=d.document_id, start=0, end=len(d.text)) for d in documents)


def evidence_spans(
    question: str, reading: Reading, scored: Sequence[ScoredClaim]
) -> tuple[SourceSpan, ...]:
    """The spans of the rung `evidence`: the likeliest quotes, each in its sentence, and the places
    that answers without a found quote most likely came from. `scored`: best first."""
    if not scored:
        return ()
    texts = Lexicon({key: chunk.text for key, chunk in reading.chunks.items()})
    anchors = Anchors(question, reading.chunks, reading.documents, texts)
    ranked = likely([(one.claim, one.probability) for one in scored])
    quotes = select_quotes(ranked, reading.documents, EVIDENCE_TOKENS, count_tokens, anchors)
    places = (quote.citation for quote in quotes)
    spans = (SourceSpan(document_id=p.document_id, start=p.start, end=p.end) for p in places)
    return tuple(sorted(spans))


def passage_spans(question: str, reading: Reading, evidence: Evidence) -> tuple[SourceSpan, ...]:
    """The spans of the rung `passages`: chunks of the best evidence and the best-ranked chunks in
    turn, until the token budget is full; in reading order, neighbours joined."""
    from_search = [ranked.chunk.chunk_id for ranked in reading.index.rank(question)]
    from_evidence = [claim.chunk_id for group in evidence.groups for claim in group.claims]
    picked: dict[str, Chunk] = {}
    left = PASSAGES_TOKENS
    for chunk_id in dict.fromkeys(_interleave(from_evidence, from_search)):
        chunk = reading.chunks[chunk_id]
        n_tokens = count_tokens(chunk.text)
        if n_tokens <= left:
            picked[chunk_id] = chunk
            left -= n_tokens
    return join_neighbours(picked.values())


def join_neighbours(chunks: Iterable[Chunk]) -> tuple[SourceSpan, ...]:
    """Spans of `chunks` in reading order, those that touch made one."""
    spans: list[SourceSpan] = []
    for chunk in sorted(chunks, key=lambda c: (c.document_id, c.start)):
        last = spans[-1] if spans else None
        if last and last.document_id == chunk.document_id and last.end >= chunk.start:
            spans[-1] = SourceSpan(
                document_id=last.document_id, start=last.start, end=max(last.end, chunk.end)
            )
        else:
            spans.append(
                SourceSpan(document_id=chunk.document_id, start=chunk.start, end=chunk.end)
            )
    return tuple(spans)


def prepare(
    rung: Rung,
    question: str,
    spans: tuple[SourceSpan, ...],
    documents: Mapping[str, Document],
    terms: CloudTerms,
    run_id: str,
    chance: CloudChance | None,
) -> PreparedRung:
    """Build the request of a rung and quote it. `chance` None means: nothing was read locally."""
    if not spans:
        return PreparedRung(offer=_nothing_to_send(rung), request=None, spans=())
    request = build_request(
        question,
        spans,
        documents,
        model=terms.model,
        max_output_tokens=terms.max_output_tokens,
        run_id=run_id,
    )
    if chance is None:
        return quote(rung, request, spans, terms, p_cloud(rung, NOTHING_READ))
    prepared = quote(rung, request, spans, terms, chance.p_correct)
    offer = replace(
        prepared.offer,
        p_fixes=chance.p_fixes,
        p_keeps=chance.p_keeps,
        p_noticed=chance.p_noticed,
    )
    return replace(prepared, offer=offer)


def quote(
    rung: Rung,
    request: CloudRequest,
    spans: tuple[SourceSpan, ...],
    terms: CloudTerms,
    p_correct: float,
) -> PreparedRung:
    """A request with its price."""
    prompt_tokens = request_tokens(request)
    offer = Offer(
        rung=rung,
        p_correct=p_correct,
        prompt_tokens=prompt_tokens,
        expected_usd=terms.price_usd(prompt_tokens, EXPECTED_OUTPUT_TOKENS),
        worst_usd=terms.price_usd(prompt_tokens, terms.max_output_tokens),
        impossible=_impossible(terms, prompt_tokens),
        latency_s=expected_latency_s(prompt_tokens, EXPECTED_OUTPUT_TOKENS),
    )
    return PreparedRung(offer=offer, request=request, spans=spans)


def expected_latency_s(prompt_tokens: int, output_tokens: int) -> float:
    """Seconds until a cloud has answered: a prior from round numbers, not a measurement."""
    prefill_s = prompt_tokens / CLOUD_PREFILL_TOKENS_PER_S
    return CLOUD_START_S + prefill_s + output_tokens / CLOUD_DECODE_TOKENS_PER_S


def cloud_only_price(terms: CloudTerms, document_rung: PreparedRung) -> tuple[Decimal | None, str]:
    """The receipt's counterfactual and its method in words."""
    offer = document_rung.offer
    method = (
        f"one call to {terms.model} with the whole text: {offer.prompt_tokens} prompt tokens, "
        f"{EXPECTED_OUTPUT_TOKENS} output tokens, nothing cached, prices of "
        f"{terms.prices.snapshot_id}"
    )
    window = terms.prices.context_tokens(terms.model)
    if window is not None and offer.prompt_tokens > window:
        method += f" (more than the model's {window} tokens of context: it would not fit one call)"
    return offer.expected_usd, method


def _impossible(terms: CloudTerms, prompt_tokens: int) -> str | None:
    if not terms.reachable:
        return NO_CLOUD
    window = terms.prices.context_tokens(terms.model)
    if window is not None and prompt_tokens + terms.max_output_tokens > window:
        return (
            f"{prompt_tokens} prompt tokens do not fit the {window} tokens of {terms.model}'s "
            "context"
        )
    return None


def _nothing_to_send(rung: Rung) -> Offer:
    why = {
        Rung.EVIDENCE: "the workers found nothing to quote",
        Rung.PASSAGES: "no passage matches the question",
        Rung.DOCUMENT: "the document has no text",
    }
    return Offer(
        rung=rung,
        p_correct=0.0,
        prompt_tokens=0,
        expected_usd=None,
        worst_usd=None,
        impossible=why[rung],
    )


def _interleave(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """first[0], second[0], first[1], ... so that neither source crowds out the other."""
    pairs = itertools.zip_longest(first, second)
    return [item for pair in pairs for item in pair if item is not None]
