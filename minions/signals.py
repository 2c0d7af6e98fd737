"""What the router is told of the local results: evidence and reading as `Signals`."""

from __future__ import annotations

from collections.abc import Sequence

from minions.evidence.model import Claim, Evidence
from minions.reading import Reading
from router import (
    CalibrationKey,
    Signals,
    agreement_of,
    is_hedged,
    margin_gap,
    question_type,
    rank_of,
    retrieval_gap,
    verified_share,
    weakest_abstention,
)
from workers import Effort, EngineInfo, JobStatus

RANKED_CHUNKS = 20
"""Chunks of the retrieval ranking that its signals look at."""


def signals_of(question: str, evidence: Evidence, reading: Reading) -> Signals:
    """The signals of the draft that `evidence` makes of what was read for `question`."""
    ranked = reading.index.rank(question, RANKED_CHUNKS)
    draft = evidence.draft
    claims = draft.claims if draft else ()
    rivals = [claim for group in evidence.groups[1:] for claim in group.claims]
    behind_rival = max((len(group.claims) for group in evidence.groups[1:]), default=0)
    return Signals(
        answered=draft is not None,
        verified=bool(draft and draft.citations),
        answer_in_quote=any(_is_supported(claim) for claim in claims),
        agreement=agreement_of(len(claims), evidence.n_answered),
        margin=max(_margins(claims), default=None),
        coverage=reading.coverage,
        n_answered=evidence.n_answered,
        n_abstained=evidence.n_abstained,
        n_failed=evidence.n_failed,
        hedged=bool(draft and is_hedged(draft.answer)),
        mean_logprob=max((c.logprob for c in claims if c.logprob is not None), default=None),
        verified_share=verified_share(evidence.n_unverified, evidence.n_answered),
        n_competing=max(len(evidence.groups) - 1, 0),
        rival_share=agreement_of(behind_rival, evidence.n_answered),
        rival_margin_gap=margin_gap(_margins(claims), _margins(rivals)),
        abstention_margin=_abstention_margin(reading),
        answer_words=len(draft.answer.split()) if draft else None,
        question_type=question_type(question),
        retrieval_rank=rank_of(claims[0].chunk_id, [r.chunk.chunk_id for r in ranked])
        if claims
        else None,
        retrieval_gap=retrieval_gap([one.score for one in ranked]),
    )


def calibration_key(worker: EngineInfo, effort: Effort = Effort.NONE) -> CalibrationKey:
    """What a calibration of this worker is kept under. Reasoning changes its answers as another
    prompt would, so it is part of the prompt's version."""
    reasoned = "" if effort is Effort.NONE else f"+{effort}"
    return CalibrationKey(
        model=worker.model,
        model_sha256=worker.model_sha256,
        quantisation=worker.quantisation,
        prompt_version=worker.prompt_version + reasoned,
    )


def _is_supported(claim: Claim) -> bool:
    """The answer stands in its quote, and the quote says more than the answer: words that were only
    copied out support nothing."""
    if claim.citation is None or not claim.answer_in_quote:
        return False
    return len(claim.citation.quote.split()) > len(claim.answer.split())


def _margins(claims: Sequence[Claim]) -> list[float]:
    return [claim.margin for claim in claims if claim.margin is not None]


def _abstention_margin(reading: Reading) -> float | None:
    abstained = (r for r in reading.results if r.status is JobStatus.ABSTAINED)
    return weakest_abstention([r.margin for r in abstained if r.margin is not None])
