"""What a question would cost at each rung, before anything is read by a model or sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from minions.cloud.tokens import count_tokens
from minions.documents import Document
from minions.offers import (
    EVIDENCE_TOKENS,
    EXPECTED_OUTPUT_TOKENS,
    PASSAGES_TOKENS,
    CloudTerms,
    prepare,
    whole_documents,
)
from minions.question import as_number
from router import Rung


@dataclass(frozen=True, kw_only=True, slots=True)
class RungEstimate:
    """Price of one rung: exact for `document`, at most this for the others."""

    rung: Rung
    prompt_tokens: int
    exact: bool
    """False where what is sent depends on what the workers find: then it is the rung's cap."""
    expected_usd: Decimal | None
    worst_usd: Decimal | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The quote for one question of some documents."""

    n_pages: int
    document_tokens: int
    """Counted with the cloud's tokenizer; the worker's own count is close to it."""
    n_chunks: int
    """About: chunks are cut with the worker's tokenizer when it reads."""
    rungs: tuple[RungEstimate, ...]
    cloud_model: str
    price_snapshot: str

    def to_json(self) -> dict[str, Any]:
        return {
            "n_pages": self.n_pages,
            "document_tokens": self.document_tokens,
            "n_chunks": self.n_chunks,
            "cloud_model": self.cloud_model,
            "price_snapshot": self.price_snapshot,
            "rungs": [
                {
                    "rung": rung.rung.value,
                    "prompt_tokens": rung.prompt_tokens,
                    "exact": rung.exact,
                    "expected_usd": as_number(rung.expected_usd),
                    "worst_usd": as_number(rung.worst_usd),
                }
                for rung in self.rungs
            ],
        }


def estimate(
    question: str, documents: Sequence[Document], terms: CloudTerms, chunk_tokens: int
) -> Estimate:
    """Quote every rung. No model is loaded and nothing is sent."""
    by_id = {document.document_id: document for document in documents}
    whole = prepare(
        Rung.DOCUMENT, question, whole_documents(documents), by_id, terms, "estimate", None
    )
    document_tokens = sum(count_tokens(document.text) for document in documents)
    frame_tokens = whole.offer.prompt_tokens - document_tokens
    capped = {Rung.EVIDENCE: EVIDENCE_TOKENS, Rung.PASSAGES: PASSAGES_TOKENS}
    rungs = [
        _priced(terms, rung, min(cap, document_tokens) + frame_tokens, exact=False)
        for rung, cap in capped.items()
    ]
    free = RungEstimate(
        rung=Rung.LOCAL,
        prompt_tokens=0,
        exact=True,
        expected_usd=Decimal(0),
        worst_usd=Decimal(0),
    )
    full = _priced(terms, Rung.DOCUMENT, whole.offer.prompt_tokens, exact=True)
    return Estimate(
        n_pages=sum(len(document.pages) for document in documents),
        document_tokens=document_tokens,
        n_chunks=sum(-(-count_tokens(d.text) // chunk_tokens) for d in documents),
        rungs=(free, *rungs, full),
        cloud_model=terms.model,
        price_snapshot=terms.prices.snapshot_id,
    )


def _priced(terms: CloudTerms, rung: Rung, prompt_tokens: int, *, exact: bool) -> RungEstimate:
    return RungEstimate(
        rung=rung,
        prompt_tokens=prompt_tokens,
        exact=exact,
        expected_usd=terms.price_usd(prompt_tokens, EXPECTED_OUTPUT_TOKENS),
        worst_usd=terms.price_usd(prompt_tokens, terms.max_output_tokens),
    )
