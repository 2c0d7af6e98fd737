"""What every strategy works with, and what they share: reading, standing answers, the reply."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from minions.budget import Budget, DayBudget
from minions.cloud.model import CloudClient
from minions.documents.model import Chunk, Document
from minions.early import EarlyAnswer, why_read_everything
from minions.errors import BadRequest, BudgetExceeded, CeilingExceeded
from minions.events import Observer
from minions.evidence.model import Citation, Evidence
from minions.evidence.relevance import Profile
from minions.evidence.tables import headings_of
from minions.offers import (
    CloudTerms,
    PreparedRung,
    cloud_only_price,
    prepare,
    whole_documents,
)
from minions.purchase import Purchaser
from minions.question import JobCounts, OfferView, Question, Reply
from minions.reading import JobRun, Reading, chunk_limit, chunks_of, plan_jobs
from minions.receipt import make_receipt
from minions.redaction import Redacted, Redactor, kind_of
from minions.retrieval import DocumentIndex
from minions.signals import calibration_key, signals_of
from minions.store.model import LOCAL_OWNER, Store
from minions.trace import Trace
from router import (
    PRIOR,
    Calibration,
    Chances,
    CloudChance,
    Rung,
    Signals,
    StaleCalibration,
    Wishes,
    chances,
    closed_because,
    conformal_threshold,
)
from workers import EngineInfo, JobResult, Sampling, WorkerPool

SAMPLING = Sampling(max_output_tokens=256)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The best answer in hand, local or bought."""

    answer: str | None
    citations: tuple[Citation, ...]
    rung: Rung
    p_correct: float
    p_source: str = PRIOR
    """`calibrated` or `prior`."""


