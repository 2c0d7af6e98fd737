"""The strategy `ladder`: the workers read, then the cheapest rung that is good enough.

It owns the order of hops 3 to 8, and nothing else does. `local` is the ladder that never climbs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from minions.cloud.model import CloudResponse
from minions.cloud_prompt import CloudReply, SourceSpan, cloud_prompt, parse_reply
from minions.computed import computed_draft
from minions.documents.model import Document
from minions.errors import BudgetExceeded, CloudError, CloudProtocolError
from minions.events import RungChosen
from minions.evidence import find_quote, gather_evidence
from minions.evidence.contradictions import Contradiction, contradictions
from minions.evidence.model import Citation, Evidence
from minions.evidence.relevance import score_claims
from minions.evidence.verify import cite
from minions.offers import PreparedRung, evidence_spans, passage_spans, prepare
from minions.question import Reply
from minions.reading import Reading
from minions.signals import calibration_key, signals_of
from minions.strategies.session import Session, Standing
from router import (
    Chances,
    Decision,
    Rung,
    choose_by_value,
    p_answer,
)
from workers import WorkerPool

MAX_CLASHES = 3
"""Contradictions that are told; the trace has them all."""


async def answer_locally(session: Session, pool: WorkerPool) -> Reply:
    """Strategy `local`: the draft of the workers, whatever its chances."""
    reading = await session.read(pool)
    evidence = weigh(session, reading)
    chance = judge(session, evidence, reading)
    rungs = await prepare_rungs(session, reading, evidence, chance)
    computed = await computed_draft(session, pool, reading)
    return await session.reply(
        computed or local_standing(evidence, chance),
        reason="strategy `local` never asks the cloud",
        coverage=reading.coverage,
        jobs=reading.counts,
        rungs=rungs,
        document_rung=rungs[-1],
    )


async def climb(session: Session, pool: WorkerPool) -> Reply:
    """Strategy `ladder`: read, decide, buy, check, and decide again until nothing is worth it."""
    reading = await session.read(pool)
    evidence = weigh(session, reading)
    chance = judge(session, evidence, reading)
    rungs = await prepare_rungs(session, reading, evidence, chance)
    computed = await computed_draft(session, pool, reading)
    standing = computed or local_standing(evidence, chance)
    if session.question.options.rung is None:
        standing, reason = await _climb_by_value(session, rungs, standing)
    else:
        standing, reason = await _buy_wanted(session, rungs, standing)
    return await session.reply(
        standing,
        reason=reason,
        coverage=1.0 if standing.rung is Rung.DOCUMENT else reading.coverage,
        jobs=reading.counts,
        rungs=rungs,
        document_rung=rungs[-1],
    )


async def _climb_by_value(
    session: Session, rungs: tuple[PreparedRung, ...], standing: Standing
) -> tuple[Standing, str]:
    """Decide, buy, check, until nothing is worth its price. Returns the answer and the reason."""
    tried = Rung.LOCAL
    p_in_hand, target = worth_in_hand(session, standing)
    while True:
        decision = decide(session, tried, p_in_hand, rungs, target)
        if decision.rung is None:
            break
        tried = decision.rung
        try:
            bought = await ask_cloud(session, _prepared(rungs, tried))
        except (BudgetExceeded, CloudError) as error:
            session.warnings.append(f"The cloud could not help at `{tried}`: {error}")
            break
        if bought and (bought.p_correct >= p_in_hand or standing.answer is None):
            standing, p_in_hand = bought, bought.p_correct
        target = session.question.options.target
    return standing, decision.reason


async def _buy_wanted(
    session: Session, rungs: tuple[PreparedRung, ...], standing: Standing
) -> tuple[Standing, str]:
    """The one rung that the user asked to buy. Raises when a wish forbids it: before it is sent."""
    wanted = session.question.options.rung
    if wanted is None:
        raise ValueError("no rung was asked for")
    if wanted is Rung.LOCAL:
        return standing, "you asked to keep the local answer and buy nothing"
    prepared = _prepared(rungs, wanted)
    session.refuse_when_closed(prepared)
    reason = f"you asked for the rung `{wanted}`"
    session.observe(RungChosen(rung=wanted, reason=reason))
    bought = await ask_cloud(session, prepared)
    return (bought or standing), reason


def _prepared(rungs: tuple[PreparedRung, ...], rung: Rung) -> PreparedRung:
    return next(prepared for prepared in rungs if prepared.offer.rung is rung)


def worth_in_hand(session: Session, standing: Standing) -> tuple[float, float]:
    """What a local answer counts for, and the chance from which it is kept.

    Under a stated loss (`alpha`) the threshold is a promise: an answer below it counts for nothing,
    however sure it seems beside what the cloud offers."""
    threshold = session.loss_threshold()
    if threshold is None:
        return standing.p_correct, session.question.options.target
    return (standing.p_correct if standing.p_correct >= threshold else 0.0), threshold


def weigh(session: Session, reading: Reading) -> Evidence:
    """Hop 6: verify every quote, merge answers that agree."""
    with session.trace.step("evidence") as facts:
        evidence = gather_evidence(reading.results, reading.chunks, reading.documents)
        facts["groups"] = [
            {"answer": g.answer, "score": g.score, "n_claims": len(g.claims)}
            for g in evidence.groups
        ]
        facts["n_unverified"] = evidence.n_unverified
        clashes = contradictions(evidence)
        facts["contradictions"] = [[c.stronger.answer, c.weaker.answer] for c in clashes]
    session.warnings += [_clash(clash) for clash in clashes[:MAX_CLASHES]]
    n_cut = sum(result.cut for result in reading.results)
    if n_cut:
        session.warnings.append(
            f"{n_cut} of {len(reading.results)} jobs ran on and were cut at their limit."
        )
    if reading.counts.failed:
        session.warnings.append(
            f"{reading.counts.failed} of {len(reading.results)} jobs failed: "
            f"{reading.coverage:.1%} of the text was read."
        )
    return evidence


def _clash(clash: Contradiction) -> str:
    one, other = clash.stronger, clash.weaker
    return (
        f"The document gives different values: {one.answer!r} (page {one.citations[0].page}) and "
        f"{other.answer!r} (page {other.citations[0].page})."
    )


def judge(session: Session, evidence: Evidence, reading: Reading) -> Chances:
    """Hop 7, first half: signals to chances. The signals stay in the trace: a calibration is fitted
    on them."""
    with session.trace.step("signals") as facts:
        signals = signals_of(session.question.text, evidence, reading)
        chance = session.chances_of(signals, reading.worker, reading.reach)
        facts["signals"] = signals.to_json()
        effort = session.question.options.effort
        facts["worker"] = asdict(calibration_key(reading.worker, effort))
        facts["draft"] = evidence.draft.answer if evidence.draft else None
        facts["p_local"], facts["source"] = chance.p_local, chance.source
    return chance


def local_standing(evidence: Evidence, chance: Chances) -> Standing:
    """The draft as an answer, or the local abstention."""
    draft = evidence.draft
    return Standing(
        answer=draft.answer if draft else None,
        citations=draft.citations if draft else (),
        rung=Rung.LOCAL,
        p_correct=chance.p_local,
        p_source=chance.source,
    )


async def prepare_rungs(
    session: Session, reading: Reading, evidence: Evidence, chance: Chances
) -> tuple[PreparedRung, ...]:
    """The three cloud rungs, lowest first, each with its exact request and price."""
    text, documents = session.question.text, session.documents
    with session.trace.step("offers", cloud=session.terms.model) as facts:
        claims = [claim for group in evidence.groups for claim in group.claims]
        scored = await asyncio.to_thread(
            score_claims, claims, reading.chunks, text, session.relevance
        )
        facts["claims"] = [one.to_json(reading.chunks[one.claim.chunk_id]) for one in scored]
        spans = {
            Rung.EVIDENCE: await asyncio.to_thread(evidence_spans, text, reading, scored),
            Rung.PASSAGES: await asyncio.to_thread(passage_spans, text, reading, evidence),
        }
        lower = [
            prepare(
                rung, text, pieces, documents, session.terms, session.run_id, chance.cloud[rung]
            )
            for rung, pieces in spans.items()
        ]
        rungs = (*lower, session.document_rung(chance.cloud[Rung.DOCUMENT]))
        facts["prompt_tokens"] = {r.offer.rung.value: r.offer.prompt_tokens for r in rungs}
        facts["prompt_version"] = cloud_prompt().version
    return rungs


def decide(
    session: Session,
    tried: Rung,
    p_in_hand: float,
    rungs: tuple[PreparedRung, ...],
    target: float,
) -> Decision:
    """Hop 7, second half: the router's choice, told to trace and observer."""
    with session.trace.step("decide", tried=tried.value, p_in_hand=p_in_hand) as facts:
        decision = choose_by_value(
            tried,
            p_in_hand,
            [prepared.offer for prepared in rungs],
            replace(session.wishes, target=target),
            session.budget.spent_usd,
        )
        facts["rung"] = decision.rung.value if decision.rung else None
        facts["reason"] = decision.reason
    session.observe(RungChosen(rung=decision.rung, reason=decision.reason))
    return decision


