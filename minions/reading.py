"""Hops 3 to 5: cut documents into chunks, plan jobs, let the pool run what the journal lacks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minions.chunking import chunk_document, chunking_key
from minions.documents.model import Chunk, Document
from minions.errors import BadRequest
from minions.events import JobEnded, Observer, ReadingStarted
from minions.question import JobCounts
from minions.retrieval import DocumentIndex
from minions.store.model import LedgerEntry, Store
from workers import EngineInfo, Job, JobResult, JobStatus, Sampling, WorkerPool

JOURNAL_EVERY_S = 0.5
"""Longest time that finished job results wait before they are on disk: a crash repeats at most
this much local work, which costs time but no money."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Everything that the workers made of the documents for one question."""

    documents: Mapping[str, Document]
    chunks: Mapping[str, Chunk]
    """By chunk id, in reading order."""
    results: tuple[JobResult, ...]
    """Exactly one per job (Law 1)."""
    worker: EngineInfo
    index: DocumentIndex
    """Ranks the chunks for a question, without any model."""

    @property
    def counts(self) -> JobCounts:
        tally = dict.fromkeys(JobStatus, 0)
        for result in self.results:
            tally[result.status] += 1
        return JobCounts(
            answered=tally[JobStatus.ANSWERED],
            abstained=tally[JobStatus.ABSTAINED],
            failed=tally[JobStatus.FAILED],
        )

    @property
    def coverage(self) -> float:
        """Share of the documents' tokens in chunks that at least one job really read."""
        read = {r.chunk_id for r in self.results if r.status is not JobStatus.FAILED}
        total = sum(chunk.n_tokens for chunk in self.chunks.values())
        done = sum(chunk.n_tokens for chunk_id, chunk in self.chunks.items() if chunk_id in read)
        return done / total if total else 0.0

    @property
    def local_tokens(self) -> int:
        """Tokens prefilled and generated; shared prefixes are counted once."""
        return sum(r.usage.prefilled_tokens + r.usage.output_tokens for r in self.results)


def chunk_limit(info: EngineInfo, overhead_tokens: int, output_tokens: int, wish: int) -> int:
    """Tokens per chunk: the wish, or less when prompt and answer must share a small context.

    Raises BadRequest when the context holds no chunk at all."""
    room = info.context_tokens - overhead_tokens - output_tokens
    if room < 16:
        raise BadRequest(
            f"The context of {info.model} holds {info.context_tokens} tokens; the question alone "
            f"needs {overhead_tokens} and the answer {output_tokens}. Ask a shorter question."
        )
    return min(wish, room)


async def chunks_of(
    document: Document, pool: WorkerPool, limit_tokens: int, store: Store
) -> list[Chunk]:
    """The document's chunks for this pool's tokenizer, from the store when they are there, in
    reading order."""
    info = pool.info
    key = chunking_key(f"{info.engine}:{info.model}:{info.model_sha256}", limit_tokens)
    kept = await store.get_chunks(document.document_id, key)
    if kept is None:
        # A second or two of work per megabyte: not on the event loop.
        kept = await asyncio.to_thread(chunk_document, document, pool.tokenizer, limit_tokens)
        await store.put_chunks(document.document_id, key, kept)
    return kept


def plan_jobs(
    chunks: Sequence[Chunk], task: str, info: EngineInfo, sampling: Sampling
) -> list[Job]:
    """One job per chunk. The id is a hash of all that decides the result, so that the same work has
    the same id in every run."""
    jobs = []
    for chunk in chunks:
        identity = (chunk.chunk_id, task, info.model, info.model_sha256, info.prompt_version)
        digest = hashlib.sha256(repr((*identity, sampling)).encode()).hexdigest()
        jobs.append(
            Job(
                job_id=f"job_{digest[:24]}",
                chunk_id=chunk.chunk_id,
                chunk_text=chunk.text,
                task=task,
                sampling=sampling,
            )
        )
    return jobs


async def run_jobs(
    jobs: Sequence[Job], pool: WorkerPool, store: Store, run_id: str, observe: Observer
) -> tuple[JobResult, ...]:
    """Every job's one result: journalled ones as they were, the rest from the pool.

    Results reach journal and ledger in small batches, and whatever is finished is written also
    when this is cancelled or fails."""
    known = await _journalled(store, run_id)
    results = {job.job_id: known[job.job_id] for job in jobs if job.job_id in known}
    observe(ReadingStarted(n_jobs=len(jobs), n_resumed=len(results)))
    waiting: list[JobResult] = []
    written_at = time.monotonic()
    stream = pool.run([job for job in jobs if job.job_id not in results])
    try:
        async with contextlib.aclosing(stream) as running:
            async for result in running:
                results[result.job_id] = result
                waiting.append(result)
                observe(JobEnded(chunk_id=result.chunk_id, status=result.status))
                if time.monotonic() - written_at > JOURNAL_EVERY_S:
                    batch, waiting = waiting, []
                    await _write_down(batch, pool.info, store, run_id)
                    written_at = time.monotonic()
    finally:
        await _write_down(waiting, pool.info, store, run_id)
    return tuple(results[job.job_id] for job in jobs)


async def _journalled(store: Store, run_id: str) -> dict[str, JobResult]:
    """Results of an earlier process that need not be worked out again.

    Failed jobs are tried again, unless the cloud was asked already: what it was sent was made from
    these very results, and another outcome would mean another request, paid anew."""
    journal = await store.job_results(run_id)
    if any(entry.kind == "cloud" for entry in await store.ledger(run_id)):
        return journal
    return {job_id: r for job_id, r in journal.items() if r.status is not JobStatus.FAILED}


async def _write_down(
    results: Sequence[JobResult], info: EngineInfo, store: Store, run_id: str
) -> None:
    if results:
        await store.record_job_results(run_id, results)
        await store.record_ledger([_ledger_entry(result, info, run_id) for result in results])


def _ledger_entry(result: JobResult, info: EngineInfo, run_id: str) -> LedgerEntry:
    """A local call in the ledger. Its price is unknown, not 0: electricity is not counted yet."""
    usage = result.usage
    return LedgerEntry(
        run_id=run_id,
        kind="local",
        model=info.model,
        purpose="read",
        outcome=result.status.value,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.prompt_tokens - usage.prefilled_tokens,
        completion_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_nano_usd=None,
        price_snapshot=None,
        usage_reported=True,
        call_key=result.job_id,
        attempt=1,
        created_at=time.time(),
    )