@dataclass(kw_only=True)
class Session:
    """One question on its way through the house. Everything concrete is handed in."""

    run_id: str
    question: Question
    documents: Mapping[str, Document]
    store: Store
    terms: CloudTerms
    client: CloudClient | None
    observe: Observer
    owner: str = LOCAL_OWNER
    """Whose question it is."""
    trace: Trace
    chunk_tokens: int
    relevance: Profile
    """How likely a claim comes from the right place: ranks what the rung `evidence` sends."""
    calibration: Calibration | None = None
    """Fitted chances; None for the documented prior."""
    day: DayBudget = field(default_factory=DayBudget)
    """Shared with all other questions; must be open."""
    redactor: Redactor | None = None
    """None where the user did not ask for redaction."""
    warnings: list[str] = field(default_factory=list)
    hidden: set[tuple[str, str]] = field(default_factory=set)
    """(kind, value) of everything that was redacted so far."""
    purpose: str | None = None
    """What its cloud calls are for in the ledger; None for the rung of each."""
    prepared: tuple[PreparedRung, ...] = ()
    """The rungs as they were offered with the reply."""
    side_jobs: JobCounts = field(default_factory=JobCounts)
    """Jobs beside the reading of the question itself: they are counted in the reply too."""

    def __post_init__(self) -> None:
        self.budget = Budget(cap_usd=self.question.options.max_cost_usd)
        for document in self.documents.values():
            self.warnings += document.warnings

    @property
    def wishes(self) -> Wishes:
        options = self.question.options
        left_s = None
        if options.max_latency_s is not None:
            left_s = max(0.0, options.max_latency_s - self.trace.elapsed_s)
        return Wishes(
            target=options.target,
            ceiling=options.privacy,
            max_cost_usd=self._cap_usd(),
            value_usd=options.value_usd,
            max_latency_s=left_s,
        )

    def chances_of(self, signals: Signals, worker: EngineInfo, reach: float = 1.0) -> Chances:
        """P(correct) at every rung. A stale calibration is refused: that is said, and the prior
        stands in for it from then on.

        With a `reach` below 1, reading stopped early: then the local chance is that of the same
        draft after a whole reading, times the chance that nothing better stands elsewhere."""
        if reach < 1.0:
            whole = self.chances_of(replace(signals, coverage=1.0), worker)
            return replace(whole, p_local=whole.p_local * reach)
        key = calibration_key(worker, self.question.options.effort)
        try:
            return chances(signals, self.calibration, key, self.terms.model)
        except StaleCalibration as error:
            self.warnings.append(str(error))
            self.calibration = None
            return chances(signals, None, key, self.terms.model)

    def loss_threshold(self) -> float | None:
        """With `alpha`: the chance from which a local answer may be kept, so that the expected loss
        against the cloud stays under alpha by the user's own labels. None where no loss was stated
        or none can be promised; the latter is said."""
        options = self.question.options
        if options.alpha is None:
            return None
        if self.calibration is None:
            self.warnings.append(
                f"alpha {options.alpha} can't be kept without a calibration; the target "
                f"{options.target} decides. Fit one with `minions eval calibrate`."
            )
            return None
        found = conformal_threshold(self.calibration.risk_rows, options.alpha)
        with self.trace.step("risk", alpha=options.alpha, threshold=found.value) as facts:
            facts["n_labelled_units"], facts["reason"] = found.n_units, found.reason
        if found.n_units < found.n_needed:
            self.warnings.append(f"alpha {options.alpha} can't be kept: {found.reason}")
            return None
        # "Above the value" as "from the next number on"; without a value no answer may be kept.
        return math.inf if found.value is None else math.nextafter(found.value, math.inf)

    def _cap_usd(self) -> Decimal | None:
        """The question's cap, or what the day's still allows when that is less."""
        cap, left = self.question.options.max_cost_usd, self.day.left_usd
        if left is None:
            return cap
        of_day = self.budget.spent_usd + left
        return of_day if cap is None else min(cap, of_day)

    @property
    def purchaser(self) -> Purchaser:
        """The door to the cloud. Only for sessions that have one."""
        if self.client is None:
            raise ValueError("no cloud is set up, so nothing can be bought")
        return Purchaser(
            run_id=self.run_id,
            ceiling=self.question.options.privacy,
            budget=self.budget,
            client=self.client,
            prices=self.terms.prices,
            store=self.store,
            observe=self.observe,
            day=self.day,
            redactor=self.redactor,
            on_redacted=self._note_redaction,
            purpose=self.purpose,
        )

    def _note_redaction(self, rung: Rung, redacted: Redacted) -> None:
        """Counts go into the trace and the receipt; the values stay in the document."""
        with self.trace.step("redact", rung=rung.value, hidden=redacted.counts):
            found = redacted.originals.items()
            self.hidden.update((kind_of(placeholder), value) for placeholder, value in found)

    def document_rung(self, chance: CloudChance | None = None) -> PreparedRung:
        """The rung `document`, which is also the receipt's counterfactual."""
        spans = whole_documents(list(self.documents.values()))
        return prepare(
            Rung.DOCUMENT,
            self.question.text,
            spans,
            self.documents,
            self.terms,
            self.run_id,
            chance,
        )

    def refuse_when_closed(self, prepared: PreparedRung) -> None:
        """Raise, before anything leaves, when a wish forbids what the strategy can't do without."""
        offer = prepared.offer
        why = closed_because(offer, self.wishes, self.budget.spent_usd)
        if why is None:
            return
        strategy = self.question.options.strategy
        message = f"Strategy `{strategy}` needs the rung `{offer.rung}`: {why}. Nothing was sent."
        if not self.wishes.ceiling.allows(offer.rung):
            raise CeilingExceeded(message)
        if offer.impossible is not None:
            raise BadRequest(message)
        raise BudgetExceeded(message)

    async def read(self, pool: WorkerPool) -> Reading:
        """Hops 3 to 5: every chunk of every document is read once for this question, the likeliest
        first; fewer only where the user lets reading stop early."""
        task, info, options = self.question.text, pool.info, self.question.options
        self.check_effort(info)
        unread = await self._cut(pool)
        best_first = [ranked.chunk for ranked in unread.index.rank(task)]
        jobs = plan_jobs(best_first, task, info, SAMPLING, options.effort)
        watch = EarlyAnswer(
            base=unread,
            best_first=[chunk.chunk_id for chunk in best_first],
            judge=self._p_early,
            observe=self.observe,
            enough=self._enough(),
        )
        with self.trace.step("read", prompt_version=info.prompt_version) as facts:
            results = await self.job_run(pool).run(jobs, unread.chunks, watch)
            facts["jobs"] = [job_facts(result) for result in results]
            facts["n_skipped"] = len(jobs) - len(results)
        reading = watch.reading_of(results)
        self._say_what_was_skipped(reading)
        return reading

    async def _cut(self, pool: WorkerPool) -> Reading:
        """The documents' chunks for this worker, with nothing read yet."""
        limit = chunk_limit(
            pool.info,
            pool.prompt_overhead_tokens(self.question.text),
            SAMPLING.max_output_tokens,
            self.chunk_tokens,
        )
        with self.trace.step("plan", worker=pool.info.model, chunk_tokens=limit) as facts:
            chunks: list[Chunk] = []
            for document in self.documents.values():
                chunks += await chunks_of(document, pool, limit, self.store)
            index = await asyncio.to_thread(DocumentIndex, chunks)
            facts["n_chunks"] = len(chunks)
        return Reading(
            documents=self.documents,
            chunks={chunk.chunk_id: chunk for chunk in chunks},
            results=(),
            worker=pool.info,
            index=index,
        )

    def job_run(self, pool: WorkerPool) -> JobRun:
        """Runs jobs for this question."""
        return JobRun(
            run_id=self.run_id,
            pool=pool,
            store=self.store,
            observe=self.observe,
            fresh=self.question.options.fresh,
            owner=self.owner,
        )

    def check_effort(self, info: EngineInfo) -> None:
        """Raise BadRequest where the worker can't reason as the user wishes."""
        effort = self.question.options.effort
        if effort not in info.efforts:
            raise BadRequest(
                f"{info.model} can't reason with effort `{effort}`; it knows "
                f"{', '.join(info.efforts)}. Leave effort out, or use gpt-oss."
            )

    def _p_early(self, evidence: Evidence, reading: Reading) -> float:
        signals = signals_of(self.question.text, evidence, reading)
        return self.chances_of(signals, reading.worker, reading.reach).p_local

    def _enough(self) -> float | None:
        """P(correct) from which this question's reading may stop; None to read everything."""
        options = self.question.options
        if not options.stop_early:
            return None
        why = why_read_everything(self.question.text, len(self.documents))
        if why is not None:
            self.warnings.append(f"The question was read to the end: {why}.")
            return None
        return options.target

    def _say_what_was_skipped(self, reading: Reading) -> None:
        if reading.n_skipped:
            self.warnings.append(
                f"Reading stopped early: {reading.coverage:.1%} of the text was read, the "
                f"likeliest parts first; {reading.n_skipped} of {len(reading.chunks)} chunks were "
                "not. Ask without stop_early to read all."
            )

    async def reply(
        self,
        standing: Standing,
        *,
        reason: str,
        coverage: float,
        jobs: JobCounts,
        rungs: Sequence[PreparedRung],
        document_rung: PreparedRung,
    ) -> Reply:
        """The reply with its receipt, from the ledger as it stands on disk."""
        self.prepared = tuple(rungs)
        cloud_only_usd, method = cloud_only_price(self.terms, document_rung)
        receipt = make_receipt(
            await self.store.ledger(self.run_id),
            cloud_only_usd,
            method,
            self.terms.prices.snapshot_id,
            local_s=round(self.trace.reading_s, 3),
            redacted=Counter(kind for kind, _ in sorted(self.hidden)),
        )
        if receipt.cloud_usd is None:
            self.warnings.append(
                "What the cloud was paid is not known exactly: an attempt ended without usage, or "
                f"the price of {self.terms.model} is unknown."
            )
        return Reply(
            answer=standing.answer,
            citations=tuple(map(self._with_headings, standing.citations)),
            rung=standing.rung,
            p_correct=standing.p_correct,
            p_correct_source=standing.p_source,
            coverage=coverage,
            jobs=jobs + self.side_jobs,
            receipt=receipt,
            reason=reason,
            offers=tuple(self._view(prepared) for prepared in rungs),
            warnings=tuple(self.warnings),
            trace_id=self.run_id,
        )

    def _with_headings(self, citation: Citation) -> Citation:
        """The citation with the headings of its table's row and column, where it is in one."""
        text = self.documents[citation.document_id].text
        return replace(citation, headings=headings_of(text, citation.start, citation.end))

    def _view(self, prepared: PreparedRung) -> OfferView:
        offer = prepared.offer
        return OfferView(
            rung=offer.rung,
            prompt_tokens=offer.prompt_tokens,
            expected_usd=offer.expected_usd,
            worst_usd=offer.worst_usd,
            p_correct=offer.p_correct,
            closed=closed_because(offer, self.wishes, self.budget.spent_usd),
        )


def job_facts(result: JobResult) -> dict[str, Any]:
    """A job result as the trace keeps it."""
    return {
        "job_id": result.job_id,
        "chunk_id": result.chunk_id,
        "status": result.status.value,
        "answer": result.answer,
        "citation": result.citation,
        "margin": result.margin,
        "logprob": result.logprob,
        "cut": result.cut,
        "analysis": result.analysis,
        "analysis_cut": result.analysis_cut,
        "raw_output": result.raw_output,
        "error": result.error,
        "prefilled_tokens": result.usage.prefilled_tokens,
        "output_tokens": result.usage.output_tokens,
        "elapsed_s": round(result.elapsed_s, 4),
    }
