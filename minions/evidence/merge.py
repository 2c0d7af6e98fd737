"""Job results merged into `Evidence`: claims verified, answers that agree grouped and ranked."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from minions.documents.model import Chunk, Document
from minions.evidence.answers import Wording, agree, answer_in_quote, wording_of
from minions.evidence.model import AnswerGroup, Citation, Claim, Evidence
from minions.evidence.verify import make_citation
from workers.jobs import JobResult, JobStatus

UNVERIFIED_WEIGHT = 0.1
"""So low that even thousands of unverified claims weigh less than one verified."""
VERIFIED_WEIGHT = 1.0
ANSWER_IN_QUOTE_WEIGHT = 0.5
SAMPLE_DECAY = 0.5
"""Each further sample that reads the same place counts half of the one before."""


def gather_evidence(
    results: Sequence[JobResult],
    chunks: Mapping[str, Chunk],
    documents: Mapping[str, Document],
) -> Evidence:
    """Verify, merge and rank what the workers answered. The order of `results` doesn't matter.

    `chunks` are keyed by chunk id, `documents` by document id. Raises ValueError when a result
    names an unknown chunk or document, or is answered without an answer.
    """
    statuses = Counter(result.status for result in results)
    answered = [result for result in results if result.status is JobStatus.ANSWERED]
    answered.sort(key=lambda result: result.chunk_id)  # a chunk is folded once for all its quotes
    claims = sorted((_claim(result, chunks, documents) for result in answered), key=_claim_rank)
    groups = [_answer_group(voices) for voices in _cluster(_voices(claims))]
    return Evidence(
        groups=tuple(sorted(groups, key=_group_rank)),
        n_answered=statuses[JobStatus.ANSWERED],
        n_abstained=statuses[JobStatus.ABSTAINED],
        n_failed=statuses[JobStatus.FAILED],
        n_unverified=sum(claim.citation is None for claim in claims),
    )


def claim_weight(claim: Claim) -> float:
    """What one claim counts for by itself."""
    if claim.citation is None:
        return UNVERIFIED_WEIGHT
    return VERIFIED_WEIGHT + ANSWER_IN_QUOTE_WEIGHT * claim.answer_in_quote


def support(claims: Iterable[Claim]) -> float:
    """The score of claims that agree: a heuristic with diminishing returns, no probability.

    Claims that cite the same span (or, without citation, read the same chunk) are one place; its
    claims count 1, 1/2, 1/4...; the places, best first, count 1, 1/2, 1/3... of their sums.
    """
    places: defaultdict[Hashable, list[float]] = defaultdict(list)
    for claim in claims:
        places[_place(claim)].append(claim_weight(claim))
    sums = sorted((_decayed(weights) for weights in places.values()), reverse=True)
    return math.fsum(total / rank for rank, total in enumerate(sums, start=1))


def _decayed(weights: list[float]) -> float:
    ordered = sorted(weights, reverse=True)
    return math.fsum(weight * SAMPLE_DECAY**n for n, weight in enumerate(ordered))


def _place(claim: Claim) -> Hashable:
    cited = claim.citation
    return (cited.document_id, cited.start, cited.end) if cited else claim.chunk_id


def _claim(
    result: JobResult, chunks: Mapping[str, Chunk], documents: Mapping[str, Document]
) -> Claim:
    if result.answer is None:
        raise ValueError(f"Result {result.job_id} is answered but has no answer: mend its engine.")
    citation = _verified(result, chunks, documents) if result.citation else None
    return Claim(
        job_id=result.job_id,
        chunk_id=result.chunk_id,
        answer=result.answer,
        citation=citation,
        answer_in_quote=citation is not None and answer_in_quote(result.answer, citation.quote),
        margin=result.margin,
        logprob=result.logprob,
    )


def _verified(
    result: JobResult, chunks: Mapping[str, Chunk], documents: Mapping[str, Document]
) -> Citation | None:
    chunk = chunks.get(result.chunk_id)
    document = documents.get(chunk.document_id) if chunk else None
    if chunk is None or document is None:
        raise ValueError(
            f"Result {result.job_id} read chunk {result.chunk_id}, which is not among the "
            f"{len(chunks)} chunks and {len(documents)} documents given: pass those that were read."
        )
    return make_citation(result.citation or "", chunk, document)


def _claim_rank(claim: Claim) -> tuple[float, float, float, str, str, str, tuple[int, ...]]:
    """Best first, and a total order: the rest only makes it independent of the input's order."""
    cited = claim.citation
    return (
        -claim_weight(claim),
        _descending(claim.margin),
        _descending(claim.logprob),
        claim.job_id,
        claim.chunk_id,
        claim.answer,
        (cited.start, cited.end) if cited else (),
    )


