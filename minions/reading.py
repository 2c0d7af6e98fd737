"""Hops 3 to 5: cut documents into chunks, plan jobs, let the pool run what the journal lacks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from minions.chunking import chunk_document, chunking_key
from minions.documents.model import Chunk, Document
from minions.errors import BadRequest
from minions.events import JobEnded, Observer, ReadingStarted, ignore_events
from minions.local_call import local_call
from minions.question import JobCounts
from minions.retrieval import DocumentIndex
from minions.store.model import LOCAL_OWNER, Store
from workers import Effort, EngineInfo, Job, JobResult, JobStatus, Sampling, WorkerPool

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
    """Exactly one per job that was not skipped (Law 1)."""
    worker: EngineInfo
    index: DocumentIndex
    """Ranks the chunks for a question, without any model."""
    n_skipped: int = 0
    """Jobs that were not done because reading stopped early."""
    reach: float = 1.0
    """P(the answer's place was read), 0..1; below 1 only when reading stopped early."""

    @property
    def counts(self) -> JobCounts:
        tally = dict.fromkeys(JobStatus, 0)
        for result in self.results:
            tally[result.status] += 1
        return JobCounts(
            answered=tally[JobStatus.ANSWERED],
            abstained=tally[JobStatus.ABSTAINED],
            failed=tally[JobStatus.FAILED],
            skipped=self.n_skipped,
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
    chunks: Sequence[Chunk],
    task: str,
    info: EngineInfo,
    sampling: Sampling,
    effort: Effort = Effort.NONE,
) -> list[Job]:
    """One job per chunk. The id is a hash of all that decides the result, so that the same work has
    the same id in every run."""
    jobs = []
    for chunk in chunks:
        identity = (chunk.chunk_id, task, info.model, info.model_sha256, info.prompt_version)
        digest = hashlib.sha256(repr((*identity, sampling, effort)).encode()).hexdigest()
        jobs.append(
            Job(
                job_id=f"job_{digest[:24]}",
                chunk_id=chunk.chunk_id,
                chunk_text=chunk.text,
                task=task,
                sampling=sampling,
                effort=effort,
            )
        )
    return jobs


Watch = Callable[[Sequence[JobResult]], Awaitable[bool]]
"""Told of all results so far at `is_checkpoint`; true when that is enough."""

WATCH_EVERY = 4
"""Results between two looks at the first `WATCH_CLOSELY`; later looks come four times as rarely."""
WATCH_CLOSELY = 64


def is_checkpoint(n_results: int) -> bool:
    """Whether a watch looks after so many results. By count and not by time, so that a reading
    which is repeated stops at the same place."""
    every = WATCH_EVERY if n_results <= WATCH_CLOSELY else 4 * WATCH_EVERY
    return n_results % every == 0


@dataclass(kw_only=True)
class JobRun:
    """The jobs of one reading: what is known already, what the pool does, what reaches the disk."""

    run_id: str
    pool: WorkerPool
    store: Store
    observe: Observer = ignore_events
    fresh: bool = False
    """Do not take over what an earlier run read."""
    owner: str = LOCAL_OWNER
    """Whose earlier readings may be taken over."""
    _results: dict[str, JobResult] = field(default_factory=dict, init=False)
    _waiting: list[JobResult] = field(default_factory=list, init=False)
    _written_at: float = field(default=0.0, init=False)

    async def run(
        self, jobs: Sequence[Job], chunks: Mapping[str, Chunk], watch: Watch | None = None
    ) -> tuple[JobResult, ...]:
        """One result per job, in the order of `jobs`. Where `watch` says that it is enough, the
        jobs without a result are given up, and are not among what is returned.

        Results reach journal and ledger in small batches, and whatever is finished is written also
        when this is cancelled or fails."""
        n_resumed = await self._take_over(jobs)
        order = dict.fromkeys(job.chunk_id for job in jobs)
        self.observe(
            ReadingStarted(
                n_jobs=len(jobs),
                n_resumed=n_resumed,
                n_cached=len(self._results) - n_resumed,
                chunks=tuple(chunks[chunk_id] for chunk_id in order),
            )
        )
        for known in self._results.values():
            self.observe(JobEnded(chunk_id=known.chunk_id, status=known.status, cached=True))
        if watch is None or not self._results or not await watch(tuple(self._results.values())):
            await self._work(jobs, watch)
        return tuple(self._results[job.job_id] for job in jobs if job.job_id in self._results)

    async def _take_over(self, jobs: Sequence[Job]) -> int:
        """Results of this run's journal, whose number is returned, and of earlier runs with the
        very same work.

        The latter enter this run's journal, so that a resumed run sees what this one saw."""
        wanted = [job.job_id for job in jobs]
        journal = await _journalled(self.store, self.run_id)
        self._results = {job_id: journal[job_id] for job_id in wanted if job_id in journal}
        n_resumed = len(self._results)
        missing = [job_id for job_id in wanted if job_id not in journal]
        if missing and not self.fresh:
            earlier = await self.store.known_job_results(missing, self.owner)
            await self.store.record_job_results(self.run_id, list(earlier.values()))
            self._results |= earlier
        return n_resumed

    async def _work(self, jobs: Sequence[Job], watch: Watch | None) -> None:
        self._written_at = time.monotonic()
        stream = self.pool.run([job for job in jobs if job.job_id not in self._results])
        try:
            async with contextlib.aclosing(stream) as running:
                async for result in running:
                    await self._keep(result)
                    if watch and await self._is_enough(watch):
                        return
        finally:
            await self._flush()

    async def _is_enough(self, watch: Watch) -> bool:
        return is_checkpoint(len(self._results)) and await watch(tuple(self._results.values()))

    async def _keep(self, result: JobResult) -> None:
        self._results[result.job_id] = result
        self._waiting.append(result)
        self.observe(JobEnded(chunk_id=result.chunk_id, status=result.status))
        if time.monotonic() - self._written_at > JOURNAL_EVERY_S:
            await self._flush()
            self._written_at = time.monotonic()

    async def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        await _write_down(batch, self.pool.info, self.store, self.run_id)


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
        await store.record_ledger(
            [local_call(result, info, run_id, purpose="read") for result in results]
        )