async def ask_cloud(session: Session, prepared: PreparedRung) -> Standing | None:
    """Hop 8: buy the rung and check what it says.

    None when the reply can't be used (a refusal, a cut or unreadable answer): that is said in a
    warning, and is neither an answer nor an abstention."""
    rung = prepared.offer.rung
    with session.trace.step("cloud", rung=rung.value) as facts:
        response = await session.purchaser.buy(prepared)
        facts["call_key"] = response.idempotency_key
        facts["n_attempts"] = len(response.attempts)
        facts["text"] = response.text
        reply = read_reply(session, rung, response)
        if reply is None:
            return None
        citations = verify_citations(reply.citations, prepared.spans, session.documents)
        facts["n_citations"] = {"claimed": len(reply.citations), "verified": len(citations)}
    missing = reply.answer is None
    p_correct, source = p_answer(
        rung,
        session.calibration,
        session.terms.model,
        abstained=missing,
        verified=bool(citations),
    )
    return Standing(
        answer=reply.answer,
        citations=() if missing else citations,
        rung=rung,
        p_correct=p_correct,
        p_source=source,
    )


def read_reply(session: Session, rung: Rung, response: CloudResponse) -> CloudReply | None:
    """The cloud's JSON; None, and a warning, when there is none."""
    if response.finish_reason in ("content_filter", "refusal"):
        session.warnings.append(f"The cloud refused to answer at `{rung}`.")
        return None
    if response.finish_reason == "length":
        session.warnings.append(
            f"The cloud's answer at `{rung}` was cut at {session.terms.max_output_tokens} tokens: "
            "raise cloud_output_tokens for all of it."
        )
    try:
        return parse_reply(response.text)
    except CloudProtocolError as error:
        session.warnings.append(f"At `{rung}`: {error}")
        return None


def verify_citations(
    quotes: Sequence[str], spans: Sequence[SourceSpan], documents: Mapping[str, Document]
) -> tuple[Citation, ...]:
    """The quotes that stand in what was sent, at their true place. Others are dropped."""
    found: dict[tuple[str, int, int], Citation] = {}
    for quote in quotes:
        for span in spans:
            document = documents[span.document_id]
            hit = find_quote(quote, document.text[span.start : span.end])
            if hit is None:
                continue
            citation = cite(document, span.start + hit.start, span.start + hit.end)
            found.setdefault((citation.document_id, citation.start, citation.end), citation)
            break
    return tuple(found.values())