def _descending(value: float | None) -> float:
    """Sorts higher values first; unknown (and NaN, which has no order) last."""
    return math.inf if value is None or math.isnan(value) else -value


@dataclass(frozen=True, kw_only=True, slots=True)
class _Voice:
    """All claims of one wording, best first."""

    wording: Wording
    claims: tuple[Claim, ...]
    spans: tuple[tuple[str, int, int], ...]
    """Cited places (document, start, end), each once, in order."""


def _voices(claims: list[Claim]) -> list[_Voice]:
    """Claims by wording; the best supported first, so that groups form around them."""
    by_key: dict[Hashable, tuple[Wording, list[Claim]]] = {}
    for claim in claims:
        wording = wording_of(claim.answer)
        by_key.setdefault(wording.key, (wording, []))[1].append(claim)
    voices = [_voice(wording, told) for wording, told in by_key.values()]
    return sorted(voices, key=lambda voice: -support(voice.claims))


def _voice(wording: Wording, claims: list[Claim]) -> _Voice:
    cited = {(c.document_id, c.start, c.end) for claim in claims if (c := claim.citation)}
    return _Voice(wording=wording, claims=tuple(claims), spans=tuple(sorted(cited)))


def _cluster(voices: list[_Voice]) -> list[list[_Voice]]:
    """Groups of voices that all agree with each other (complete linkage, so that no chain of
    half-agreements joins two different answers). Each voice joins the first group that takes it."""
    by_kind: defaultdict[Hashable, list[_Voice]] = defaultdict(list)
    for voice in voices:
        by_kind[voice.wording.kind].append(voice)
    return [group for alike in by_kind.values() for group in _cluster_alike(alike)]


def _cluster_alike(voices: list[_Voice]) -> list[list[_Voice]]:
    """Cluster voices of one kind, looking only at groups that can take a voice: those whose first
    voice holds all its content words, or has none but these. A rare word finds either quickly."""
    counts = Counter(word for voice in voices for word in voice.wording.content)
    groups: list[list[_Voice]] = []
    by_word: defaultdict[str, list[int]] = defaultdict(list)
    by_rarest: defaultdict[str, list[int]] = defaultdict(list)
    for voice in voices:
        content = (*voice.wording.content, "")
        rarest = min(voice.wording.content, key=lambda word: (counts[word], word), default="")
        nearby = {*by_word[rarest], *(n for word in content for n in by_rarest[word])}
        taker = next((n for n in sorted(nearby) if _takes(groups[n], voice)), None)
        if taker is not None:
            groups[taker].append(voice)
            continue
        by_rarest[rarest].append(len(groups))
        for word in content:
            by_word[word].append(len(groups))
        groups.append([voice])
    return groups


def _takes(group: list[_Voice], voice: _Voice) -> bool:
    return all(_voices_agree(voice, member) for member in group)


def _voices_agree(one: _Voice, other: _Voice) -> bool:
    """Overlap of the cited places is looked at only where it can matter."""
    if agree(one.wording, other.wording, same_source=False):
        return True
    if not agree(one.wording, other.wording, same_source=True):
        return False
    return any(_overlap(ours, theirs) for ours in one.spans for theirs in other.spans)


def _overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _answer_group(voices: list[_Voice]) -> AnswerGroup:
    claims = sorted(itertools.chain.from_iterable(v.claims for v in voices), key=_claim_rank)
    by_text: defaultdict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_text[claim.answer].append(claim)
    answer = min(by_text, key=lambda text: (-support(by_text[text]), len(text), text))
    return AnswerGroup(answer=answer, claims=tuple(claims), score=support(claims))


def _group_rank(group: AnswerGroup) -> tuple[float, float, str]:
    """Best first; of equal scores the one with the widest margin, then by text."""
    margins = [claim.margin for claim in group.claims if claim.margin is not None]
    return -group.score, _descending(max(margins, default=None)), group.answer
