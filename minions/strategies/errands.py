"""Tasks of the supervisor done by the workers: jobs over chosen chunks, and what came of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from minions.documents.model import Chunk, Document
from minions.evidence import gather_evidence
from minions.evidence.model import Evidence
from minions.planning import Plan, TaskSpec
from minions.question import JobCounts
from minions.reading import Reading, chunk_limit, chunks_of, plan_jobs
from minions.retrieval import DocumentIndex
from minions.strategies.session import SAMPLING, Session, job_facts
from workers import Job, JobResult, JobStatus, Sampling, WorkerPool

MAX_JOBS = 20_000
"""Jobs of one round: a plan can't keep the machine busy for days."""
SAMPLE_TEMPERATURE = 0.7
"""Of every sample but the first, which is greedy."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What one round of tasks came to."""

    plan: Plan
    by_task: Mapping[str, Evidence]
    """By task name, in the plan's order."""
    reading: Reading


@dataclass(kw_only=True)
class Logbook:
    """All jobs of a run over its rounds, for the reply's counts and coverage."""

    documents: Mapping[str, Document]
    results: dict[str, JobResult] = field(default_factory=dict)
    """By job id: a job of two rounds is one job."""
    chunks: dict[str, Chunk] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        self.results |= {result.job_id: result for result in reading.results}
        self.chunks |= reading.chunks

    @property
    def counts(self) -> JobCounts:
        tally = Counter(result.status for result in self.results.values())
        return JobCounts(
            answered=tally[JobStatus.ANSWERED],
            abstained=tally[JobStatus.ABSTAINED],
            failed=tally[JobStatus.FAILED],
        )

    @property
    def coverage(self) -> float:
        """Share of the documents' text that a worker read at least once, in characters: rounds may
        cut the same text into other chunks, whose token counts don't add up."""
        ids = {r.chunk_id for r in self.results.values() if r.status is not JobStatus.FAILED}
        read = _union(self.chunks[chunk_id] for chunk_id in ids)
        total = sum(len(document.text) for document in self.documents.values())
        return read / total if total else 0.0


def _union(chunks: Iterable[Chunk]) -> int:
    """Characters that lie in at least one of the chunks."""
    covered = 0
    document_id, reached = "", 0
    for chunk in sorted(chunks, key=lambda c: (c.document_id, c.start)):
        if chunk.document_id != document_id:
            document_id, reached = chunk.document_id, 0
        covered += max(0, chunk.end - max(chunk.start, reached))
        reached = max(reached, chunk.end)
    return covered


async def run_plan(session: Session, pool: WorkerPool, plan: Plan) -> Findings:
    """Do every task of the plan. Law 1: one result per job; what is left unread is said."""
    session.check_effort(pool.info)
    reading = await _cut(session, pool, plan)
    jobs = _jobs_by_task(session, pool, plan, list(reading.chunks.values()))
    unique = {job.job_id: job for errand in jobs.values() for job in errand}
    with session.trace.step("read", prompt_version=pool.info.prompt_version) as facts:
        results = await session.job_run(pool).run(list(unique.values()), reading.chunks)
        facts["jobs"] = [job_facts(result) for result in results]
    reading = replace(reading, results=results)
    _warn_of_failures(session, reading)
    by_id = {result.job_id: result for result in results}
    with session.trace.step("evidence") as facts:
        by_task = {
            name: gather_evidence(
                [by_id[job.job_id] for job in errand], reading.chunks, reading.documents
            )
            for name, errand in jobs.items()
        }
        facts["answers"] = {name: [g.answer for g in e.groups[:5]] for name, e in by_task.items()}
    return Findings(plan=plan, by_task=by_task, reading=reading)


async def _cut(session: Session, pool: WorkerPool, plan: Plan) -> Reading:
    """The documents' chunks at the plan's size, or less where the worker's context is small."""
    overhead = max(pool.prompt_overhead_tokens(task.instruction) for task in plan.tasks)
    wish = plan.chunk_tokens or session.chunk_tokens
    limit = chunk_limit(pool.info, overhead, SAMPLING.max_output_tokens, wish)
    chunks: list[Chunk] = []
    with session.trace.step("plan", worker=pool.info.model, chunk_tokens=limit) as facts:
        facts["plan"] = plan.model_dump()
        for document in session.documents.values():
            chunks += await chunks_of(document, pool, limit, session.store)
        facts["n_chunks"] = len(chunks)
    return Reading(
        documents=session.documents,
        chunks={chunk.chunk_id: chunk for chunk in chunks},
        results=(),
        worker=pool.info,
        index=await asyncio.to_thread(DocumentIndex, chunks),
    )


def _jobs_by_task(
    session: Session, pool: WorkerPool, plan: Plan, chunks: Sequence[Chunk]
) -> dict[str, list[Job]]:
    chosen = {task.name: _chosen(session, task, chunks) for task in plan.tasks}
    n_single = sum(map(len, chosen.values()))
    n_wanted = sum(task.samples * len(chosen[task.name]) for task in plan.tasks)
    one_each = n_wanted > MAX_JOBS
    if one_each:
        session.warnings.append(
            f"The plan asked for {n_wanted:,} jobs in one round; the limit is {MAX_JOBS:,}, so "
            f"each chunk was read once per task ({n_single:,} jobs)."
        )
    return {
        task.name: _sampled(session, chosen[task.name], task, 1 if one_each else task.samples, pool)
        for task in plan.tasks
    }


def _chosen(session: Session, task: TaskSpec, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that a task is to read; all of its documents when no section is found."""
    ids = list(session.documents)
    wanted = {ids[number - 1] for number in task.documents} or set(ids)
    within = [chunk for chunk in chunks if chunk.document_id in wanted]
    if not task.sections:
        return within
    phrases = [_plain(section) for section in task.sections]
    named = [c for c in within if any(phrase in _plain(c.text) for phrase in phrases)]
    if not named:
        listed = ", ".join(task.sections)
        session.warnings.append(
            f"No section `{listed}` was found for task `{task.name}`: everything was read."
        )
    return named or within


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _sampled(
    session: Session, chunks: Sequence[Chunk], task: TaskSpec, n: int, pool: WorkerPool
) -> list[Job]:
    """One job per chunk and sample, with ids that are the same in every run."""
    jobs: list[Job] = []
    effort = session.question.options.effort
    for sample in range(n):
        planned = plan_jobs(chunks, task.instruction, pool.info, _sampling(sample), effort)
        jobs += [replace(job, sample=sample) for job in planned]
    return jobs


def _sampling(sample: int) -> Sampling:
    if sample == 0:
        return SAMPLING
    return replace(SAMPLING, temperature=SAMPLE_TEMPERATURE, seed=sample)


def _warn_of_failures(session: Session, reading: Reading) -> None:
    if reading.counts.failed:
        session.warnings.append(
            f"{reading.counts.failed} of {len(reading.results)} jobs failed: "
            "what they would have read may be missing."
        )
